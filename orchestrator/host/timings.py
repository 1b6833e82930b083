"""What finished stacks took on this machine, kept in its cache: the measured half of a prediction.

A model of a step's cost is right for no shape exactly, and a machine is not always as fast as when it was measured.
A prediction is therefore multiplied by the ratio of measured to modelled seconds of the nearest stacks that
finished here (`Corrections`): a weighted median, so that one noisy measurement cannot spoil it.
"""

from __future__ import annotations

import functools
import math
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from orchestrator.host.machine_cache import code_version, remember, remembered
from trainer.data.cache_entries import one_at_a_time

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from trainer.spec import RunSpec

KEPT, SESSIONS = 5, 7
"""Stacks of one kind that are kept, and sessions whose start is kept: the newest."""
MOST = 1000
"""Kinds of stacks that are kept."""
PRIOR = 0.1
"""Weight of the model beside finished stacks, at a spread of 1; an equal stack has the weight 1."""
ENOUGH, FAR = 1.5, 3.0
"""Weight of stacks below which they move a prediction by FAR times the model's spread at most."""


class Kind(NamedTuple):
    """What stacks have in common that take equally long per step: words, and sizes by their binary logarithm."""

    words: tuple[str, ...]
    sizes: tuple[float, ...]

    def distance(self, other: Kind) -> float:
        """Return how far apart two kinds are: 1 for a factor of 2 in one size, or for another word."""
        words = sum(a != b for a, b in zip(self.words, other.words, strict=True))
        return words + math.dist(self.sizes, other.sizes)


def kind_of(stack: Sequence[RunSpec]) -> Kind:
    """Return the kind of a stack. Its length is no part of it."""
    run = stack[0]
    words = (run.family, run.augment, "mixup" if run.mixup else "", run.precision, run.optimizer, run.trains)
    sizes = (run.width, run.depth, run.batch_size, run.inputs or 1, len(stack))
    return Kind(words, tuple(map(math.log2, sizes)))


@dataclass(frozen=True)
class Timing:
    """A finished stack: its kind, its work (orchestrator.host.speed.Work), how long it took, by which code."""

    kind: Kind
    work: Sequence[float]
    seconds: float
    code: str


class Correction(NamedTuple):
    """A factor of modelled seconds, and its uncertainty as a standard deviation of its logarithm."""

    factor: float
    spread: float


class Corrections:
    """Corrects a model by the ratios of measured to modelled seconds of stacks of some kinds.

    `spread` is the model's own uncertainty: the smaller, the more it counts beside other kinds of stacks.
    """

    def __init__(self, ratios: Iterable[tuple[Kind, float]], spread: float) -> None:
        self._ratios = [(kind, math.log(ratio)) for kind, ratio in ratios if ratio > 0]
        self._spread = max(spread, 0.01)
        self.at = functools.cache(self._at)

    def _at(self, kind: Kind) -> Correction:
        """Return the correction for a kind of stack.

        The weight of a finished stack falls with its distance d, by exp(-d/4), and beyond h by exp(-(d/h)^2 / 2),
        where h is the distance of the nearest, or 1/2. Their median is drawn towards 1 by the model's own weight.
        """
        near = [(kind.distance(other), ratio) for other, ratio in self._ratios]
        width = max(0.5, min((distance for distance, _ in near), default=0.0))
        weighed = [(ratio, math.exp(-distance / 4 - (distance / width) ** 2 / 2)) for distance, ratio in near]
        weight, prior = sum(weight for _, weight in weighed), PRIOR / self._spread
        middle = median(weighed) if weighed else 0.0
        if weight < ENOUGH:
            middle = max(-FAR * self._spread, min(FAR * self._spread, middle))
        scatter = sum(weight * abs(ratio - middle) for ratio, weight in weighed) + prior * self._spread
        return Correction(math.exp(middle * weight / (weight + prior)), scatter / (weight + prior))


def median(weighed: Sequence[tuple[float, float]]) -> float:
    """Return the lower weighted median of (value, weight): what disturbs a measurement makes it longer."""
    ordered, half = sorted(weighed), sum(weight for _, weight in weighed) / 2
    below = 0.0
    for value, weight in ordered:
        below += weight
        if below >= half:
            return value
    return ordered[-1][0]


@dataclass
class Timings:
    """What is known of finished sessions on this machine.

    `stacks` are timings of stacks; `starts` are seconds from a command to its first step, by the executor
    (`processes`, `ray`, `inline`); `per_run` are CPU seconds of the coordinator for a run; `slots` is the number of
    workers of the last session on GPUs.
    """

    stacks: list[Timing] = field(default_factory=list)
    starts: dict[str, list[float]] = field(default_factory=dict)
    per_run: list[float] = field(default_factory=list)
    slots: int | None = None

    def ratios(self, modelled: Callable[[Sequence[float]], float]) -> list[tuple[Kind, float]]:
        """Return each stack's kind and its ratio of measured to modelled seconds."""
        return [(timing.kind, timing.seconds / modelled(timing.work)) for timing in self.stacks]

    def keep(self) -> None:
        """Add these, of one session, to what the cache knows; timings of older code are dropped."""
        with one_at_a_time("timings"):
            known, code = known_timings(), code_version()
            kinds: dict[Kind, list[Timing]] = {}
            for timing in [*known.stacks, *self.stacks]:
                if timing.code == code or not self.stacks:
                    kinds.setdefault(timing.kind, []).append(timing)
            starts = {
                how: [*known.starts.get(how, ()), *self.starts.get(how, ())][-SESSIONS:]
                for how in (*known.starts, *self.starts)
            }
            kept = Timings(
                [timing for some in [*kinds.values()][-MOST:] for timing in some[-KEPT:]],
                starts,
                [*known.per_run, *self.per_run][-SESSIONS:],
                self.slots or known.slots,
            )
            remember("timings", asdict(kept))


def known_timings() -> Timings:
    """Return what the cache knows of finished sessions on this machine."""
    known = remembered("timings")
    try:
        stacks = [Timing(**{**timing, "kind": _kind(*timing["kind"])}) for timing in known.pop("stacks", ())]
        return Timings(stacks, **known)
    except (TypeError, ValueError, KeyError):
        return Timings()


def _kind(words: Sequence[str], sizes: Sequence[float]) -> Kind:
    return Kind(tuple(words), tuple(sizes))
