"""The coordinator: hands bundles of queued runs to an executor and writes what comes back. No ray in it."""

from __future__ import annotations

import signal
import time
from collections import Counter
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from orchestrator.device import TYPICAL, Speed
from orchestrator.executors import (
    Began,
    Executor,
    Failed,
    Finished,
    Lost,
    Metered,
    Noted,
    Recorded,
    WentOn,
)
from orchestrator.meter import Used
from orchestrator.planner import bundles, run_flops
from orchestrator.table import LEASE
from orchestrator.worker import NO_FILES, Files
from trainer.ladder import charged_flops

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from orchestrator.executors import Event
    from orchestrator.planner import Plan
    from orchestrator.table import Table
    from trainer.result import Record, Resumed, RunResult
    from trainer.spec import RunSpec

MOST_LOSSES = 3
"""Times that a run is started again after its worker died; then it is `failed`."""

GRACE = 5.0
"""Seconds that runs about to end are given after Ctrl-C before they are stopped."""


@dataclass
class Progress:
    """How far a sweep is. FLOPs of runs in flight count as spent up to their last record."""

    sweep: str
    runs: int
    flops: int
    done: int = 0
    failed: int = 0
    diverged: int = 0
    running: int = 0
    spent: float = 0.0
    best_error: float | None = None
    seconds: float = 0.0
    seconds_left: float | None = None
    message: str = ""


@dataclass
class _Flight:
    """A bundle in training: its runs, their fencing tokens, and the FLOPs at which they are and went on."""

    runs: list[RunSpec]
    claimed: dict[str, int]
    spent: dict[str, int] = field(default_factory=dict)
    began: dict[str, int] = field(default_factory=dict)
    used: Used = field(default_factory=Used)


class Scheduler:
    """Drains one sweep's queue. `on_progress` is called after every event, on the caller's thread.

    `files` says where checkpoints lie, from which runs go on and with which the stages of a chain begin. A run with
    a parent waits for its end; where the parent has none to give, it fails. `speed` is this machine's, where it is
    known: stacks are as large as it says.
    """

    def __init__(
        self,
        table: Table,
        executor: Executor,
        planned: Plan,
        on_progress: Callable[[Progress], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
        files: Files = NO_FILES,
        *,
        keep_all: bool = False,
        speed: Speed | None = None,
    ) -> None:
        self._table, self._executor, self._plan = table, executor, planned
        self._on_progress, self._clock, self._files = on_progress, clock, files
        self._speed = speed
        self._children: dict[str, list[RunSpec]] = {}
        parents = {run.parent for run in planned.runs if run.parent}
        self._keep = {run.run_id for run in planned.runs if keep_all or run.run_id in parents}
        self._waiting: list[list[RunSpec]] = []
        self._flights: dict[int, _Flight] = {}
        self._losses: Counter[str] = Counter()
        self._records: list[Record] = []
        self._next = 0
        self._interrupts = 0
        self._interrupted_at = 0.0
        self.progress = self._starting_point()
        self._settled_flops = self.progress.spent
        self._charged = float(self._table.frame("runs", planned.sweep)["charged_flops"].sum())
        self._left: dict[str, float] = {}
        self._given: dict[str, float] = {}
        self._work = 0.0
        self._first_event: float | None = None

    def _starting_point(self) -> Progress:
        frame = self._table.frame("runs", self._plan.sweep)
        state = frame["state"].value_counts()
        errors = frame["error"].dropna()
        return Progress(
            self._plan.sweep,
            runs=len(frame),
            flops=int(frame["planned_flops"].sum()),
            done=int(state.get("done", 0)),
            failed=int(state.get("failed", 0)),
            diverged=int(state.get("diverged", 0)),
            spent=float(frame["flops"].sum()),
            best_error=float(errors.min()) if len(errors) else None,
        )

    def drain(self) -> Progress:
        """Train every queued run of the sweep, within its limits; returns where it then stands.

        Ctrl-C once gives runs in flight GRACE seconds to end, queues the others again and returns. Raises
        KeyboardInterrupt on the second, with everything queued again.
        """
        self._started = self._renewed = self._clock()
        queued = self._queued()
        self._waiting = self._bundles(self._ready(queued))
        speed = self._speed or TYPICAL
        self._left = {run.run_id: speed.seconds(b) / len(b) for b in self._bundles(queued) for run in b}
        self._work = sum(self._left.values())
        with self._signals():
            try:
                while self._flights or (self._waiting and not self._interrupts):
                    self._fill()
                    if not self._flights:
                        break  # a limit holds back what waits
                    for event in self._executor.poll(0.5):
                        self._take(event)
                    self._flush()
                    self._report()
                    self._wind_down()
            except BaseException:
                with suppress(Exception):  # where the table itself is why we are here, recover() does it next time
                    self._give_back("interrupted", "its coordinator stopped")
                raise
        return self.progress

    def _bundles(self, runs: list[RunSpec]) -> list[list[RunSpec]]:
        return bundles(runs, self._files.begun, self._speed, self._executor.slots)

    def _queued(self) -> list[RunSpec]:
        """What is to train, with finished runs whose parameters others begin with and which were not kept."""
        planned = {run.run_id: run for run in self._plan.runs}
        while True:
            queued, states = self._table.queued(self._plan.sweep), self._table.states(self._plan.sweep)
            missing = {
                run.parent
                for run in queued
                if run.parent in planned and states[run.parent] == "done" and not self._files.kept(run.parent)
            }
            if not missing:
                return queued
            self._table.move(sorted(missing), "queued", of=["done"], reason="again, for its parameters")

    def _ready(self, queued: list[RunSpec]) -> list[RunSpec]:
        """Those of the queued runs that wait for no other; the others are put behind their parents."""
        states, ready, hopeless = self._table.states(self._plan.sweep), [], []
        for run in queued:
            state = "done" if run.start or not run.parent else states.get(run.parent, "done")
            if state == "done":
                ready.append(run)
            elif state in ("queued", "running"):
                self._children.setdefault(run.parent, []).append(run)
            else:
                hopeless.append((run, state))
        for run, state in hopeless:
            self._end_children(run.parent, state, [run])
        return ready

    def _end_children(self, parent: str, state: str, children: list[RunSpec]) -> None:
        """Fail runs whose parent ended without parameters to begin with, and theirs."""
        for run in children:
            self._table.move([run.run_id], "failed", of=["queued"], reason=f"its parent {parent[:8]} {state}")
            self._left.pop(run.run_id, None)
            self.progress.failed += 1
            self._end_children(run.run_id, "failed", self._children.pop(run.run_id, []))

    def _fill(self) -> None:
        while self._waiting and self._executor.free and not self._interrupts:
            bundle = self._affordable(self._waiting[0])
            if not bundle:
                self._waiting.clear()
                return
            self._waiting.pop(0)
            claimed = self._table.claim([run.run_id for run in bundle])
            runs = [run for run in bundle if run.run_id in claimed]
            if runs:
                self._flights[self._next] = _Flight(runs, claimed)
                keep = self._keep & claimed.keys()
                self._executor.submit(self._next, runs, keep)
                self._next += 1

    def _affordable(self, bundle: list[RunSpec]) -> list[RunSpec]:
        """What of a bundle the sweep's limits still pay for; a message where that is not all of it."""
        limits = self._plan.limits
        if limits.hours is not None and self._clock() - self._started > limits.hours * 3600:
            self.progress.message = f"limits.hours {limits.hours:g} reached; the rest stays queued"
            return []
        if limits.total_flops is None:
            return bundle
        reserved = sum(sum(charged_flops(flight.runs).values()) for flight in self._flights.values())
        left = limits.total_flops - self._charged - reserved
        price, kept = charged_flops(bundle), []
        for run in sorted(bundle, key=lambda run: run.steps or 0):
            left -= price[run.run_id]
            if left >= 0:
                kept.append(run)
        if len(kept) < len(bundle):
            self.progress.message = f"limits.total_flops {limits.total_flops:.3g} reached; the rest stays queued"
        return kept

    def _take(self, event: Event) -> None:
        flight = self._flights[event.bundle]
        if self._first_event is None:
            self._first_event = self._clock()
        if isinstance(event, Recorded):
            self._records.append(event.record)
            flight.spent[event.record.run_id] = event.record.flops
            last = {run.run_id: run.steps for run in flight.runs}[event.record.run_id]
            self._note_error(event.record.error if event.record.step == last else None)
            return
        if isinstance(event, WentOn):
            self._go_on(flight, event.resumed)
            return
        if isinstance(event, Began):
            self._table.began(flight.claimed, event.worker)
            return
        if isinstance(event, Metered):
            flight.used = event.used
            return
        if isinstance(event, Noted):
            self.progress.message = event.text
            self._on_progress(self.progress)
            return
        self._flush()
        del self._flights[event.bundle]
        if isinstance(event, Finished):
            self._finish(flight, event.results)
        elif isinstance(event, Failed):
            self._fail(flight, event)
        else:
            self._lose(flight, event)

    def _go_on(self, flight: _Flight, resumed: Resumed) -> None:
        self._table.resume(resumed, flight.claimed[resumed.run_id])
        flight.spent[resumed.run_id] = flight.began[resumed.run_id] = resumed.flops
        share = resumed.flops / next(run_flops(run) for run in flight.runs if run.run_id == resumed.run_id)
        self._given[resumed.run_id] = self._left[resumed.run_id] * share

    def _finish(self, flight: _Flight, results: list[RunResult]) -> None:
        ended = [result for result in results if result.state != "cancelled"]
        self._table.finish(ended, flight.claimed)
        cancelled = {r.run_id: flight.claimed[r.run_id] for r in results if r.state == "cancelled"}
        self._table.release(cancelled, "interrupted", "stopped before its end")
        for result in ended:
            self._settled_flops += result.flops
            self._charged += result.flops - flight.began.get(result.run_id, 0)
            self._left.pop(result.run_id, None)
            self.progress.done += result.state == "done"
            self.progress.diverged += result.state == "diverged"
            if result.state == "done":
                self._note_error(result.error)
            else:
                self._end_children(result.run_id, result.state, self._children.pop(result.run_id, []))
        free = [run for result in ended for run in self._children.pop(result.run_id, [])]
        if free and not self._interrupts:
            self._waiting += self._bundles(free)

    def _fail(self, flight: _Flight, event: Failed) -> None:
        """A run that fails alone is a failed row; nobody knows whose fault a stack's was, so each goes alone."""
        if len(flight.runs) == 1:
            self._table.fail(flight.claimed, event.reason, event.traceback, event.exception)
            self._left.pop(flight.runs[0].run_id, None)
            self.progress.failed += 1
            self._end_children(flight.runs[0].run_id, "failed", self._children.pop(flight.runs[0].run_id, []))
            return
        self._table.release(flight.claimed, "failed", f"in a stack of {len(flight.runs)}: {event.reason}")
        self._again(flight.runs)

    def _lose(self, flight: _Flight, event: Lost) -> None:
        self._losses.update(run.run_id for run in flight.runs)
        hopeless = {r.run_id for r in flight.runs if self._losses[r.run_id] >= MOST_LOSSES}
        given_up = {run_id: token for run_id, token in flight.claimed.items() if run_id in hopeless}
        self._table.fail(given_up, f"{event.reason}, {MOST_LOSSES} times", "")
        self.progress.failed += len(given_up)
        for run_id in given_up:
            self._end_children(run_id, "failed", self._children.pop(run_id, []))
        rest = {run_id: token for run_id, token in flight.claimed.items() if run_id not in hopeless}
        self._table.release(rest, "lost", event.reason)
        self._again([run for run in flight.runs if run.run_id in rest])

    def _again(self, runs: list[RunSpec]) -> None:
        """Queue runs once more in this session, each alone."""
        self._waiting += [[run] for run in runs]

    def _flush(self) -> None:
        """Write what was recorded since; keep the leases of what is in flight."""
        self._table.record(self._records, {k: v for f in self._flights.values() for k, v in f.claimed.items()})
        self._records.clear()
        if self._clock() - self._renewed > LEASE / 3:
            for flight in self._flights.values():
                self._table.renew(flight.claimed)
            self._renewed = self._clock()

    def _note_error(self, error: float | None) -> None:
        if error is not None:
            best = self.progress.best_error
            self.progress.best_error = error if best is None else min(best, error)

    def _report(self) -> None:
        flying = {r.run_id: flight.spent.get(r.run_id, 0) for flight in self._flights.values() for r in flight.runs}
        now = self.progress
        now.spent = self._settled_flops + sum(flying.values())
        now.running = len(flying)
        now.seconds = self._clock() - self._started
        now.seconds_left = self._seconds_left(flying)
        self._on_progress(now)

    def _seconds_left(self, flying: dict[str, int]) -> float | None:
        """What is left of the predicted work, at the pace of the work done since the workers were warm.

        What a checkpoint gave was no work of this session.
        """
        left = sum(self._left.values()) - sum(
            self._left[run.run_id] * flying[run.run_id] / max(1, run_flops(run))
            for flight in self._flights.values()
            for run in flight.runs
        )
        done = self._work - left - sum(self._given.values())
        if done <= 0 or self._first_event is None:
            return None
        return (self._clock() - self._first_event) * left / done

    def _wind_down(self) -> None:
        if self._flights and self._interrupts and self._clock() - self._interrupted_at > GRACE:
            self._executor.stop()  # again after every poll: a stack that was only about to start did not hear it

    def _give_back(self, outcome: str, reason: str) -> None:
        for flight in self._flights.values():
            self._table.release(flight.claimed, outcome, reason)
        self._flights.clear()

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """The first SIGINT or SIGTERM winds down, the second leaves now."""

        def interrupted(*_: Any) -> None:
            self._interrupts += 1
            self._interrupted_at = self._clock()
            if self._interrupts > 1:
                raise KeyboardInterrupt
            self.progress.message = f"stopping: what ends within {GRACE:g} s is kept; Ctrl-C again to leave now"
            self._on_progress(self.progress)

        try:
            held = {s: signal.signal(s, interrupted) for s in (signal.SIGINT, signal.SIGTERM)}
        except ValueError:  # not the main thread: signals are somebody else's
            yield
            return
        try:
            yield
        finally:
            for number, handler in held.items():
                signal.signal(number, handler)

    @property
    def interrupted(self) -> bool:
        """Whether the sweep was stopped by a signal before its end."""
        return self._interrupts > 0
