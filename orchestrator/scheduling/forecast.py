"""How long a sweep will take, by a simulation of its stacks and slots; and what sessions teach about that."""

from __future__ import annotations

import heapq
import itertools
import math
import statistics
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator import text
from orchestrator.host.machine_cache import code_version
from orchestrator.host.timings import Timing, Timings, kind_of, known_timings
from orchestrator.scheduling.smoke_test import smoke_test_of
from orchestrator.scheduling.stacks import group_into_stacks, shares
from trainer.data import catalogue, datasets
from trainer.host.limits import cores

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from orchestrator.host.speed import Speed
    from orchestrator.host.timings import Kind
    from orchestrator.scheduling.running import RunningStack
    from orchestrator.sweep.planner import Plan
    from orchestrator.workers.executor import Finished
    from trainer.spec import RunSpec

START = {"processes": 2.5, "ray": 5.0, "inline": 2.0}
"""Seconds around the training of a session where none was measured, by its executor (Timings.starts)."""
PER_RUN = 0.003
"""CPU seconds of the coordinator for a run where none were measured."""
IMAGE, BYTE, SERIAL = 1.8e-4, 9e-8, 0.65
"""CPU seconds for an image and for a byte of images, and the share of both in which one thread keeps the others
waiting: 12.5 s for 60,000 images of CIFAR-10 (19 MB), 6.6 s for 22,000 of Tiny ImageNet (30 MB), EPYC."""
LIKELY = 1.28
"""Standard deviations on either side of a prediction that hold four of five outcomes."""
LEAST = 0.1
"""Least uncertainty of the time of training, as a standard deviation of its logarithm."""


@dataclass(frozen=True)
class Forecast:
    """A prediction of a sweep's seconds: `start` is what surrounds the training, such as starting Ray or decoding.

    `spread` is the standard deviation of the logarithm of `training`; `shares` are the seconds that each run
    adds to it, by run_id.
    """

    start: float
    training: float
    spread: float
    shares: Mapping[str, float] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        """All of it."""
        return self.start + self.training

    @property
    def interval(self) -> tuple[float, float]:
        """Seconds of training that hold the outcome in four of five cases."""
        factor = math.exp(LIKELY * self.spread)
        return self.training / factor, self.training * factor

    def to_dict(self) -> dict[str, float]:
        """Return the seconds, those of the start and of the training, and the interval of the latter."""
        low, high = self.interval
        parts = {"start_seconds": self.start, "training_seconds": self.training}
        return {"seconds": self.seconds, **parts, "training_low": low, "training_high": high}

    def __str__(self) -> str:
        """`22 s (6 s to start + 16 s of training, 14 to 19)`."""
        low, high = map(text.duration, self.interval)
        parts = f"{text.duration(self.start)} to start + {text.duration(self.training)} of training"
        span = f", {low} to {high}" if low != high and self.training >= 1 else ""
        return f"{text.duration(self.seconds)} ({parts}{span})"


def forecast(
    runs: Sequence[RunSpec], speed: Speed, slots: int, *, timings: Timings | None = None, start: str = "processes"
) -> Forecast:
    """Predict the training of some runs on so many workers, as the scheduler would do it.

    A smoke test comes first, then stacks in the order of the scheduler; stages of a chain follow their parents.
    """
    known = timings or Timings()
    per_run = statistics.median_low([PER_RUN, *known.per_run]) / slots
    simulation = Simulation(runs, speed, slots)
    test = smoke_test_of(runs)
    training = simulation.end + (speed.seconds(test) if test else 0.0) + per_run * len(runs)
    around = statistics.median_low([START[start], *known.starts.get(start, ())])
    shares = {run_id: seconds / slots for run_id, seconds in simulation.shares.items()}
    return Forecast(around, training, max(LEAST, simulation.spread), shares)


def planned_forecast(
    planned: Plan, speed: Speed, start: str = "processes", *, slots: int | None = None
) -> Forecast:
    """Predict the training of a plan on this machine of a known speed, decoding included.

    A search trains round after round: in each, every cell has a batch of trials.
    """
    timings = known_timings()
    slots = slots or (timings.slots if speed.device != "cpu" else None) or cores()
    trials = planned.trials or 1
    batch = min(trials, planned.batch or 1)
    copies = [replace(run, lr=run.lr * (1 - i * 1e-6)) for i in range(1, batch) for run in planned.runs]
    once = forecast([*planned.runs, *copies], speed, slots, timings=timings, start=start)
    shares = {run.run_id: once.shares[run.run_id] * trials for run in planned.runs}
    around = once.start + decoding_seconds(planned.runs)
    return replace(once, start=around, training=once.training * trials / batch, shares=shares)


def decoding_seconds(runs: Sequence[RunSpec]) -> float:
    """Return the seconds of decoding what the cache lacks of the data sets of some runs."""
    undecoded = {(run.dataset, run.path, run.resolution) for run in runs if run.fingerprint == datasets.UNSEEN}
    seconds = 0.0
    for name, path, _ in undecoded:
        files = catalogue.files_of(name)
        seconds += IMAGE * (files.train + (files.test or 0)) if files is not None else 0.0
        seconds += BYTE * Path(path).stat().st_size if path and Path(path).is_file() else 0.0
    return seconds * (SERIAL + (1 - SERIAL) / cores())


class Simulation:
    """The course of some runs on a number of workers, each of which takes the next stack when it is free."""

    def __init__(self, runs: Sequence[RunSpec], speed: Speed, slots: int) -> None:
        self.end, self.shares, self._speed, self._slots = 0.0, dict[str, float](), speed, slots
        self._uncertain = self._busy = 0.0
        here = {run.run_id for run in runs}
        children: dict[str, list[RunSpec]] = {}
        for run in runs:
            if run.parent in here:
                children.setdefault(run.parent, []).append(run)
        self._go([run for run in runs if run.parent not in here], children)

    @property
    def spread(self) -> float:
        """The uncertainty of the mean stack, by the time that it takes."""
        return self._uncertain / self._busy if self._busy else 0.0

    def _go(self, ready: Sequence[RunSpec], children: Mapping[str, Sequence[RunSpec]]) -> None:
        waiting = list(reversed(self._stacks(ready)))
        released: list[RunSpec] = []
        training: list[tuple[float, int, list[RunSpec]]] = []
        numbers, now = itertools.count(), 0.0
        while waiting or released or training:
            if released and len(waiting) < self._slots:
                waiting[:0] = reversed(self._stacks(released))
                released.clear()
            while waiting and len(training) < self._slots:
                stack = waiting.pop()
                heapq.heappush(training, (now + self._seconds(stack), next(numbers), stack))
            now, _, ended = heapq.heappop(training)
            for run in ended if children else ():
                released += children.get(run.run_id, ())
        self.end = now

    def _stacks(self, runs: Sequence[RunSpec]) -> list[list[RunSpec]]:
        return group_into_stacks(runs, speed=self._speed, slots=self._slots)

    def _seconds(self, stack: Sequence[RunSpec]) -> float:
        seconds, spread = self._speed.seconds(stack), self._speed.correction(stack).spread
        self._busy += seconds
        self._uncertain += seconds * spread
        self.shares |= shares(stack, seconds)
        return seconds


class Lessons:
    """What a session teaches about this machine: how long its stacks took, its start, the coordinator's work."""

    def __init__(self, speed: Speed) -> None:
        self._speed = speed
        self._stacks: dict[Kind, list[Timing]] = {}
        self._began, self._last, self._cpu, self._runs = 0.0, 0.0, 0.0, 0

    def begin(self) -> None:
        """Note that a stack starts."""
        if not self._began:
            self._began, self._cpu = time.monotonic(), time.process_time()

    def take(self, stack: RunningStack, end: Finished) -> None:
        """Learn from a stack that has ended; one that was resumed or left early took another time."""
        self._last, self._runs, seconds = time.monotonic(), self._runs + len(end.results), stack.usage.seconds
        if seconds and not stack.began and all(result.state == "done" for result in end.results):
            timing = Timing(kind_of(stack.all), self._speed.work(stack.all), seconds, code_version())
            self._stacks.setdefault(timing.kind, []).append(timing)

    def timings(self, how: str, began: float, slots: int | None) -> Timings:
        """Return what is to be kept of a session that began at this monotonic time; nothing if no stack finished.

        Of each kind of stack it is the median, by its seconds relative to the model.
        """
        if not self._runs:
            return Timings()
        around = time.monotonic() - began - (self._last - self._began)
        cpu = [] if how == "inline" else [(time.process_time() - self._cpu) / self._runs]  # else it trains itself
        return Timings([self._middle(some) for some in self._stacks.values()], {how: [around]}, cpu, slots)

    def _middle(self, some: list[Timing]) -> Timing:
        ordered = sorted(some, key=lambda timing: timing.seconds / self._speed.modelled(timing.work))
        return ordered[(len(ordered) - 1) // 2]
