"""Heartbeats of a worker: when it last made a step, and how long it may go without one."""

from __future__ import annotations

import statistics
import time
from collections import deque
from itertools import pairwise
from typing import NamedTuple

from trainer.host.limits import memory

STILL, STEPS = 60.0, 20
"""A worker is killed after this many seconds, or median steps if that is longer, without a step."""
LOADING = 1800.0
"""Seconds that a stack may take to its first step, since a data set may have to be decoded."""
LOW = 0.06
"""Share of a machine's memory below which a worker is ended; Ray itself kills at 0.05."""


class Heartbeat(NamedTuple):
    """Seconds since a worker's last step, seconds of its median step, the share of memory available.

    `median` is None before the second step of a stack.
    """

    still: float
    median: float | None
    available: float

    def limit(self, still: float = STILL) -> float:
        """Return the seconds that it may go without a step, at least `still`."""
        return LOADING if self.median is None else max(still, STEPS * self.median)


class StepTimes:
    """Times of the steps of a stack in training, and of the forward passes of its evaluations."""

    def __init__(self) -> None:
        self._times: deque[float] = deque(maxlen=41)
        self._began = time.monotonic()

    def begin(self) -> None:
        """Forget the times of the stack before."""
        self._times.clear()
        self._began = time.monotonic()

    def __call__(self) -> None:
        """Note that a step was made."""
        self._times.append(time.monotonic())

    def heartbeat(self) -> Heartbeat:
        """Return the heartbeat of now; safe from another thread."""
        times = self._times.copy()
        steps = [after - before for before, after in pairwise(times)]
        last = times[-1] if times else self._began
        return Heartbeat(time.monotonic() - last, statistics.median(steps) if steps else None, available()[0])


def available() -> tuple[float, int]:
    """Return the memory available, as a share and in bytes; (1, 0) where Linux does not tell.

    It is the least of the machine and of every container around, since whichever runs out first kills.
    """
    levels = memory()
    share = min((level.available / level.total for level in levels), default=1.0)
    return share, min((level.available for level in levels), default=0)
