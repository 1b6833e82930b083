"""A data set on a device, and the minibatches that each run of a stack reads from it."""

from __future__ import annotations

import functools
import os
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import torch

from trainer.data.augment import augment
from trainer.data.datasets import normalised_width
from trainer.host.limits import memory
from trainer.rng import stream

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trainer.data.arrays import Arrays, Split
    from trainer.data.formats.ffcv import Betons
    from trainer.spec import RunSpec

BLOCK = 64
"""Steps whose row numbers go to the device at once."""
SHARE = 0.5
"""Largest share of a GPU's free memory, or of the memory of this machine or container, for a resident data set."""
PAGE, WINDOW = 64, 256
"""Quasi-random order: examples that are read together, and pages that are shuffled together."""


class Resident:
    """The whole data set on one device, uint8 or fp32 as loaded, normalised when it is read."""

    def __init__(self, arrays: Arrays, device: torch.device) -> None:
        self.info, self.device = arrays.info, device
        self.rows_on = device
        self._keep(arrays.inputs)
        self.labels = torch.from_numpy(arrays.labels).to(device)
        self.real = None if arrays.real is None else torch.from_numpy(arrays.real).to(device)
        repeats = arrays.info.inputs // len(arrays.mean)
        self._mean = torch.from_numpy(np.tile(arrays.mean, repeats)).to(device)
        self._scale = torch.from_numpy(np.tile(1 / arrays.std, repeats)).to(device)
        self._whole: dict[torch.dtype, torch.Tensor] = {}

    def _keep(self, inputs: np.ndarray | Betons) -> None:
        self._inputs = torch.from_numpy(inputs[:]).to(self.device)

    def expect(self, rows_KB: torch.Tensor) -> None:
        """Announce the rows that will be read next."""

    def read(
        self, rows_KB: torch.Tensor, augmented: Sequence[RunSpec] = (), steps: Sequence[int | str] = ()
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Inputs [K, B, inputs] fp32, normalised, and labels [K, B] of rows [K, B].

        `augmented`, if given, is the run of each K, with whose settings its images are augmented for its step.
        """
        raw = self._raw(rows_KB)
        if augmented:
            assert self.info.image is not None, "resolve() lets only images be augmented"
            images = raw.view(*rows_KB.shape, *self.info.image)
            each = zip(images, augmented, steps, strict=True)
            raw = torch.stack([augment(*own) for own in each])
        x = raw.reshape(*rows_KB.shape, -1).float().sub_(self._mean).mul_(self._scale)
        return x, self.labels[rows_KB.to(self.device)]

    def _raw(self, rows_KB: torch.Tensor) -> torch.Tensor:
        return self._inputs.index_select(0, rows_KB.flatten())

    def whole(self, kind: torch.dtype) -> torch.Tensor:
        """All examples [n, inputs] as `read` returns them, in this precision; kept for later calls."""
        if kind not in self._whole:
            rows = torch.arange(len(self.labels), device=self.device)
            parts = [self.read(rows[i : i + 4096])[0].to(kind) for i in range(0, len(rows), 4096)]
            self._whole[kind] = torch.cat(parts)
        return self._whole[kind]


class Mapped(Resident):
    """The data set in its file, memory-mapped or in .beton files; a thread reads the rows that are expected next.

    They are copied to a CUDA device through pinned memory while it computes.
    """

    def __init__(self, arrays: Arrays, device: torch.device) -> None:
        super().__init__(arrays, device)
        self.rows_on = torch.device("cpu")
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="isoflop-data")
        self._expected: tuple[torch.Tensor, Future[torch.Tensor]] | None = None

    def _keep(self, inputs: np.ndarray | Betons) -> None:
        self._source = np.asarray(inputs) if isinstance(inputs, np.ndarray) else inputs

    def expect(self, rows_KB: torch.Tensor) -> None:
        """Start to read these rows."""
        self._expected = rows_KB, self._reader.submit(self._gather, rows_KB)

    def _gather(self, rows_KB: torch.Tensor) -> torch.Tensor:
        examples = torch.from_numpy(self._source[rows_KB.flatten().cpu().numpy()])
        return examples.pin_memory() if self.device.type == "cuda" else examples

    def _raw(self, rows_KB: torch.Tensor) -> torch.Tensor:
        expected, self._expected = self._expected, None
        if expected is not None and expected[0] is rows_KB:
            examples = expected[1].result()
        else:
            examples = self._gather(rows_KB)
            self._expected = expected
        return examples.to(self.device, non_blocking=True)


def loader_of(spec: RunSpec, arrays: Arrays, device: torch.device) -> str:
    """The loader of a run: the one it names; or "resident" if the set fits in SHARE of the memory, or "mmap"."""
    if spec.loader != "auto":
        return spec.loader
    if device.type == "cuda":
        free = torch.cuda.mem_get_info(device)[0]
    else:
        machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        free = min((level.total for level in memory()), default=machine)
    return "resident" if arrays.inputs.nbytes <= SHARE * free else "mmap"


@functools.lru_cache(maxsize=2)
def on_device(arrays: Arrays, device: torch.device, loader: str) -> Resident:
    """The data set as this loader reads it; kept, so that a worker loads it once."""
    return Resident(arrays, device) if loader == "resident" else Mapped(arrays, device)


class Order:
    """The rows that a run trains on at each step: an endless sequence of epochs, each a seeded permutation.

    A batch may span two epochs, so every batch is full and no example is dropped. The rows of a step are a
    function of (seed, step) alone.
    """

    def __init__(self, spec: RunSpec, rows: np.ndarray) -> None:
        self._seed, self._batch, self._rows = spec.seed, spec.batch_size, rows
        if spec.order == "quasi-random":
            self._rows = np.sort(rows)
            self._permutation = self._quasi_random  # type: ignore[method-assign]
        self._epoch = functools.lru_cache(maxsize=2)(self._permutation)

    def _permutation(self, epoch: int) -> np.ndarray:
        return np.random.default_rng(stream(self._seed, "order", epoch)).permutation(self._rows)

    def _quasi_random(self, epoch: int) -> np.ndarray:
        """Rows of an epoch in pages of neighbours, WINDOW pages shuffled together, so that reads stay local."""
        draw = np.random.default_rng(stream(self._seed, "order", epoch))
        pages = np.array_split(self._rows, -(-len(self._rows) // PAGE))
        order = draw.permutation(len(pages))
        windows = [order[i : i + WINDOW] for i in range(0, len(order), WINDOW)]
        return np.concatenate([draw.permutation(np.concatenate([pages[p] for p in w])) for w in windows])

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
    """The minibatches of a stack, step by step. Its runs may be at different steps, and make one step at a time."""

    def __init__(self, data: Resident, specs: Sequence[RunSpec], splits: Sequence[Split]) -> None:
        self._data = data
        self._orders = [Order(spec, s.train) for spec, s in zip(specs, splits, strict=True)]
        self._augmented = specs if specs[0].augment != "none" else ()
        self._block: Sequence[torch.Tensor] = ()
        self._first = 0
        self.plain = type(data) is Resident and not self._augmented
        """Whether a batch depends only on its rows, and is read on the device."""
        width = normalised_width(specs[0], len(data.labels) * data.info.inputs)
        whole = self.plain and width and data.device.type == "cuda"
        self._whole = data.whole(torch.bfloat16 if width == 2 else torch.float32) if whole else None

    def rows(self, steps: Sequence[int]) -> torch.Tensor:
        """Row numbers [K, B] of the step of each run."""
        if not 0 <= steps[0] - self._first < len(self._block):
            blocks = [order.block(step, BLOCK) for order, step in zip(self._orders, steps, strict=True)]
            rows = torch.from_numpy(np.stack(blocks, axis=1))
            self._block, self._first = rows.to(self._data.rows_on).unbind(), steps[0]
        return self._block[steps[0] - self._first]

    def read(self, rows_KB: torch.Tensor, steps: Sequence[int] = ()) -> tuple[torch.Tensor, torch.Tensor]:
        """Inputs [K, B, inputs] and labels [K, B] of rows, augmented for the step of each run."""
        if self._whole is None:
            return self._data.read(rows_KB, self._augmented, steps)
        x = self._whole.index_select(0, rows_KB.flatten())
        return x.view(*rows_KB.shape, -1), self._data.labels[rows_KB]

    def at(self, steps: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
        """Inputs [K, B, inputs] and labels [K, B] of the step of each run."""
        batch = self.read(self.rows(steps), steps)
        if (after := steps[0] + 1 - self._first) < BLOCK:
            self._data.expect(self._block[after])
        return batch
