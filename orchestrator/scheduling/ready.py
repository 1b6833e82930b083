"""The queued stacks in the order in which they start, and runs that wait for their parents."""

from __future__ import annotations

import bisect
import itertools
from typing import TYPE_CHECKING, Any

from orchestrator.scheduling.stacks import group_into_stacks, shares
from orchestrator.scheduling.write_buffer import Move

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from orchestrator.scheduling.options import SchedulerOptions
    from orchestrator.store.table import Standing, Table
    from trainer.spec import RunSpec


class ReadyQueue:
    """Queued runs of some sweeps, read from the table whenever somebody has changed the queue.

    `kept` are the runs whose final parameters are kept, `standing` the state, parent, priority and sweeps of every
    run. `stale` asks for a new reading. Sweeps go in the order given, each in that of `group_into_stacks`; a higher
    priority goes before all of it. What an end costs does not grow with the number of runs that wait.
    """

    def __init__(self, table: Table, sweeps: Iterable[str], options: SchedulerOptions, slots: int) -> None:
        self._table, self._sweeps, self._options, self._slots = table, list(sweeps), options, slots
        self._alone: set[str] = set()
        self._begun: dict[str, int] = {}
        self._children: dict[str, list[RunSpec]] = {}
        self.paused: dict[str, str] = {}
        self.standing: dict[str, Standing] = {}
        self.kept: set[str] = set()
        self.stale = True
        self._waiting: list[list[RunSpec]] = []
        self._released: dict[int, list[RunSpec]] = {}

    def add(self, sweeps: Iterable[str]) -> None:
        """Have the queue read anew, with further sweeps."""
        self._sweeps += [name for name in sweeps if name not in self._sweeps]
        self.stale = True

    def unblock(self) -> list[dict[str, Any]]:
        """Queue blocked runs again, since the limits may have been raised; returns the sweeps' rows."""
        rows = self._rows()
        if any(row["blocked"] for row in rows):
            self._table.queue.move(self._table.standing(self._sweeps), "queued", of=["blocked"])
            rows = self._rows()
        self.paused = {row["sweep"]: row["paused"] for row in rows if row["paused"]}
        return rows

    def _rows(self) -> list[dict[str, Any]]:
        return [row for row in self._table.sweeps() if row["sweep"] in self._sweeps]

    def read(self, holds: Callable[[str, Sequence[RunSpec]], bool] = lambda *_: False) -> list[Move]:
        """Take in what is queued, of sweeps not paused; returns the runs that wait in vain, as failed.

        `holds` says of a sweep and its queued runs whether they are held back.
        """
        going = [(sweep, self._queued(sweep)) for sweep in self._sweeps if sweep not in self.paused]
        queued = [runs for sweep, runs in going if not holds(sweep, runs)]
        self.standing = self._table.standing(self._sweeps)
        parents = {row.parent for row in self.standing.values() if row.parent}
        self.kept = set(self.standing) if self._options.keep_all else parents
        self._begun = self._options.files.begun()
        self._children, self._waiting, self._released, self.stale = {}, [], {}, False
        orphans, seen = list[Move](), set[str]()
        for runs in queued:
            new = [run for run in runs if run.run_id not in seen]
            seen |= {run.run_id for run in new}
            ready = [run for run in new if self._is_ready(run, orphans)]
            self._waiting += self._in_stacks([run for run in ready if run.run_id not in self._alone])
            self._waiting += [[run] for run in ready if run.run_id in self._alone]
        self._waiting.sort(key=self._rank)  # stable
        return [move for orphan in orphans for move in (orphan, *self.ended(orphan.run_id, "failed"))]

    @property
    def owners(self) -> dict[str, Sequence[str]]:
        """The sweeps of every run."""
        return {run_id: row.sweeps for run_id, row in self.standing.items()}

    def _queued(self, sweep: str) -> list[RunSpec]:
        """Queued runs, with finished ones whose parameters others begin with and which were not kept."""
        while True:
            queued, states = self._table.queued(sweep), self._table.states(sweep)
            parents = {run.parent for run in queued if run.parent}
            done = {parent for parent in parents if states.get(parent) == "done"}
            # listed after the states: a run's parameters are kept before it is done
            missing = done - self._options.files.kept() if done else done
            if not missing:
                return queued
            self._table.queue.move(sorted(missing), "queued", of=["done"], reason="again, for its parameters")

    def _is_ready(self, run: RunSpec, orphans: list[Move]) -> bool:
        """Return whether a run waits for no other; else it waits for its parent, or is added to the orphans."""
        if run.start or not run.parent or run.parent not in self.standing:
            return True
        state = self.standing[run.parent].state
        if state in ("queued", "running", "blocked"):
            self._children.setdefault(run.parent, []).append(run)
        elif state != "done":
            orphans.append(_orphan(run, state))
        return bool(state == "done")

    def __bool__(self) -> bool:
        """Whether any run waits that could start."""
        return bool(self._waiting or self._released)

    @property
    def waiting(self) -> list[list[RunSpec]]:
        """The stacks in the order in which they start; whoever starts one takes it out.

        Runs that ends of their parents have released are put into stacks only when it is their turn, or no more
        stacks wait than there are slots: with others by then, where alone each would be a stack of its own.
        """
        for priority in sorted(self._released, reverse=True):
            if len(self._waiting) < max(1, self._slots) or priority > -self._rank(self._waiting[0]):
                self._insert(self._in_stacks(self._released.pop(priority)))
        return self._waiting

    def _insert(self, stacks: Iterable[list[RunSpec]]) -> None:
        """Have stacks wait behind those of their priority."""
        for stack in stacks:
            bisect.insort(self._waiting, stack, key=self._rank)

    def _in_stacks(self, runs: Iterable[RunSpec]) -> list[list[RunSpec]]:
        """Return runs in stacks of one priority, in the order in which they start."""
        by_priority: dict[int, list[RunSpec]] = {}
        for run in runs:
            by_priority.setdefault(self._priority(run), []).append(run)
        return [
            stack
            for some in by_priority.values()
            for stack in group_into_stacks(some, self._step, self._options.speed, self._slots)
        ]

    def _rank(self, stack: Sequence[RunSpec]) -> int:
        return -self._priority(stack[0])

    def _step(self, run: RunSpec) -> int:
        """The step after which a run goes on, as of the last reading: a run that ended since goes on alone."""
        return self._begun.get(run.run_id, 0)

    def _priority(self, run: RunSpec) -> int:
        row = self.standing.get(run.run_id)
        return 0 if row is None else row.priority

    def predicted(self) -> dict[str, float]:
        """Return the predicted seconds of every run that waits, by run_id: its steps' share of its stack's."""
        speed = self._options.speed
        later = itertools.chain(*self._children.values(), *self._released.values())
        stacks = [*self._waiting, *self._in_stacks(later)]
        return {run_id: own for stack in stacks for run_id, own in shares(stack, speed.seconds(stack)).items()}

    def again(self, run: RunSpec) -> None:
        """Have a run wait once more, alone from now on: nobody knows whose fault it was."""
        self._alone.add(run.run_id)
        self._insert([[run]])

    def ended(self, run_id: str, state: str) -> list[Move]:
        """Release what waited for a run that is done; where it is not, returns who waited in vain, failed."""
        children = self._children.pop(run_id, [])
        if state == "done":
            for run in children:
                self._released.setdefault(self._priority(run), []).append(run)
            return []
        orphans = [_orphan(run, state) for run in children]
        return orphans + [move for run in children for move in self.ended(run.run_id, "failed")]


def _orphan(run: RunSpec, state: str) -> Move:
    """A run fails whose parent ended without parameters to begin with."""
    return Move(run.run_id, "failed", f"its parent {(run.parent or '')[:8]} {state}")
