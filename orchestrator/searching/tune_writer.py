"""Writes the reports of Ray Tune's actors to the table, in the process that runs Tune's loop."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from ray import tune

from orchestrator.host.process import Process
from orchestrator.store.table import LEASE, End
from orchestrator.workers.worker import Files, Raised
from trainer.result import Record, Resumed, RunResult

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from orchestrator.store.table import Table
    from orchestrator.store.trials import Task
    from orchestrator.workers.worker import Item
    from trainer.spec import RunSpec


class Writer(tune.Callback):
    """Claims the runs of trials, by their numbers, and writes what is said of them.

    Once `interrupted` says so, it ends Tune's loop between two of its steps, by KeyboardInterrupt.
    """

    def __init__(self, table: Table, interrupted: Callable[[], bool]) -> None:
        self._queue, self._interrupted = table.queue, interrupted
        self._claimed: dict[int, dict[str, int]] = {}
        self._step: dict[str, int] = {}
        self._renewed = time.monotonic()

    def on_step_end(self, **_: Any) -> None:  # type: ignore[override]
        """Leave where that is asked; else keep the leases of everything."""
        if self._interrupted():
            raise KeyboardInterrupt
        if time.monotonic() - self._renewed > LEASE / 3:
            self._queue.renew({run: token for claimed in self._claimed.values() for run, token in claimed.items()})
            self._renewed = time.monotonic()

    def claim(self, number: int, runs: Sequence[RunSpec]) -> None:
        """Begin an attempt at runs."""
        self._claimed[number] = self._queue.claim([run.run_id for run in runs])
        self._step |= dict.fromkeys(self._claimed[number], 0)

    def write(self, number: int, item: Item) -> None:
        """Write what a worker has said of runs that are claimed."""
        claimed = self._claimed.get(number, {})
        match item:
            case Process():
                self._queue.began(claimed, item)
            case Record() if item.step > self._step.get(item.run_id, item.step):
                self._queue.record([item], claimed)
                self._step[item.run_id] = item.step
            case Resumed() if self._step.get(item.run_id) == 0:
                self._queue.resume(item, claimed[item.run_id])
                self._step[item.run_id] = item.step
            case Resumed():  # it was paused, and on its way to where it stopped nobody heard it
                for record in item.history:
                    self.write(number, record)
            case Raised():
                self._queue.fail(claimed, item.reason, item.traceback, item.exception)
                self._claimed.pop(number, None)
            case list():
                self._finish(number, item)

    def _finish(self, number: int, results: list[RunResult]) -> None:
        claimed = self._claimed.pop(number, {})
        ended = [result for result in results if result.run_id in claimed and result.state != "cancelled"]
        self._queue.finish(ended, claimed)

    def let_go(self, number: int, state: str, outcome: str, reason: str) -> None:
        """End the attempt at a trial's runs, where there is one."""
        claimed = self._claimed.pop(number, {})
        if claimed:
            self._queue.settle([End(run_id, token, state, outcome, reason) for run_id, token in claimed.items()])

    def release(self) -> None:
        """Queue again whatever is still claimed."""
        for number in list(self._claimed):
            self.let_go(number, "queued", "interrupted", "its coordinator stopped")

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune writes how it was set up to a file that nobody reads."""
        return {}


class TrialWriter(Writer):
    """Claims the runs of trials that Tune starts, and ends them as it ends those."""

    def __init__(self, table: Table, interrupted: Callable[[], bool], files: Files) -> None:
        super().__init__(table, interrupted)
        self._files = files
        self._paused: set[int] = set()

    def on_trial_start(self, *, trial: Any, **_: Any) -> None:  # type: ignore[override]
        """Claim the trial's runs; again where its actor died, not where it was paused and goes on."""
        task: Task = trial.config["task"]
        if task.number in self._paused:
            self._paused.discard(task.number)
            return
        self.let_go(task.number, "queued", "lost", "its actor ended")
        if not task.over:
            self.claim(task.number, task.runs)

    def on_trial_result(self, *, trial: Any, result: dict[str, Any], **_: Any) -> None:  # type: ignore[override]
        """Write what the actor has heard from its worker."""
        for item in result["items"]:
            self.write(trial.config["number"], item)

    def on_trial_complete(self, *, trial: Any, **_: Any) -> None:  # type: ignore[override]
        """What is complete and has no end of its own was stopped by the scheduler."""
        task: Task = trial.config["task"]
        step = (trial.last_result or {}).get("step", 0)
        self.let_go(task.number, "pruned", "pruned", f"Ray Tune's scheduler, at step {step}")
        self._files.drop([run.run_id for run in task.runs])

    def on_trial_error(self, *, trial: Any, **_: Any) -> None:  # type: ignore[override]
        """The actor died more often than it is started again."""
        self.let_go(trial.config["number"], "failed", "lost", "its actor ended again and again")

    def on_step_end(self, *, trials: list[Any], **more: Any) -> None:  # type: ignore[override]
        """See what is paused as well."""
        self._paused |= {trial.config["number"] for trial in trials if trial.status == "PAUSED"}
        super().on_step_end(**more)
