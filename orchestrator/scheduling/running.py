"""A stack in training, and what its end means for each of its runs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from orchestrator.host.usage import Usage
from orchestrator.store.table import End
from orchestrator.sweep.planner import run_flops

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from orchestrator.workers.executor import Failed
    from trainer.result import Record, Resumed, RunResult
    from trainer.spec import RunSpec


@dataclass
class RunningStack:
    """A stack in training: its runs, their fencing tokens, and what is known of them so far.

    `smoke_test` is the sweep that it is the smoke test of, if it is one.

    `spent` and `began` are FLOPs, `losses` (step, training loss) of the records. `all` are the runs that it began
    with, `runs` and `claimed` what has not left it, `over` what left it as done or diverged.
    """

    runs: dict[str, RunSpec]
    claimed: dict[str, int]
    since: float
    smoke_test: str = ""
    spent: dict[str, int] = field(default_factory=dict)
    began: dict[str, int] = field(default_factory=dict)
    losses: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    used: Usage = field(default_factory=Usage)
    all: tuple[RunSpec, ...] = field(init=False)
    over: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.all = tuple(self.runs.values())

    def leave(self, end: End) -> None:
        """A run has ended before the others."""
        del self.runs[end.run_id], self.claimed[end.run_id]
        if end.state in ("done", "diverged"):
            self.over.append(end.run_id)

    def record(self, record: Record) -> None:
        """Take in a record."""
        self.spent[record.run_id] = record.flops
        self.losses.setdefault(record.run_id, []).append((record.step, record.train_loss))

    def go_on(self, resumed: Resumed) -> None:
        """Take in that a run goes on from a checkpoint."""
        self.spent[resumed.run_id] = self.began[resumed.run_id] = resumed.flops
        self.losses[resumed.run_id] = [(record.step, record.train_loss) for record in resumed.history]

    def share(self, run_id: str) -> float:
        """Share of a run's FLOPs that is done."""
        return self.spent.get(run_id, 0) / max(1, run_flops(self.runs[run_id]))

    def own(self, end: End) -> int:
        """FLOPs that an attempt spent by its end."""
        reached = end.result.flops if end.result is not None else self.spent.get(end.run_id, 0)
        return reached - self.began.get(end.run_id, 0)

    def columns(self, now: float, gpu_share: float) -> dict[str, Any]:
        """What each of its attempts used: the runs of a stack share its energy and its part of a GPU."""
        share = gpu_share / len(self.all)
        energy = None if self.used.energy is None else self.used.energy * share
        return {"peak_memory": self.used.peak_memory, "energy": energy, "gpu_seconds": (now - self.since) * share}


def finished(
    running: RunningStack, results: Iterable[RunResult], asked: Mapping[str, tuple[str, str]], used: dict[str, Any]
) -> list[End]:
    """Ends of what has ended of a stack; `asked` are runs that had to leave, into which state and why."""
    ends = []
    for result in results:
        if result.run_id not in running.claimed:  # it had left before
            continue
        state, reason = str(result.state), None
        if state == "cancelled":
            state, reason = asked.get(result.run_id, ("queued", "stopped before its end"))
        outcome = "interrupted" if state == "queued" else state
        token = running.claimed[result.run_id]
        ends.append(End(result.run_id, token, state, outcome, reason, result=result, used=used))
    return ends


def failed(
    running: RunningStack, event: Failed, figure: str | None, *, again: bool, used: dict[str, Any]
) -> list[End]:
    """Ends of a stack that raised: queued `again`, or failed, out of memory with the figure of what it takes."""
    alone = len(running.runs) == 1
    reason = figure or (event.reason if alone else f"in a stack of {len(running.runs)}: {event.reason}")
    said = ("queued" if again else "failed", "failed", reason, event.exception, event.traceback)
    return [End(run_id, token, *said, used=used) for run_id, token in running.claimed.items()]


def lost(
    running: RunningStack, reason: str, hopeless: Collection[str], most: int, used: dict[str, Any]
) -> list[End]:
    """Ends of a stack whose worker died, for the `most`th time under those that are hopeless."""
    return [
        End(run_id, token, "failed", "lost", f"{reason}, {most} times", used=used)
        if run_id in hopeless
        else End(run_id, token, "queued", "lost", reason, used=used)
        for run_id, token in running.claimed.items()
    ]
