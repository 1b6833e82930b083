"""The progress of sweeps in training: what has ended, what was spent, and how long the rest will take."""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from orchestrator.text import count, duration, escape, flops, number
from orchestrator.workers.executor import Left, Noted, Recorded, StackEnd, WentOn

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from orchestrator.scheduling.running import RunningStack
    from orchestrator.scheduling.write_buffer import Move, WriteBuffer
    from orchestrator.workers.executor import Event
    from trainer.result import RunResult
    from trainer.spec import RunSpec

NEXT = 16
"""Stacks that wait whose order is looked at for the time left; of more, the mean is good enough."""
TOLD = 2.0
"""Seconds between two notes of progress in the table."""


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
            f"{self.ended}/{count(self.runs, 'run')}",
            f"{self.share:.0%} of {flops(self.flops)} FLOPs",
            *([f"{duration(self.seconds_left)} left"] if self.ended < self.runs else []),
            *([f"best error {number(self.best_error)}"] if self.best_error is not None else []),
            *([f"{self.failed + self.diverged} failed or diverged"] if self.failed + self.diverged else []),
            *([f"{self.blocked} blocked"] if self.blocked else []),
        ]
        return "  ".join(parts)

    def _repr_html_(self) -> str:
        """A bar with the line beside it, for notebooks."""
        return f'<div><progress max="1" value="{self.share:.3f}"></progress> {escape(str(self))}</div>'

    def note_error(self, error: float | None) -> None:
        """Take in the error of a run that is done, for the best error."""
        if error is not None:
            self.best_error = error if self.best_error is None else min(self.best_error, error)


def progress_of(rows: Iterable[Mapping[str, Any]]) -> Progress:
    """Return the progress of sweeps from their rows of `Table.sweeps`."""
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


class Training(NamedTuple):
    """A stack in training: the share done of each of its runs, the seconds until that was known, and since then."""

    shares: Mapping[str, float]
    known: float
    since: float


class Pace:
    """Predicts the seconds left: what is left of every stack, on workers as fast as they were so far.

    The share of FLOPs would mislead: small models come first and train at few FLOP/s.
    """

    def __init__(self) -> None:
        self._left: dict[str, float] = {}
        self._work = self._given = self._sum = self._spent = 0.0
        self._slots = 1

    def expect(self, seconds: Mapping[str, float], training: Collection[str]) -> None:
        """Take in the predicted seconds of what waits, by run_id; what neither waits nor trains is dropped."""
        for run_id in self._left.keys() - seconds.keys() - set(training):
            self._work -= self._left.pop(run_id)
        for run_id in seconds.keys() - self._left.keys():
            self._left[run_id] = seconds[run_id]
            self._work += seconds[run_id]
        self._sum = sum(self._left.values())

    def ended(self, run_id: str) -> None:
        """Note that a run has ended in any way."""
        self._sum -= self._left.pop(run_id, 0.0)
        if not self._left:
            self._sum = 0.0  # not a rounding error of many differences

    def went_on(self, run_id: str, share: float) -> None:
        """Note that a run came with a share of its work done, which is no work of this session."""
        self._given += self._left.get(run_id, 0.0) * share

    def spent(self, seconds: float) -> None:
        """Note what a worker has spent on a stack that has ended."""
        self._spent += seconds

    def seconds_left(self, training: Sequence[Training], waiting: Sequence[Sequence[RunSpec]]) -> float | None:
        """Return the seconds left; None where nothing is done yet.

        The next NEXT of the stacks that wait go to the workers one by one, the others to all of them.
        """
        self._slots = max(self._slots, len(training))
        whole = [sum(self._left.get(run_id, 0.0) for run_id in stack.shares) for stack in training]
        done = [sum(self._left.get(r, 0.0) * share for r, share in stack.shares.items()) for stack in training]
        work = self._work - self._sum + sum(done) - self._given
        seconds = self._spent + sum(stack.known for stack in training)
        if work <= 0 or seconds <= 0:
            return None
        pace = seconds / work
        rest = zip(training, whole, done, strict=True)
        loads = [max(0.0, all_ - known - stack.since / pace) for stack, all_, known in rest]
        loads += [0.0] * (self._slots - len(loads))
        coming = [sum(self._left.get(run.run_id, 0.0) for run in stack) for stack in waiting[:NEXT]]
        later = max(0.0, self._sum - sum(whole) - sum(coming))
        heapq.heapify(loads)
        for stack_seconds in coming:
            heapq.heapreplace(loads, loads[0] + stack_seconds)
        return pace * max(*loads, (sum(loads) + later) / self._slots)


class Tally:
    """The progress of a session, kept up to date as events come; `on_progress` is called with it."""

    def __init__(self, on_progress: Callable[[Progress], None], clock: Callable[[], float]) -> None:
        self.progress = progress_of([])
        self._on_progress, self._clock = on_progress, clock
        self._pace = Pace()
        self._settled = 0.0
        self._started = self._told = clock()

    def read(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Take in where the sweeps stand, rows of `Table.sweeps`."""
        message, self.progress = self.progress.message, progress_of(rows)
        self.progress.message, self._settled = message, self.progress.spent

    def expect(self, predicted: Mapping[str, float], running: Iterable[RunningStack]) -> None:
        """Take in the predicted seconds of what waits, by run_id."""
        self._pace.expect(predicted, {run_id for stack in running for run_id in stack.runs})

    def take(self, event: Event, stack: RunningStack) -> None:
        """Take in an event of a stack, after the stack itself."""
        now = self._clock()
        if isinstance(event, Recorded | Left | WentOn):
            stack.seen = now
        elif isinstance(event, StackEnd):
            self._pace.spent(now - stack.since)
        match event:
            case Recorded(record=record) if record.step == stack.runs[record.run_id].steps:
                self.progress.note_error(record.error)
            case WentOn(resumed=resumed):
                self._pace.went_on(resumed.run_id, stack.share(resumed.run_id))
            case Noted():
                self.say(event.text)

    def ended(self, run_id: str, state: str, result: RunResult | None = None) -> None:
        """Count a run in a state in which it stays."""
        if result is not None:
            self._settled += result.flops
            self.progress.note_error(result.error if state == "done" else None)
        self._pace.ended(run_id)
        setattr(self.progress, state, getattr(self.progress, state) + 1)

    def moved(self, moves: Iterable[Move]) -> None:
        """Count queued runs that have failed, or are blocked, which is said."""
        for run_id, state, reason in moves:
            if state == "failed":
                self.ended(run_id, state)
            elif state == "blocked":
                self.progress.blocked += 1
                message = f"{reason}; the rest is blocked"
                if message != self.progress.message:
                    self.say(message)

    def show(self, running: Iterable[RunningStack], waiting: Sequence[Sequence[RunSpec]] = ()) -> None:
        """Bring the progress up to date with the stacks in training and those that wait, and show it."""
        now, running = self._clock(), [stack for stack in running if not stack.smoke_test]
        self.progress.spent = self._settled + sum(sum(stack.spent.values()) for stack in running)
        self.progress.running, self.progress.seconds = (
            sum(len(stack.runs) for stack in running),
            now - self._started,
        )
        self.progress.seconds_left = self._pace.seconds_left([_training(stack, now) for stack in running], waiting)
        self._on_progress(self.progress)

    def tell(
        self, buffer: WriteBuffer, seconds: Mapping[str, float], running: Collection[int], *, over: bool = False
    ) -> None:
        """Every TOLD seconds, and when it is `over`, note the times of sweeps and the message for the table."""
        now = self._clock()
        if not over and now - self._told <= TOLD:
            return
        self._told, left = now, None if over else self.progress.seconds_left
        message = (running and self.progress.message) or None
        for sweep, spent in seconds.items():
            buffer.tell(sweep, seconds=spent, seconds_left=left, message=message)

    def say(self, message: str) -> None:
        """Show a message with the progress."""
        self.progress.message = message
        self._on_progress(self.progress)


def _training(stack: RunningStack, now: float) -> Training:
    seen = stack.since if stack.seen is None else stack.seen
    return Training({run_id: stack.share(run_id) for run_id in stack.runs}, seen - stack.since, now - seen)
