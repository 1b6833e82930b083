"""A data set on a device, and the minibatches that each run of a stack reads from it."""

from __future__ import annotations

import functools
import os
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import torch

from trainer.data.augment.draws import BLOCK, Draws, mixing_planes, placement_planes
from trainer.data.augment.on_cpu import Doubled
from trainer.data.augment.transforms import augmented, mix, placed, planes
from trainer.data.datasets import DOUBLED, normalised_width
from trainer.host.limits import memory
from trainer.rng import stream

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trainer.data.arrays import Arrays, Split
    from trainer.data.augment.transforms import Planes
    from trainer.data.formats.ffcv import Betons
    from trainer.spec import RunSpec

SHARE = 0.5
"""Largest share of a GPU's free memory, or of the memory of this machine or container, for a resident data set."""
PAGE, WINDOW = 64, 256
"""Quasi-random order: examples that are read together, and pages that are shuffled together."""


class Resident:
    """The whole data set on one device, uint8 or fp32 as loaded, normalised when it is read."""

    def __init__(self, arrays: Arrays, device: torch.device) -> None:
        self.info, self.device = arrays.info, device
        self._keep(arrays.inputs)
        self.labels = torch.from_numpy(arrays.labels).to(device)
        self.real = None if arrays.real is None else torch.from_numpy(arrays.real).to(device)
        repeats = arrays.info.inputs // len(arrays.mean)
        self._mean = torch.from_numpy(np.tile(arrays.mean, repeats)).to(device)
        self._scale = torch.from_numpy(np.tile(1 / arrays.std, repeats)).to(device)
        self._whole: dict[torch.dtype, torch.Tensor] = {}

    def _keep(self, inputs: np.ndarray | Betons) -> None:
        self._inputs = torch.from_numpy(inputs[:]).to(self.device)

    def gather(self, rows_KB: np.ndarray, following: np.ndarray | None = None) -> Sequence[torch.Tensor]:  # noqa: ARG002
        """Return what `read` needs of these rows on the device: here nothing, all is there."""
        return ()

    def read(
        self,
        rows_KB: torch.Tensor,
        draws: Planes | None = None,
        dtype: torch.dtype = torch.float32,
        gathered: Sequence[torch.Tensor] = (),
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Inputs [K, B, inputs], normalised, and labels [K, B] of rows [K, B] on the device.

        Images are augmented by the placement planes `draws`, if given. `gathered` is what `gather` returned.
        """
        rows = rows_KB.flatten()
        labels = self.labels.index_select(0, rows).view_as(rows_KB)
        raw = self._raw(rows, draws or {}, dtype, gathered)
        return self._normalised(raw, dtype).view(*rows_KB.shape, -1), labels

    def _raw(
        self, rows: torch.Tensor, draws: Planes, dtype: torch.dtype, gathered: Sequence[torch.Tensor]
    ) -> torch.Tensor:
        """A copy of examples as they are stored, augmented, not yet normalised."""
        source, places = self._source(rows, gathered)
        if not draws:
            return source.clone() if places is None else source.index_select(0, places)
        assert self.info.image is not None, "resolve() lets only images be augmented"
        if places is not None and self._doubles and "wide" not in draws:
            return self._doubled.placed(places, draws)
        places = torch.arange(len(source), device=self.device) if places is None else places
        between = torch.float32 if dtype == torch.float32 else torch.float16  # exact from 0 to 255
        return augmented(source, places, draws, self.info.image, between)

    @property
    def _doubles(self) -> bool:
        """Whether mirror images are kept."""
        return self.device.type == "cpu" and self._inputs.nbytes <= DOUBLED

    @functools.cached_property
    def _doubled(self) -> Doubled:
        assert self.info.image is not None, "only images are mirrored"
        return Doubled(self._inputs, self.info.image)

    def _source(
        self,
        rows: torch.Tensor,
        gathered: Sequence[torch.Tensor],  # noqa: ARG002 - of other loaders
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Stored examples, and which of them the rows are; None if they are all, in this order."""
        return self._inputs, rows

    def _normalised(self, raw: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """Stored examples in units of their standard deviation, in place of fp32; on CUDA in one pass."""
        mean, scale = self._mean.view(raw.shape[1:]), self._scale.view(raw.shape[1:])
        if raw.is_contiguous() and (raw.dtype == torch.float32 or raw.device.type in ("cpu", "mps")):
            return raw.float().sub_(mean).mul_(scale).to(dtype)
        out = torch.empty(raw.shape, dtype=dtype, device=raw.device)
        return torch.addcmul(-mean * scale, raw, scale, out=out)

    def whole(self, dtype: torch.dtype) -> torch.Tensor:
        """All examples [n, inputs] as `read` returns them, in this precision; kept for later calls."""
        if dtype not in self._whole:
            rows = torch.arange(len(self.labels), device=self.device).unsqueeze(0)
            parts = [self.read(some, dtype=dtype)[0][0] for some in torch.split(rows, 4096, 1)]
            self._whole[dtype] = torch.cat(parts)
        return self._whole[dtype]

    def black(self, dtype: torch.dtype) -> torch.Tensor:
        """A pixel of zeros [channels] as it lies in `whole`."""
        assert self.info.image is not None, "only images have pixels"
        zeros = torch.zeros(1, self.info.inputs, dtype=self._inputs.dtype, device=self.device)
        return self._normalised(zeros, dtype)[0, : self.info.image[2]]


class Mapped(Resident):
    """The data set in its file, memory-mapped or in .beton files; a thread reads the rows that come next.

    They are copied to a CUDA device through pinned memory while it computes.
    """

    def __init__(self, arrays: Arrays, device: torch.device) -> None:
        super().__init__(arrays, device)
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="isoflop-data")
        self._expected: tuple[np.ndarray, Future[torch.Tensor]] | None = None

    def _keep(self, inputs: np.ndarray | Betons) -> None:
        self._stored = np.asarray(inputs) if isinstance(inputs, np.ndarray) else inputs

    def gather(self, rows_KB: np.ndarray, following: np.ndarray | None = None) -> Sequence[torch.Tensor]:
        """Return the examples of these rows on the device, and begin to read the following ones."""
        expected, self._expected = self._expected, None
        known = expected is not None and expected[0] is rows_KB
        examples = expected[1].result() if expected is not None and known else self._read_file(rows_KB)
        if following is not None:
            self._expected = following, self._reader.submit(self._read_file, following)
        return (examples.to(self.device, non_blocking=True),)

    def _read_file(self, rows_KB: np.ndarray) -> torch.Tensor:
        rows = rows_KB.flatten()
        examples = torch.from_numpy(self._stored[rows]).view(len(rows), -1)
        return examples.pin_memory() if self.device.type == "cuda" else examples

    def _source(
        self, rows: torch.Tensor, gathered: Sequence[torch.Tensor]
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        (examples,) = gathered or self.gather(rows.cpu().numpy())
        return examples, None


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
    """The minibatches of a stack, step by step. Its runs may be at different steps, and make one step at a time.

    Row numbers and draws of BLOCK steps go to the device in one copy, [planes, K, B] for each step: all else is
    computed there. For a CUDA device, a thread draws the next block meanwhile.
    """

    def __init__(self, data: Resident, specs: Sequence[RunSpec], splits: Sequence[Split]) -> None:
        first, cuda = specs[0], data.device.type == "cuda"
        self._data = data
        self._orders = [Order(spec, s.train) for spec, s in zip(specs, splits, strict=True)]
        self._draws = [Draws(spec) for spec in specs]
        self._placement, self._mixing = placement_planes(first), mixing_planes(first)
        self._dtype = torch.bfloat16 if cuda and first.precision == "bf16" else torch.float32
        self._rows: list[np.ndarray] = []
        self._block: Sequence[torch.Tensor] = ()
        self._first = 0
        self._ahead: tuple[list[int], Future[np.ndarray]] | None = None
        self._drawer = ThreadPoolExecutor(1, thread_name_prefix="isoflop-draws") if cuda else None
        whole = cuda and type(data) is Resident and normalised_width(first, len(data.labels) * data.info.inputs)
        self._whole = data.whole(self._dtype) if whole else None
        self._black = data.black(self._dtype) if whole and self._placement else None

    def inputs(self, steps: Sequence[int]) -> tuple[torch.Tensor, ...]:
        """What the batches of the step of each run depend on, of the same sizes at every step."""
        if not 0 <= steps[0] - self._first < len(self._block):
            self._load(list(steps))
        at = steps[0] - self._first
        return self._block[at], *self._data.gather(*self._rows[at : at + 2])

    def _load(self, steps: list[int]) -> None:
        """Bring the block from these steps on to the device."""
        ahead, self._ahead = self._ahead, None
        block = ahead[1].result() if ahead is not None and ahead[0] == steps else self._drawn(steps)
        if self._drawer is not None:
            after = [step + BLOCK for step in steps]
            self._ahead = after, self._drawer.submit(self._drawn, after)
        drawn = torch.from_numpy(block)
        drawn = drawn.pin_memory() if self._data.device.type == "cuda" else drawn
        self._block = drawn.to(self._data.device, non_blocking=True).unbind()
        self._rows, self._first = list(block[:, 0]), steps[0]

    def _drawn(self, steps: Sequence[int]) -> np.ndarray:
        """Rows and draws [BLOCK, planes, K, B] from a step of each run on."""
        runs = [
            np.concatenate([order.block(step, BLOCK)[:, None].astype(np.int32), draws.block(step, BLOCK)], axis=1)
            for order, draws, step in zip(self._orders, self._draws, steps, strict=True)
        ]
        return np.stack(runs, axis=2)

    def read(self, batch: Sequence[torch.Tensor]) -> tuple[torch.Tensor, ...]:
        """Inputs [K, B, inputs] and labels [K, B] of `inputs`; with MixUp also those of partners, and shares.

        Operations on the device only, none of which depends on values: a CUDA graph can hold them.
        """
        (rows_KB, *drawn), *gathered = batch[0].unbind(), *batch[1:]
        placed_by = planes(self._placement, drawn)
        if self._whole is None:
            x, y = self._data.read(rows_KB, placed_by, self._dtype, gathered)
        else:
            x, y = self._of_whole(rows_KB.flatten(), placed_by), self._data.labels[rows_KB]
            x = x.view(*rows_KB.shape, -1)
        return mix(x, y, planes(self._mixing, drawn[len(self._placement) :])) if self._mixing else (x, y)

    def _of_whole(self, rows: torch.Tensor, draws: Planes) -> torch.Tensor:
        """Rows of the normalised data set; the only thing to be done is a copy."""
        assert self._whole is not None
        if not draws:
            return self._whole.index_select(0, rows)
        assert self._data.info.image is not None, "resolve() lets only images be augmented"
        return placed(self._whole, rows, draws, self._data.info.image, self._black)
