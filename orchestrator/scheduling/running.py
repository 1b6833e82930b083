"""The stacks in training: what their workers report, and what that means for each of their runs."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from orchestrator.host.usage import Usage
from orchestrator.scheduling.failures import MOST_LOSSES, is_lost
from orchestrator.store.ends import End
from orchestrator.sweep.planner import run_flops
from orchestrator.workers.executor import Failed, Finished, Left, Lost, Measured, Recorded, WentOn
from orchestrator.workers.worker import OUT_OF_MEMORY

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

    from orchestrator.scheduling.memory import DeviceMemory
    from orchestrator.scheduling.stacks import Chosen
    from orchestrator.workers.executor import Event, Executor
    from orchestrator.workers.worker import Files
    from trainer.result import Record, Resumed, RunResult
    from trainer.spec import RunSpec


@dataclass
class RunningStack:
    """A stack in training: its runs with their fencing tokens, and what its worker has reported.

    `runs` and `tokens` are of the runs that have not left it, `all` are those it began with, `over` those that
    left it as done or diverged. `spent` and `began` are FLOPs, `seen` is when `spent` was known, `losses` the
    (step, training loss) of records. `smoke_test` is the sweep that the stack is the smoke
    test of; such a stack has no tokens.
    """

    runs: dict[str, RunSpec]
    tokens: dict[str, int]
    since: float
    smoke_test: str = ""
    spent: dict[str, int] = field(default_factory=dict)
    began: dict[str, int] = field(default_factory=dict)
    losses: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    usage: Usage = field(default_factory=Usage)
    seen: float | None = None
    all: tuple[RunSpec, ...] = field(init=False)
    over: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.all = tuple(self.runs.values())

    def leave(self, end: End) -> None:
        """Take out a run that has ended before the others."""
        del self.runs[end.run_id], self.tokens[end.run_id]
        if end.state in ("done", "diverged"):
            self.over.append(end.run_id)

    def record(self, record: Record) -> None:
        """Note a record of a run."""
        self.spent[record.run_id] = record.flops
        self.losses.setdefault(record.run_id, []).append((record.step, record.train_loss))

    def resume(self, resumed: Resumed) -> None:
        """Note that a run goes on from a checkpoint."""
        self.spent[resumed.run_id] = self.began[resumed.run_id] = resumed.flops
        self.losses[resumed.run_id] = [(record.step, record.train_loss) for record in resumed.history]

    def share(self, run_id: str) -> float:
        """Return the share of a run's FLOPs that is done."""
        return self.spent.get(run_id, 0) / max(1, run_flops(self.runs[run_id]))

    def own(self, end: End) -> int:
        """Return the FLOPs that an attempt has spent, without those before the checkpoint that it began with."""
        reached = end.result.flops if end.result is not None else self.spent.get(end.run_id, 0)
        return reached - self.began.get(end.run_id, 0)

    def columns(self, now: float, gpu_share: float) -> dict[str, Any]:
        """Return what each attempt has used: the runs of a stack share its energy and its part of a GPU."""
        share = gpu_share / len(self.all)
        energy = None if self.usage.energy is None else self.usage.energy * share
        return {"peak_memory": self.usage.peak_memory, "energy": energy, "gpu_seconds": (now - self.since) * share}


class EndedRun(NamedTuple):
    """The end of an attempt at a run, and the FLOPs that the attempt has spent."""

    run: RunSpec
    end: End
    spent: int


class Running:
    """The stacks in training on an executor, by number.

    `judge` returns the runs that a search prunes, now that it has seen a record.
    """

    def __init__(
        self,
        executor: Executor,
        memory: DeviceMemory,
        files: Files,
        clock: Callable[[], float],
        judge: Callable[[Record], Collection[str]] | None,
    ) -> None:
        self.stacks: dict[int, RunningStack] = {}
        self.numbers = itertools.count()
        self._executor, self._memory, self._files = executor, memory, files
        self._clock, self._judge = clock, judge
        self._leaving: dict[str, tuple[str, str]] = {}
        self._losses: Counter[str] = Counter()

    @property
    def gpu_share(self) -> float:
        """The share of a GPU that a slot has."""
        return self._executor.gpus / max(1, self._executor.slots)

    @property
    def tokens(self) -> dict[str, int]:
        """Fencing tokens of all runs in training."""
        return {run_id: token for stack in self.stacks.values() for run_id, token in stack.tokens.items()}

    def start(self, chosen: Chosen, tokens: Mapping[str, int], keep: Collection[str]) -> list[RunSpec]:
        """Submit what was claimed of a chosen stack; returns the runs that were not, since they are queued no more.

        `tokens` are those of the claimed runs, `keep` the runs whose final parameters are kept.
        """
        runs = {run.run_id: run for run in chosen.runs if chosen.smoke_test or run.run_id in tokens}
        unclaimed = [run for run in chosen.runs if run.run_id not in runs]
        if not runs:
            self._memory.take_back(chosen.number)
            return unclaimed
        own = {run_id: tokens[run_id] for run_id in runs if not chosen.smoke_test}
        self.stacks[chosen.number] = RunningStack(runs, own, self._clock(), chosen.smoke_test)
        tried = self._memory.as_tried(list(runs.values()))
        self._executor.submit(chosen.number, tried, keep & own.keys(), chosen.place)
        return unclaimed

    def end(self, run_ids: Iterable[str], state: str, reason: str) -> None:
        """Have runs leave their stacks and end in a state; those that are not in training are left alone."""
        for run_id in run_ids:
            if any(run_id in stack.runs for stack in self.stacks.values()):
                self._leaving[run_id] = state, reason

    def send_leaving(self) -> None:
        """Tell the workers which runs are to leave: every time, since one that only starts does not hear it."""
        for number, stack in self.stacks.items():
            if leaving := stack.runs.keys() & self._leaving.keys():
                self._executor.leave(number, leaving)

    def give_back(self) -> list[End]:
        """Drop all stacks; returns the ends that queue their runs again."""
        reason = "its coordinator stopped"
        ends = [End(run_id, token, "queued", "interrupted", reason) for run_id, token in self.tokens.items()]
        self.stacks.clear()
        return ends

    def take(self, event: Event) -> list[EndedRun]:
        """Take in an event; returns the runs whose attempts it ends."""
        stack = self.stacks[event.stack]
        match event:
            case Measured():
                stack.usage = event.usage
            case Recorded() if not stack.smoke_test:
                self._record(stack, event.record)
            case WentOn() if not stack.smoke_test:
                stack.resume(event.resumed)
                for record in event.resumed.history:
                    self._prune(record)
            case Left():
                left = self._ended(stack, finished(stack, [event.result], self._leaving))
                for run in left:
                    stack.leave(run.end)
                return left
            case Finished() | Failed() | Lost():
                del self.stacks[event.stack]
                self._memory.take_back(event.stack, stack.all, stack.usage.peak_memory)
                if stack.over and not isinstance(event, Finished):  # their worker cannot do it any more
                    self._files.drop(stack.over)
                return self._ended(stack, self._ends(stack, event) if stack.tokens else [])
        return []

    def _record(self, stack: RunningStack, record: Record) -> None:
        run = stack.runs[record.run_id]
        stack.record(record)
        if record.step != run.steps and is_lost(stack.losses[run.run_id], run.steps or 0, run.classes or 2):
            self.end([run.run_id], "diverged", "its loss stayed above chance")
        self._prune(record)

    def _prune(self, record: Record) -> None:
        if self._judge is not None:
            self.end(self._judge(record), "pruned", f"the search's pruner, at step {record.step}")

    def _ends(self, stack: RunningStack, event: Finished | Failed | Lost) -> list[End]:
        """The ends of what is left in a stack.

        A run that fails alone has failed. Nobody knows whose fault a stack's failure was, so each of its runs is
        queued again, and so is what ran out of memory for as long as it can be tried with less.
        """
        if isinstance(event, Finished):
            return finished(stack, event.results, self._leaving)
        if isinstance(event, Lost):
            self._losses.update(stack.runs.keys())
            return lost(stack, event.reason, self._losses)
        runs, full = list(stack.runs.values()), event.exception == OUT_OF_MEMORY
        again = [run for run in runs if (full and self._memory.exhausted(run)) or len(runs) > 1]
        return failed(stack, event, self._memory.figure(runs[0]) if full and not again else None, again=bool(again))

    def _ended(self, stack: RunningStack, ends: Iterable[End]) -> list[EndedRun]:
        used, ended = stack.columns(self._clock(), self.gpu_share), []
        for end in ends:
            final, (state, reason) = replace(end, used=used), self._leaving.pop(end.run_id, ("", ""))
            if end.state == "queued" and state == "cancelled":  # it was to leave, and its worker died
                final = replace(final, state=state, reason=reason)
            if end.state == "pruned":
                self._files.drop([end.run_id])
            ended.append(EndedRun(stack.runs[end.run_id], final, stack.own(end)))
        return ended


def finished(
    stack: RunningStack, results: Iterable[RunResult], leaving: Mapping[str, tuple[str, str]]
) -> list[End]:
    """Ends of runs with a result; `leaving` holds the state and the reason of runs that were to leave."""
    ends = []
    for result in results:
        if result.run_id not in stack.tokens:  # it had left before
            continue
        state, reason = str(result.state), None
        if state == "cancelled":
            state, reason = leaving.get(result.run_id, ("queued", "stopped before its end"))
        outcome = "interrupted" if state == "queued" else state
        ends.append(End(result.run_id, stack.tokens[result.run_id], state, outcome, reason, result=result))
    return ends


def failed(stack: RunningStack, event: Failed, figure: str | None, *, again: bool) -> list[End]:
    """Ends of a stack that raised: queued `again`, or failed; `figure` says what a run without memory takes."""
    alone = len(stack.runs) == 1
    reason = figure or (event.reason if alone else f"in a stack of {len(stack.runs)}: {event.reason}")
    fields = ("queued" if again else "failed", "failed", reason, event.exception, event.traceback)
    return [End(run_id, token, *fields) for run_id, token in stack.tokens.items()]


def lost(stack: RunningStack, reason: str, losses: Mapping[str, int]) -> list[End]:
    """Ends of a stack whose worker died: queued, or failed where a run has lost as many as MOST_LOSSES."""
    return [
        End(run_id, token, "failed", "lost", f"{reason}, {MOST_LOSSES} times")
        if losses[run_id] >= MOST_LOSSES
        else End(run_id, token, "queued", "lost", reason)
        for run_id, token in stack.tokens.items()
    ]
