"""A data set on a device, and the minibatches that each run of a stack reads from it."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import numpy as np
import torch

from trainer.augment import augment
from trainer.streams import stream

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trainer.datasets import Arrays, Split
    from trainer.spec import RunSpec

BLOCK = 64
"""Steps whose row numbers go to the device at once."""


class Resident:
    """The whole data set on one device: uint8 or fp32 as it came, normalised as it is read."""

    def __init__(self, arrays: Arrays, device: torch.device) -> None:
        self.info, self.device = arrays.info, device
        self._inputs = torch.from_numpy(arrays.inputs).to(device)
        self.labels = torch.from_numpy(arrays.labels).to(device)
        self.real = None if arrays.real is None else torch.from_numpy(arrays.real).to(device)
        repeats = arrays.info.inputs // len(arrays.mean)
        self._mean = torch.from_numpy(np.tile(arrays.mean, repeats)).to(device)
        self._scale = torch.from_numpy(np.tile(1 / arrays.std, repeats)).to(device)

    def read(
        self, rows_KB: torch.Tensor, augmented: Sequence[RunSpec] = (), step: int | str = 0
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Inputs [K, B, inputs] fp32, normalised, and labels [K, B] of given rows.

        `augmented` names the run of each K where its images are to be augmented as at `step`.
        """
        raw = self._inputs.index_select(0, rows_KB.flatten())
        if augmented:
            assert self.info.image is not None, "resolve() lets only images be augmented"
            images = raw.view(*rows_KB.shape, *self.info.image)
            raw = torch.stack([augment(images[k], spec, step) for k, spec in enumerate(augmented)])
        x = raw.reshape(*rows_KB.shape, -1).float().sub_(self._mean).mul_(self._scale)
        return x, self.labels[rows_KB]


@functools.lru_cache(maxsize=2)
def resident(arrays: Arrays, device: torch.device) -> Resident:
    """The data set on the device; kept from run to run, so that a worker loads it once."""
    return Resident(arrays, device)


class Order:
    """Which rows a run trains on at each step: an endless sequence of epochs, each a seeded permutation.

    A batch may span two epochs, so every batch is full and no example is dropped. The rows of a step are a
    function of (seed, step) alone.
    """

    def __init__(self, spec: RunSpec, rows: np.ndarray) -> None:
        self._seed, self._batch, self._rows = spec.seed, spec.batch_size, rows
        self._epoch = functools.lru_cache(maxsize=2)(self._permutation)

    def _permutation(self, epoch: int) -> np.ndarray:
        return np.random.default_rng(stream(self._seed, "order", epoch)).permutation(self._rows)

    def block(self, step: int, steps: int) -> np.ndarray:
        """Rows [steps, batch_size] of consecutive steps."""
        size = len(self._rows)
        at, end = step * self._batch, (step + steps) * self._batch
        parts = []
        while at < end:
            epoch, offset = divmod(at, size)
            parts.append(self._epoch(epoch)[offset : offset + end - at])
            at += len(parts[-1])
        return np.concatenate(parts).reshape(steps, self._batch)


class Batches:
    """The minibatches of a stack, step by step."""

    def __init__(self, data: Resident, specs: Sequence[RunSpec], splits: Sequence[Split]) -> None:
        self._data = data
        self._orders = [Order(spec, s.train) for spec, s in zip(specs, splits, strict=True)]
        self._augmented = specs if specs[0].augment != "none" else ()
        self._block = torch.empty(0)
        self._first = -BLOCK

    def at(self, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Inputs [K, B, inputs] and labels [K, B] of a step."""
        if not self._first <= step < self._first + BLOCK:
            rows = np.stack([order.block(step, BLOCK) for order in self._orders], axis=1)
            self._block, self._first = torch.from_numpy(rows).to(self._data.device), step
        return self._data.read(self._block[step - self._first], self._augmented, step)
