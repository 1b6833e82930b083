"""Flips and crops on a CPU, where moving whole rows of pixels is fast and moving single pixels is slow.

They give what those of `transforms.py` give: flips and crops exactly, resized crops up to rounding.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812

from trainer.data.augment.draws import PAD

if TYPE_CHECKING:
    from trainer.data.augment.transforms import Image, Planes

CHUNK = 256
"""Images that are resized at once, which bounds the memory that this takes."""


def placed(source_RI: torch.Tensor, rows_N: torch.Tensor, draws: Planes, image: Image) -> torch.Tensor:
    """Rows [N, inputs] of a source of images of any type, shifted with black at the edges and mirrored.

    Mirrored images are added behind the others.
    """
    count, size = len(rows_N), source_RI.shape[1]
    places, chosen = torch.arange(count), torch.empty(0, dtype=torch.int64)
    if "flip" in draws:
        chosen = draws["flip"].flatten().nonzero().flatten()
        places[chosen] = torch.arange(count, count + len(chosen))
    flat, images = _between_margins(count + len(chosen), size, image, source_RI.dtype)
    torch.index_select(source_RI, 0, rows_N, out=images[:count])
    images[count:] = _mirrored(images.index_select(0, chosen), image)
    return _cut(flat, places, draws, image)


class Doubled:
    """A source of images [n, inputs] and their mirror images in one memory, so that placing one is one copy."""

    def __init__(self, source_RI: torch.Tensor, image: Image) -> None:
        self._image, self._count = image, len(source_RI)
        self._flat, images = _between_margins(2 * len(source_RI), source_RI.shape[1], image, source_RI.dtype)
        images[: self._count] = source_RI
        for some, into in zip(*(torch.split(half, 4096) for half in images.tensor_split(2)), strict=True):
            into[:] = _mirrored(some, image)

    def placed(self, rows_N: torch.Tensor, draws: Planes) -> torch.Tensor:
        """What `placed` returns."""
        places = rows_N + self._count * draws["flip"].flatten() if "flip" in draws else rows_N
        return _cut(self._flat, places, draws, self._image)


def _between_margins(count: int, size: int, image: Image, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """Memory for images between margins of zeros, in which a shifted image lies; and the images [count, size]."""
    reach = PAD * (image[1] + 1) * image[2]
    flat = torch.empty(reach + count * size + reach, dtype=dtype)
    flat[:reach], flat[-reach:] = 0, 0
    return flat, flat[reach:-reach].view(-1, size)


def _mirrored(images: torch.Tensor, image: Image) -> torch.Tensor:
    channels_last = images.view(-1, *image).permute(0, 3, 1, 2).flip(3)  # fast in this order
    return channels_last.permute(0, 2, 3, 1).flatten(1)


def _cut(flat: torch.Tensor, places_N: torch.Tensor, draws: Planes, image: Image) -> torch.Tensor:
    """Images at these places between margins, shifted: each is moved as a whole, by an offset in its flat form.

    Pixels that come from elsewhere are then set to 0.
    """
    height, width, channels = image
    size, reach = height * width * channels, PAD * (width + 1) * channels
    if "top" not in draws:
        return flat[reach:-reach].view(-1, size).index_select(0, places_N)
    top, left = draws["top"].flatten(), draws["left"].flatten()
    starts = places_N * size + (top * width + left) * channels
    inside = _inside(image, flat.dtype).index_select(0, top * (2 * PAD + 1) + left)
    return flat.unfold(0, size, 1).index_select(0, starts).mul_(inside)


@functools.lru_cache(maxsize=4)
def _inside(image: Image, dtype: torch.dtype) -> torch.Tensor:
    """Whether a value of a crop lies in the image, 0 or 1, for every (top, left) [(2 PAD + 1)^2, inputs]."""
    height, width, channels = image
    shifts = torch.arange(2 * PAD + 1)[:, None] - PAD
    rows, columns = (
        (place >= 0) & (place < side)
        for place, side in ((shifts + torch.arange(height), height), (shifts + torch.arange(width), width))
    )
    pixels = rows[:, None, :, None] & columns[None, :, None, :]
    return pixels[..., None].expand(*pixels.shape, channels).reshape(len(shifts) ** 2, -1).to(dtype)


def resized(images_NI: torch.Tensor, draws: Planes, image: Image) -> torch.Tensor:
    """Boxes of images [N, inputs] of any type, scaled to the size of the image, bilinearly, as fp32.

    A line of a result is the weighted sum of two lines of the image: first for columns, then for rows.
    """
    height, width, channels = image
    made = []
    planes = (images_NI, *(draws[name].flatten() for name in ("y", "tall", "x", "wide")))
    for images, y, tall, x, wide in zip(*(torch.split(plane, CHUNK) for plane in planes), strict=True):
        columns = _transposed(images.view(-1, height, width * channels)).float().view(-1, channels * height)
        columns = _weighted(columns, *_neighbours(x, wide, width))
        rows = _transposed(columns.view(-1, width * channels, height)).view(-1, width * channels)
        made.append(_weighted(rows, *_neighbours(y, tall, height)).view(images.shape))
    return made[0] if len(made) == 1 else torch.cat(made)


def _transposed(matrices: torch.Tensor) -> torch.Tensor:
    """Matrices with their last two axes exchanged, in memory too; numpy does this faster than torch."""
    return torch.from_numpy(np.ascontiguousarray(matrices.numpy().transpose(0, 2, 1)))


def _neighbours(start_N: torch.Tensor, length_N: torch.Tensor, side: int) -> tuple[torch.Tensor, torch.Tensor]:
    """For every line of a result, the two lines that it lies between, and their weights [N side, 2]."""
    middles = torch.arange(0.5, side)
    places = torch.addcmul((side * start_N - 0.5)[:, None], middles, length_N[:, None]).clamp_(0, side - 1)
    numbers, weights = torch.empty(*places.shape, 2, dtype=torch.int32), torch.empty(*places.shape, 2)
    first, second = numbers.unbind(2)
    first.copy_(places)
    torch.sub(places, first, out=weights[..., 1])
    torch.sub(1, weights[..., 1], out=weights[..., 0])
    first += torch.arange(0, side * len(start_N), side, dtype=torch.int32)[:, None]
    torch.add(first, weights[..., 1] > 0, out=second)  # nothing lies after the last line
    return numbers.view(-1, 2), weights.view(-1, 2)


def _weighted(lines: torch.Tensor, numbers: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Weighted sums of lines [., values], in one pass."""
    return F.embedding_bag(numbers, lines, per_sample_weights=weights, mode="sum")
