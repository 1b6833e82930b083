"""What waits: stacks of queued runs in the order in which to start them, and runs behind their parents."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from orchestrator.host.speed import TYPICAL, Speed
from orchestrator.scheduling.stacks import group_into_stacks

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from orchestrator.store.table import Table
    from orchestrator.workers.worker import Files
    from trainer.spec import RunSpec


class Orphan(NamedTuple):
    """A run whose parent ended without parameters to begin with, and how that ended."""

    run: RunSpec
    reason: str


class ReadyQueue:
    """Queued runs of some sweeps, read from the table whenever somebody has changed the queue.

    Sweeps go in the order given, each by `stacks`; a higher priority goes before all of it.
    """

    def __init__(self, table: Table, files: Files, speed: Speed | None, slots: int) -> None:
        self._table, self._files, self._speed, self._slots = table, files, speed, slots
        self._alone: set[str] = set()
        self._begun: dict[str, int] = {}
        self._children: dict[str, list[RunSpec]] = {}
        self.standing: dict[str, dict[str, Any]] = {}
        self.waiting: list[list[RunSpec]] = []

    def read(self, sweeps: Sequence[str], scope: Sequence[str]) -> list[Orphan]:
        """Take in what is queued of sweeps now, some of those in scope; returns what waits in vain."""
        queued = {sweep: self._queued(sweep) for sweep in sweeps}
        self.standing = self._table.standing(scope)
        self._begun = self._files.begun()
        self._children, self.waiting = {}, []
        orphans, seen = list[Orphan](), set[str]()
        for runs in queued.values():
            new = [run for run in runs if run.run_id not in seen]
            seen |= {run.run_id for run in new}
            self._wait([run for run in new if self._is_ready(run, orphans)])
        return orphans

    def _queued(self, sweep: str) -> list[RunSpec]:
        """What is to train, with finished runs whose parameters others begin with and which were not kept."""
        while True:
            queued, states = self._table.queued(sweep), self._table.states(sweep)
            parents = {run.parent for run in queued if run.parent}
            done = {parent for parent in parents if states.get(parent) == "done"}
            missing = done - self._files.kept() if done else done  # after the states: a run keeps, then is done
            if not missing:
                return queued
            self._table.queue.move(sorted(missing), "queued", of=["done"], reason="again, for its parameters")

    def _is_ready(self, run: RunSpec, orphans: list[Orphan]) -> bool:
        """Whether a run waits for no other; else it is put behind its parent, or is an orphan."""
        if run.start or not run.parent or run.parent not in self.standing:
            return True
        state = self.standing[run.parent]["state"]
        if state in ("queued", "running", "blocked"):
            self._children.setdefault(run.parent, []).append(run)
        elif state != "done":
            orphans.append(Orphan(run, f"its parent {run.parent[:8]} {state}"))
        return bool(state == "done")

    def _wait(self, runs: Iterable[RunSpec]) -> None:
        runs = list(runs)
        alone = [[run] for run in runs if run.run_id in self._alone]
        together = [run for run in runs if run.run_id not in self._alone]
        self.waiting += self.in_stacks(together) + alone
        self.waiting.sort(key=lambda stack: -self._priority(stack[0]))  # stable

    def in_stacks(self, runs: Sequence[RunSpec]) -> list[list[RunSpec]]:
        """Runs in stacks of one priority, in the order in which to start them."""
        by_priority: dict[int, list[RunSpec]] = {}
        for run in runs:
            by_priority.setdefault(self._priority(run), []).append(run)
        return [
            stack
            for some in by_priority.values()
            for stack in group_into_stacks(some, self._step, self._speed, self._slots)
        ]

    def _step(self, run: RunSpec) -> int:
        """The step after which a run goes on, as it was when the queue was read: who ends later goes on alone."""
        return self._begun.get(run.run_id, 0)

    def _priority(self, run: RunSpec) -> int:
        row = self.standing.get(run.run_id)
        return 0 if row is None else int(row["priority"])

    def predicted(self) -> dict[str, float]:
        """Seconds of training of every run that waits, by run_id."""
        speed = self._speed or TYPICAL
        behind = self.in_stacks([run for children in self._children.values() for run in children])
        return {run.run_id: speed.seconds(b) / len(b) for b in [*self.waiting, *behind] for run in b}

    def again(self, runs: Iterable[RunSpec]) -> None:
        """Have runs wait once more, each alone from now on: nobody knows whose fault it was."""
        runs = list(runs)
        self._alone |= {run.run_id for run in runs}
        self._wait(runs)

    def ended(self, run_id: str, state: str) -> list[Orphan]:
        """Let go what waited for a run that is done; returns who waited in vain, where it is not."""
        children = self._children.pop(run_id, [])
        if state == "done":
            self._wait(children)
            return []
        found = [Orphan(run, f"its parent {run_id[:8]} {state}") for run in children]
        return found + [orphan for run in children for orphan in self.ended(run.run_id, "failed")]
