"""What Ray Tune's actors say, written to our table in the process of Tune's loop: the one that writes it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from ray import tune

from orchestrator.process import Process
from orchestrator.table import LEASE, End
from orchestrator.trials import ENDED, standings
from orchestrator.worker import Files, Raised
from trainer.result import Record, Resumed, RunResult

if TYPE_CHECKING:
    from orchestrator.table import Table
    from orchestrator.trials import Task
    from orchestrator.worker import Item


class Coordinator(tune.Callback):
    """Claims the runs of trials that Tune starts, and ends them as it ends those."""

    def __init__(self, table: Table, tasks: dict[int, Task], files: Files) -> None:
        self._table, self._tasks, self._files = table, tasks, files
        self._claimed: dict[int, dict[str, int]] = {}
        self._paused: set[int] = set()
        self._step: dict[str, int] = {}
        self._renewed = time.monotonic()

    def on_trial_start(self, *, trial: Any, **_: Any) -> None:  # type: ignore[override]
        """Claim the trial's runs; again where its actor died, not where it was paused and goes on."""
        number = trial.config["number"]
        if number in self._paused:
            self._paused.discard(number)
            return
        self._let_go(number, "queued", "lost", "its actor ended")
        if not self._tasks[number].over:
            self._claimed[number] = self._table.claim([run.run_id for run in self._tasks[number].runs])
            self._step |= dict.fromkeys(self._claimed[number], 0)

    def on_trial_result(self, *, trial: Any, result: dict[str, Any], **_: Any) -> None:  # type: ignore[override]
        """Write what the actor has heard from its worker."""
        for item in result["items"]:
            self._write(trial.config["number"], item)

    def _write(self, number: int, item: Item) -> None:
        claimed = self._claimed.get(number, {})
        match item:
            case Process():
                self._table.began(claimed, item)
            case Record() if item.step > self._step[item.run_id]:
                self._table.record([item], claimed)
                self._step[item.run_id] = item.step
            case Resumed() if not self._step[item.run_id]:  # else it was paused, and all of this is written
                self._table.resume(item, claimed[item.run_id])
                self._step[item.run_id] = item.step
            case Raised():
                self._table.fail(claimed, item.reason, item.traceback, item.exception)
                self._claimed.pop(number, None)
            case list():
                self._finish(number, item)

    def _finish(self, number: int, results: list[RunResult]) -> None:
        claimed = self._claimed.pop(number, {})
        ended = [result for result in results if result.run_id in claimed and result.state != "cancelled"]
        self._table.finish(ended, claimed)

    def on_trial_complete(self, *, trial: Any, **_: Any) -> None:  # type: ignore[override]
        """What is complete and has no end of its own was stopped by the scheduler."""
        number = trial.config["number"]
        step = (trial.last_result or {}).get("step", 0)
        self._let_go(number, "pruned", "pruned", f"Ray Tune's scheduler, at step {step}")
        self._files.drop([run.run_id for run in self._tasks[number].runs])

    def on_trial_error(self, *, trial: Any, **_: Any) -> None:  # type: ignore[override]
        """The actor died more often than it is started again."""
        self._let_go(trial.config["number"], "failed", "lost", "its actor ended again and again")

    def on_step_end(self, *, trials: list[Any], **_: Any) -> None:  # type: ignore[override]
        """See what is paused, and keep the leases of everything."""
        self._paused |= {trial.config["number"] for trial in trials if trial.status == "PAUSED"}
        if time.monotonic() - self._renewed > LEASE / 3:
            self._table.renew({run: token for claimed in self._claimed.values() for run, token in claimed.items()})
            self._renewed = time.monotonic()

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune writes how it was set up to a file that nobody reads."""
        return {}

    def release(self) -> bool:
        """Queue again whatever is still claimed; whether anything of the tasks is not over."""
        for number in list(self._claimed):
            self._let_go(number, "queued", "interrupted", "its coordinator stopped")
        ids = [run.run_id for task in self._tasks.values() for run in task.runs]
        return any(run.state not in ENDED for run in standings(self._table, ids).values())

    def _let_go(self, number: int, state: str, outcome: str, reason: str) -> None:
        claimed = self._claimed.pop(number, {})
        if claimed:
            self._table.settle([End(run_id, token, state, outcome, reason) for run_id, token in claimed.items()])
