"""What is random in the batches of a run: flips, crops, boxes, and MixUp, drawn for a block of steps at once.

All draws are functions of the run's seed and the step. They are planes of int32 numbers, one an example, so that
those of many steps and runs go to a device in one copy; planes of REAL are float32 numbers by their bits.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import numpy as np

from trainer.rng import stream

if TYPE_CHECKING:
    from trainer.spec import RunSpec

BLOCK = 64
"""Steps that are drawn at once."""
PAD = 4
"""Pixels of black padding on each side for a random crop, as is usual for 32 x 32 images."""
RATIO = (3 / 4, 4 / 3)
"""Range of width / height of a resized crop, before it is scaled to the size of the image."""
REAL = frozenset({"y", "tall", "x", "wide", "share"})


def placement_planes(spec: RunSpec) -> tuple[str, ...]:
    """Names of the planes that say where an image is cut.

    `flip` is 0 or 1. `top` and `left`, from 0 to 2 PAD, are the corner of a crop in the padded image. `y`, `tall`,
    `x` and `wide` are the edges and sizes of a resized crop in units of the image; a mirrored one has its right
    edge as `x` and a negative `wide`.
    """
    if "resized" in spec.augment:
        return ("y", "tall", "x", "wide")
    return (*(("top", "left") if "crop" in spec.augment else ()), *(("flip",) if "flip" in spec.augment else ()))


def mixing_planes(spec: RunSpec) -> tuple[str, ...]:
    """Names of the planes of MixUp: each example's `partner` in the batch, and its own `share` of the mixture."""
    return ("partner", "share") if spec.mixup else ()


class Draws:
    """The draws of a run for any steps."""

    def __init__(self, spec: RunSpec) -> None:
        self._spec = spec
        self._planes = len(placement_planes(spec)) + len(mixing_planes(spec))
        self._aligned = functools.lru_cache(maxsize=2)(self._draw)

    def block(self, step: int, steps: int) -> np.ndarray:
        """Draws [steps, planes, batch_size] of consecutive steps: placement planes, then mixing planes."""
        first, last = step // BLOCK, (step + steps - 1) // BLOCK
        drawn = [self._aligned(number) for number in range(first, last + 1)] if self._planes else []
        if not drawn:
            return np.empty((steps, 0, self._spec.batch_size), np.int32)
        start = step - first * BLOCK
        return np.concatenate(drawn)[start : start + steps]

    def _draw(self, number: int) -> np.ndarray:
        """Draws of the steps from number * BLOCK on."""
        spec, shape = self._spec, (BLOCK, self._spec.batch_size)
        return _stacked({**placements(spec, number, shape), **_mixtures(spec, number, shape)}, shape)


def placement_block(spec: RunSpec, name: int | str, shape: tuple[int, int]) -> np.ndarray:
    """The placement planes [shape[0], planes, shape[1]] of a name, as test-time augmentation needs them."""
    return _stacked(placements(spec, name, shape), shape)


def placements(spec: RunSpec, name: int | str, shape: tuple[int, int]) -> dict[str, np.ndarray]:
    """The placement planes by name, each of this shape; streams of different names are independent.

    A flip has probability 1/2. A resized crop has `crop_scale` to 1 of the area, an aspect ratio drawn
    log-uniformly from RATIO, and a place drawn uniformly; wider or higher than the image, it is cut to it.
    """
    planes: dict[str, np.ndarray] = {}
    if spec.augment == "none":
        return planes
    draw = np.random.default_rng(stream(spec.seed, "augment", name))
    flip = draw.integers(0, 2, shape, np.uint8) if "flip" in spec.augment else None
    if "resized" in spec.augment:
        area, ratio, x, y = draw.random((4, *shape), np.float32)
        area = spec.crop_scale + (1 - spec.crop_scale) * area
        low, high = np.log(RATIO, dtype=np.float32)
        ratio = np.exp(low + (high - low) * ratio)
        wide, tall = np.minimum(np.sqrt(area * ratio), 1), np.minimum(np.sqrt(area / ratio), 1)
        x, y = x * (1 - wide), y * (1 - tall)
        if flip is not None:
            x, wide = x + flip * wide, np.where(flip, -wide, wide)
        return {"y": y, "tall": tall, "x": x, "wide": wide}
    if "crop" in spec.augment:
        planes["top"], planes["left"] = draw.integers(0, 2 * PAD + 1, (2, *shape), np.uint8)
    return planes if flip is None else {**planes, "flip": flip}


def _mixtures(spec: RunSpec, number: int, shape: tuple[int, int]) -> dict[str, np.ndarray]:
    """The mixing planes by name: partners are a permutation of the batch, shares of Beta(mixup, mixup)."""
    if not spec.mixup:
        return {}
    draw = np.random.default_rng(stream(spec.seed, "mixup", number))
    steps, size = shape
    share = draw.beta(spec.mixup, spec.mixup, shape if spec.mixup_per == "example" else (steps, 1))
    partner = draw.permuted(np.broadcast_to(np.arange(size, dtype=np.int32), shape), axis=1)
    return {"partner": partner, "share": np.broadcast_to(share, shape)}


def _stacked(planes: dict[str, np.ndarray], shape: tuple[int, int]) -> np.ndarray:
    """Planes by name as [steps, planes, size] int32."""
    block = np.empty((shape[0], len(planes), shape[1]), np.int32)
    for position, (name, plane) in enumerate(planes.items()):
        block[:, position] = plane.astype(np.float32).view(np.int32) if name in REAL else plane
    return block
