"""Heartbeats of a worker: when it last made a step, and how long it may go without one."""

from __future__ import annotations

import statistics
import time
from collections import deque
from itertools import pairwise
from typing import NamedTuple

from trainer.host.limits import memory

STILL, STEPS = 60.0, 20
"""Seconds, and median steps, whichever is longer, after which a worker that makes no step is killed."""
LOADING = 1800.0
"""Seconds that a stack may take to its first step: a data set may be decoded before it."""
LOW = 0.06
"""Share of a machine's memory that is to stay available; Ray itself kills at 0.05."""


class Heartbeat(NamedTuple):
    """A worker's answer: seconds since its last sign of life, the median step, the share of memory available.

    `median` is None before the second step of a stack.
    """

    still: float
    median: float | None
    available: float

    def limit(self, still: float = STILL) -> float:
        """Seconds that it may go on without a step."""
        return LOADING if self.median is None else max(still, STEPS * self.median)


class StepTimes:
    """What a stack in training calls after every step and every forward pass of an evaluation."""

    def __init__(self) -> None:
        self._times: deque[float] = deque(maxlen=41)
        self._began = time.monotonic()

    def begin(self) -> None:
        """A new stack begins."""
        self._times.clear()
        self._began = time.monotonic()

    def __call__(self) -> None:
        """A step has been made."""
        self._times.append(time.monotonic())

    def heartbeat(self) -> Heartbeat:
        """How it stands; safe from another thread."""
        times = self._times.copy()
        steps = [after - before for before, after in pairwise(times)]
        last = times[-1] if times else self._began
        return Heartbeat(time.monotonic() - last, statistics.median(steps) if steps else None, available()[0])


def available() -> tuple[float, int]:
    """Memory that is still to be had, as a share and in bytes; (1, 0) where Linux does not tell.

    The least of the machine and of every container around: whichever runs out first kills.
    """
    levels = memory()
    share = min((level.available / level.total for level in levels), default=1.0)
    return share, min((level.available for level in levels), default=0)
