"""The progress of sweeps in training: what has ended, what was spent, and how long the rest will take."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

from orchestrator.text import duration, flops

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from orchestrator.scheduling.running import RunningStack
    from trainer.result import RunResult


@dataclass
class Progress:
    """The progress of one or several sweeps.

    The number of runs by state; `flops` planned and `spent` (of runs in training up to their last record);
    `best_error` in [0, 1]; `seconds` of this session and `seconds_left` as predicted, None if unknown; and the
    newest `message` to the user.
    """

    sweep: str
    runs: int
    flops: int
    done: int = 0
    failed: int = 0
    diverged: int = 0
    pruned: int = 0
    cancelled: int = 0
    blocked: int = 0
    running: int = 0
    spent: float = 0.0
    best_error: float | None = None
    seconds: float = 0.0
    seconds_left: float | None = None
    message: str = ""

    @property
    def ended(self) -> int:
        """Runs that have ended; they train again only on request."""
        return self.done + self.failed + self.diverged + self.pruned + self.cancelled

    @property
    def share(self) -> float:
        """The share of the planned FLOPs that is spent, in [0, 1]."""
        return min(1.0, self.spent / self.flops) if self.flops else 1.0

    def __str__(self) -> str:
        """One line: `quickstart  120/240 runs  45% of 1.1e11 FLOPs  12 s left  best error 0.025`."""
        parts = [
            self.sweep,
            f"{self.ended}/{self.runs} runs",
            f"{self.share:.0%} of {flops(self.flops)} FLOPs",
            *([f"{duration(self.seconds_left)} left"] if self.ended < self.runs else []),
            *([f"best error {self.best_error:.3g}"] if self.best_error is not None else []),
            *([f"{self.failed + self.diverged} failed or diverged"] if self.failed + self.diverged else []),
            *([f"{self.blocked} blocked"] if self.blocked else []),
        ]
        return "  ".join(parts)

    def _repr_html_(self) -> str:
        """A bar with the line beside it, for notebooks."""
        return f'<div><progress max="1" value="{self.share:.3f}"></progress> {escape(str(self))}</div>'

    def note_error(self, error: float | None) -> None:
        """Take in the error of a run that is done."""
        if error is not None:
            self.best_error = error if self.best_error is None else min(self.best_error, error)


def progress_of(rows: Iterable[Mapping[str, Any]]) -> Progress:
    """Where sweeps stand, from their rows of `Table.sweeps`."""
    rows = list(rows)
    errors = [row["best_error"] for row in rows if row["best_error"] is not None]
    states = ("runs", "done", "failed", "diverged", "pruned", "cancelled", "blocked", "running")
    return Progress(
        ", ".join(row["sweep"] for row in rows),
        flops=sum(row["planned_flops"] for row in rows),
        spent=float(sum(row["flops"] or 0 for row in rows)),
        best_error=min(errors, default=None),
        **{state: sum(row[state] for row in rows) for state in states},
    )


class Pace:
    """Seconds left: what is left of the predicted work, at the pace of the work done since the first event.

    The share of FLOPs would mislead: small models come first and make few FLOP/s.
    """

    def __init__(self) -> None:
        self._left: dict[str, float] = {}
        self._work = self._given = 0.0

    def expect(self, seconds: Mapping[str, float], flying: Collection[str]) -> None:
        """Take in what waits: predicted seconds by run_id. What neither waits nor flies is expected no more."""
        for run_id in self._left.keys() - seconds.keys() - set(flying):
            self._work -= self._left.pop(run_id)
        for run_id in seconds.keys() - self._left.keys():
            self._left[run_id] = seconds[run_id]
            self._work += seconds[run_id]

    def ended(self, run_id: str) -> None:
        """A run's work is done, one way or the other."""
        self._left.pop(run_id, None)

    def went_on(self, run_id: str, share: float) -> None:
        """A run came with a share of its work done: no work of this session."""
        self._given += self._left.get(run_id, 0.0) * share

    def seconds_left(self, flying: Mapping[str, float], seconds: float) -> float | None:
        """Seconds left, `seconds` after the first event; None where nothing was done yet.

        `flying` are shares done of the runs in training.
        """
        left = sum(self._left.values()) - sum(self._left.get(r, 0.0) * share for r, share in flying.items())
        done = self._work - left - self._given
        return seconds * left / done if done > 0 else None


class Tally:
    """The progress of a session, kept up to date as runs end. Times are of the scheduler's clock."""

    def __init__(self) -> None:
        self.progress = progress_of([])
        self._pace = Pace()
        self._settled = 0.0
        self._started = 0.0
        self._first: float | None = None

    def start(self, now: float) -> None:
        """The session begins."""
        self._started = now

    def read(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Take in where the sweeps stand, rows of `Table.sweeps`."""
        message, self.progress = self.progress.message, progress_of(rows)
        self.progress.message, self._settled = message, self.progress.spent

    def expect(self, predicted: Mapping[str, float], running_stacks: Iterable[RunningStack]) -> None:
        """Take in how long what waits will take, by run_id."""
        self._pace.expect(predicted, {run_id for running in running_stacks for run_id in running.runs})

    def heard(self, now: float) -> None:
        """A worker trains: from here on the pace is measured."""
        if self._first is None:
            self._first = now

    def went_on(self, run_id: str, running: RunningStack) -> None:
        """A run goes on from a checkpoint."""
        self._pace.went_on(run_id, running.share(run_id))

    def ended(self, run_id: str, state: str, result: RunResult | None = None) -> None:
        """A run has come to a state from which it does not go on by itself."""
        if result is not None:
            self._settled += result.flops
            self.progress.note_error(result.error if state == "done" else None)
        self._pace.ended(run_id)
        setattr(self.progress, state, getattr(self.progress, state) + 1)

    def now(self, running_stacks: Iterable[RunningStack], now: float) -> Progress:
        """The progress with what is in training."""
        running_stacks = [running for running in running_stacks if not running.smoke_test]
        flying = {run_id: running.share(run_id) for running in running_stacks for run_id in running.runs}
        self.progress.spent = self._settled + sum(sum(running.spent.values()) for running in running_stacks)
        self.progress.running, self.progress.seconds = len(flying), now - self._started
        if self._first is not None:
            self.progress.seconds_left = self._pace.seconds_left(flying, now - self._first)
        return self.progress
