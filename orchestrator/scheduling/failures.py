"""What is done about runs that go wrong: how often to try again, when a sweep is not worth going on with."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

MOST_LOSSES = 3
"""Times that a run is started again after its worker died; then it is `failed`."""

ALIKE = 3
"""Runs that raise the same before their sweep is paused: it is not about the runs."""

PATIENCE, FEW = 0.1, 50
"""Share of a run's steps, and steps, in which its training loss may stay above chance without having fallen."""

LOOKED_AT = 3


class Failures:
    """Remembers what went wrong in this session."""

    def __init__(self) -> None:
        self._losses: Counter[str] = Counter()
        self._raised: defaultdict[tuple[str, ...], set[str]] = defaultdict(set)

    def lost(self, run_ids: Iterable[str]) -> set[str]:
        """Note that the worker of runs died; returns those that have lost theirs too often."""
        ids = list(run_ids)
        self._losses.update(ids)
        return {run_id for run_id in ids if self._losses[run_id] >= MOST_LOSSES}

    def raised(self, sweep: str, run_id: str, traceback: str) -> bool:
        """Note what a run raised; True where so many runs of its sweep have raised the same that it must pause."""
        alike = self._raised[sweep, *signature(traceback)]
        alike.add(run_id)
        return len(alike) == ALIKE


def signature(traceback: str) -> tuple[str, ...]:
    """What two tracebacks have in common that say the same of different runs: places and class, not the message."""
    lines = traceback.strip().splitlines()
    places = tuple(line.strip() for line in lines if line.startswith('  File "'))
    return (*places, lines[-1].partition(":")[0] if lines else "")


def is_lost(losses: Sequence[tuple[int, float]], steps: int, classes: int) -> bool:
    """Whether a run in training has diverged though its loss is finite.

    `losses` are (step, training loss since the record before) of its records. It has where in the last three of
    them, PATIENCE of its steps and FEW or more behind it, the loss is above that of a guess (ln classes: so with
    label smoothing and MixUp as well) and not below what it began with: a small learning rate is slow, but falls.
    """
    if len(losses) <= LOOKED_AT or losses[-1][0] < max(FEW, PATIENCE * steps):
        return False
    began = losses[0][1]
    return all(loss > max(math.log(classes), began) for _, loss in losses[-LOOKED_AT:])
