"""Rules for runs that go wrong: when a run has diverged, how often it is tried, when its sweep is paused."""

from __future__ import annotations

import math
from collections import defaultdict
from typing import TYPE_CHECKING

from orchestrator.workers.worker import OUT_OF_MEMORY

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from orchestrator.store.ends import End

MOST_LOSSES = 3
"""Times that a run is started again after its worker died; then it is `failed`."""

ALIKE = 3
"""Runs of a sweep that raise the same before it is paused: the reason is then not the runs."""

CHANCE_SHARE, FEWEST_STEPS = 0.1, 50
"""Share of a run's steps, and steps, in which its training loss may stay above chance without having fallen."""

LOOKED_AT = 3


class Failures:
    """Remembers what runs have raised in this session."""

    def __init__(self) -> None:
        self._alike: defaultdict[tuple[str, ...], set[str]] = defaultdict(set)

    def pauses(self, end: End, sweeps: Iterable[str]) -> list[tuple[str, str]]:
        """Take in an end of a run of some sweeps; returns the sweeps that must pause, each with the reason.

        Running out of memory pauses none: smaller models go on.
        """
        if (end.state, end.outcome) != ("failed", "failed") or end.exception == OUT_OF_MEMORY:
            return []
        pauses = []
        for sweep in sweeps:
            alike = self._alike[sweep, *signature(end.traceback or "")]
            alike.add(end.run_id)
            if len(alike) == ALIKE:
                pauses.append((sweep, f"{ALIKE} runs failed with the same error: {end.reason}"))
        return pauses


def signature(traceback: str) -> tuple[str, ...]:
    """What two tracebacks have in common that say the same of different runs: places and class, not the message."""
    lines = traceback.strip().splitlines()
    places = tuple(line.strip() for line in lines if line.startswith('  File "'))
    return (*places, lines[-1].partition(":")[0] if lines else "")


def is_lost(losses: Sequence[tuple[int, float]], steps: int, classes: int) -> bool:
    """Return whether a run in training has diverged though its loss is finite.

    `losses` are the (step, training loss since the record before) of its records. A run has diverged where the loss
    of its last three records is above that of a guess (ln classes; so with label smoothing and MixUp as well) and
    not below that of its first, after CHANCE_SHARE of its steps and at least FEWEST_STEPS. With a small learning
    rate the loss is high, too, but falls.
    """
    if len(losses) <= LOOKED_AT or losses[-1][0] < max(FEWEST_STEPS, CHANCE_SHARE * steps):
        return False
    began = losses[0][1]
    return all(loss > max(math.log(classes), began) for _, loss in losses[-LOOKED_AT:])
