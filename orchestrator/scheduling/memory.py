"""Admission by bytes: which stack may go to which device now, and what follows an out-of-memory error.

A place is a device that slots share: a GPU, or the memory of a machine. What a stack will take there is its closed
form (`trainer.cost`) times a factor, and the context of its process; both are learned from measured peaks.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from trainer import cost
from trainer.data import datasets
from trainer.trunk import segments

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from orchestrator.workers.executor import Place
    from trainer.spec import RunSpec

MARGIN = 1.5
"""The closed form's promise: peaks stay within this factor of it (trainer.cost.memory_bytes)."""
CONTEXT = 600 * 2**20
"""Bytes of a process before it trains, its libraries and their work space, until a peak was measured."""
CUDA = 900 * 2**20
"""Bytes that CUDA takes of a GPU for a process and that are in no peak: its context, the code of kernels, graphs.
They were 730 to 820 MiB on an H100 (benchmarks/bench_gpu.py)."""
ENOUGH, SURE = 5, 1.05
"""Peaks after which what they say replaces the promise, and what is added to the largest of them."""
TELLING = 64 * 2**20
"""Bytes by closed form from which on a peak tells something of the model and not of the process around it."""
SHARE = 0.9
"""Share of a place's memory that is given away."""
AGAIN = 1.5
"""What a run that ran out of memory is estimated at when it is tried again, in units of the estimate before."""
PARTS = 4
"""A run that ran out of memory alone goes on with a micro-batch so many times smaller."""
_CHUNK = 1024  # trainer.evaluate.CHUNK, which imports torch


@dataclass(frozen=True)
class Learned:
    """What peaks on one kind of device taught: bytes of a process, the largest of `n` ratios to the closed form."""

    context: float | None = None
    ratio: float = 0.0
    n: int = 0

    @property
    def factor(self) -> float:
        """What a closed form is multiplied by."""
        return SURE * self.ratio if self.n >= ENOUGH else max(MARGIN, SURE * self.ratio)

    def after(self, form: int, peak: int) -> Learned:
        """What is known after one more peak, of a stack of `form` bytes by closed form."""
        if form < TELLING:  # all of it is the process
            return replace(self, context=float(peak) if self.context is None else min(self.context, peak))
        return replace(self, ratio=max(self.ratio, (peak - (self.context or 0)) / form), n=self.n + 1)


def form(runs: Sequence[RunSpec]) -> int:
    """Bytes that a stack takes by closed form: of its widest stack, in training or while it is evaluated."""
    return max(len(segment.runs) * _form(segment.runs[0]) for segment in segments(runs))


def _form(run: RunSpec) -> int:
    shape = cost.shape_of(run)
    training = cost.memory_bytes(shape, run.batch_size // run.accumulate, run.optimizer)
    inside = cost.costs(shape).widest
    looking = 4 * _CHUNK * (2 * run.inputs + 2 * inside + 4 * shape.classes) if run.inputs else 0
    return training + max(0, looking - (training - cost.memory_bytes(shape, 0, run.optimizer)))


def data_bytes(run: RunSpec, kind: str) -> int:
    """Bytes that a run's data set takes on a device of a kind; in a machine's memory it lies once for all."""
    if kind == "cpu" or run.loader == "mmap":
        return 0
    inputs = datasets.load(run).inputs
    values = len(inputs) * (run.inputs or 0)
    return inputs.nbytes + values * (datasets.normalised_width(run, values) if kind == "cuda" else 0)


class DeviceMemory:
    """Gives stacks places, by bytes, and takes them back; learns from what they took.

    `data` tells the bytes that a run's data set takes on a device of a kind. `learned` is what `to_dict`
    gave before.
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
        """What a stack is estimated to take on a device of a kind, its process and data set included."""
        known = self._learned.get(kind, Learned())
        scale = max(self._scale.get(run.run_id, 1.0) for run in runs)
        context = (CUDA if kind == "cuda" else 0) + (CONTEXT if known.context is None else known.context)
        return context + self._data(runs[0], kind) + scale * known.factor * form(self.as_tried(runs))

    def as_tried(self, runs: Sequence[RunSpec]) -> list[RunSpec]:
        """The runs as they are to be trained: those that ran out of memory in smaller parts."""
        return [replace(run, accumulate=self._parts.get(run.run_id, run.accumulate)) for run in runs]

    def fits(self, runs: Sequence[RunSpec]) -> bool:
        """Whether any place, empty, would hold the stack. One that nobody has looked at yet might."""
        return any(self.bytes(runs, place.kind) <= _room(place) for place in self._places())

    def give(self, stack: int, runs: Sequence[RunSpec], open_places: Sequence[str]) -> str | None:
        """The place of a stack, one of those with a free slot; None where it has to wait.

        The emptiest that holds it. An empty place takes any stack: estimates may be wrong, and nothing else helps.
        What ran out of memory alone has a place to itself, so that no neighbour is to blame.
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
        """A stack has ended; `peak` bytes is what its process took at most, where that was measured."""
        place, _ = self._given.pop(stack)
        if peak is not None and runs:
            known = self._learned.get(place.kind, Learned())
            own = max(0, peak - self._data(runs[0], place.kind))
            self._learned[place.kind] = known.after(form(self.as_tried(runs)), own)

    def exhausted(self, run: RunSpec) -> bool:
        """A run has run out of memory; whether there is a way to try it again.

        First alone, at 1.5 times the estimate, then on a place of its own in ever smaller parts of a batch, of one
        example at last.
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
        """What a run would have taken and what there is, for the row of one that is given up."""
        place = max(self._places(), key=_room)
        needs, has = self.bytes([run], place.kind), _room(place)
        room = f" of {_gib(has)} on {place.name}" if math.isfinite(has) else ""
        parts = self._parts.get(run.run_id, run.accumulate)
        return f"out of memory: about {_gib(needs)}{room}, with batches in {parts} parts"

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """What was learned, by kind of device."""
        return {kind: asdict(known) for kind, known in self._learned.items()}


def _room(place: Place) -> float:
    return math.inf if place.bytes is None else SHARE * place.bytes


def _gib(size: float) -> str:
    return f"{size / 2**30:.3g} GiB"
