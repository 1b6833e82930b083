"""Admission by bytes: which stack may go to which device now, and what follows an out-of-memory error.

A place is a device that slots share: a GPU, or the memory of a machine. What a stack will take there is its closed
form (`trainer.cost`) times a factor, and the context of its process; both are learned from measured peaks.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from orchestrator.text import number
from trainer import cost
from trainer.data import datasets
from trainer.trunk import phases

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from orchestrator.workers.executor import Place
    from trainer.spec import RunSpec

MARGIN = 1.5
"""Factor of the closed form that peaks stay within (trainer.cost.memory_bytes)."""
CONTEXT = 600 * 2**20
"""Bytes of a process before it trains (libraries and their work space), until a peak is measured."""
CUDA = 900 * 2**20
"""Bytes that CUDA takes of a GPU for a process and that are in no peak: its context, the code of kernels, graphs.
They were 730 to 820 MiB on an H100 (benchmarks/bench_gpu.py)."""
ENOUGH, SURE = 5, 1.05
"""Number of peaks after which the largest measured ratio replaces MARGIN, and the factor added to it."""
TELLING = 64 * 2**20
"""Bytes by closed form from which on a peak measures the model and not the process around it."""
SHARE = 0.9
"""Share of a place's memory that stacks may use."""
AGAIN = 1.5
"""Factor on the estimate of a run that is tried again after it ran out of memory."""
PARTS = 4
"""Factor by which the micro-batch of a run that ran out of memory alone is made smaller."""
_CHUNK = 1024  # trainer.evaluate.CHUNK, which imports torch


@dataclass(frozen=True)
class Learned:
    """Measurements on one kind of device: bytes of a process, the largest of `n` ratios of peak to closed form."""

    context: float | None = None
    ratio: float = 0.0
    n: int = 0

    @property
    def factor(self) -> float:
        """The factor on the closed form."""
        return SURE * self.ratio if self.n >= ENOUGH else max(MARGIN, SURE * self.ratio)

    def after(self, form: int, peak: int) -> Learned:
        """Return these with one more peak, of a stack of `form` bytes by closed form."""
        if form < TELLING:  # all of it is the process
            return replace(self, context=float(peak) if self.context is None else min(self.context, peak))
        return replace(self, ratio=max(self.ratio, (peak - (self.context or 0)) / form), n=self.n + 1)


def form(runs: Sequence[RunSpec]) -> int:
    """Return the bytes of a stack by closed form, in training or evaluation, with most of its runs at once."""
    most = max((phase.rows for phase in phases(runs)), default=len(runs))  # no phase: they are only tested
    return most * _form(runs[0])


def _form(run: RunSpec) -> int:
    shape = cost.shape_of(run)
    training = cost.memory_bytes(shape, run.batch_size // run.accumulate, run.optimizer)
    inside = cost.costs(shape).widest
    looking = 4 * _CHUNK * (2 * run.inputs + 2 * inside + 4 * shape.classes) if run.inputs else 0
    return training + max(0, looking - (training - cost.memory_bytes(shape, 0, run.optimizer)))


def data_bytes(run: RunSpec, kind: str) -> int:
    """Return the bytes of a run's data set on a kind of device that workers do not share, as they share files."""
    if run.loader == "mmap" or (kind == "cpu" and run.augment == "none"):
        return 0
    inputs = datasets.load(run).inputs
    if kind == "cpu":
        return datasets.doubled_bytes(run, inputs.nbytes)
    values = len(inputs) * (run.inputs or 0)
    return inputs.nbytes + values * (datasets.normalised_width(run, values) if kind == "cuda" else 0)


class DeviceMemory:
    """Gives stacks places by bytes, and learns from the peaks that were measured.

    `data` returns the bytes of a run's data set on a kind of device. `learned` is an earlier `to_dict`.
    """

    def __init__(
        self,
        places: Callable[[], Sequence[Place]],
        learned: Mapping[str, Mapping[str, Any]] | None = None,
        data: Callable[[RunSpec, str], int] | None = None,
    ) -> None:
        self._places, self._data = places, data or data_bytes
        self._learned = {kind: Learned(**said) for kind, said in (learned or {}).items()}
        self._given: dict[int, tuple[Place, float]] = {}
        self._scale: dict[str, float] = {}
        self._parts: dict[str, int] = {}

    def bytes(self, runs: Sequence[RunSpec], kind: str) -> float:
        """Return the estimated bytes of a stack on a kind of device, its process and data set included."""
        known = self._learned.get(kind, Learned())
        scale = max(self._scale.get(run.run_id, 1.0) for run in runs)
        context = (CUDA if kind == "cuda" else 0) + (CONTEXT if known.context is None else known.context)
        return context + self._data(runs[0], kind) + scale * known.factor * form(self.as_tried(runs))

    def as_tried(self, runs: Sequence[RunSpec]) -> list[RunSpec]:
        """Return the runs as they are to be trained: those that ran out of memory in smaller parts of a batch."""
        parts = self._parts
        return [replace(run, accumulate=parts[run.run_id]) if run.run_id in parts else run for run in runs]

    def fits(self, runs: Sequence[RunSpec]) -> bool:
        """Return whether any place would hold the stack if empty; one of unknown size might."""
        return any(self.bytes(runs, place.kind) <= _room(place) for place in self._places())

    def give(self, stack: int, runs: Sequence[RunSpec], open_places: Sequence[str]) -> str | None:
        """Give a stack one of the places with a free slot and return its name, or None where the stack has to wait.

        It is the emptiest place that holds the stack. An empty place takes any stack: estimates may be wrong. A run
        that ran out of memory alone gets a place to itself, so that no neighbour is the cause.
        """
        best: tuple[float, Place, float] | None = None
        for place in self._places():
            if place.name not in open_places:
                continue
            needs = math.inf if self._parts.keys() & {run.run_id for run in runs} else self.bytes(runs, place.kind)
            taken = [held for other, held in self._given.values() if other.name == place.name]
            left = _room(place) - sum(taken) - needs
            if (not taken or (left >= 0 and place.bytes is not None)) and (best is None or left > best[0]):
                best = left, place, needs
        if best is None:
            return None
        self._given[stack] = best[1:]
        return best[1].name

    def take_back(self, stack: int, runs: Sequence[RunSpec] = (), peak: int | None = None) -> None:
        """Take a stack's place back; `peak` is the most bytes that its process used, where that was measured."""
        place, _ = self._given.pop(stack)
        if peak is not None and runs:
            known = self._learned.get(place.kind, Learned())
            own = max(0, peak - self._data(runs[0], place.kind))
            self._learned[place.kind] = known.after(form(self.as_tried(runs)), own)

    def exhausted(self, run: RunSpec) -> bool:
        """Note that a run ran out of memory, and return whether there is another way to try it.

        It is tried alone, at AGAIN times the estimate; then on a place of its own in ever smaller parts of a batch,
        down to one example.
        """
        if run.run_id not in self._scale:
            self._scale[run.run_id] = AGAIN
            return True
        parts = self._parts.get(run.run_id, run.accumulate)
        if parts == run.batch_size:
            return False
        divisors = [n for n in range(PARTS * parts, run.batch_size) if run.batch_size % n == 0]
        self._parts[run.run_id] = divisors[0] if divisors else run.batch_size
        return True

    def figure(self, run: RunSpec) -> str:
        """Return the reason of a run that is given up: the bytes it needs, and those that there are."""
        place = max(self._places(), key=_room)
        needs, has = self.bytes([run], place.kind), _room(place)
        room = f" of {_gib(has)} on {place.name}" if math.isfinite(has) else ""
        parts = self._parts.get(run.run_id, run.accumulate)
        return f"out of memory: about {_gib(needs)}{room}, with batches in {parts} parts"

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """Return what was learned, by kind of device."""
        return {kind: asdict(known) for kind, known in self._learned.items()}


def _room(place: Place) -> float:
    return math.inf if place.bytes is None else SHARE * place.bytes


def _gib(size: float) -> str:
    return f"{number(size / 2**30)} GiB"
