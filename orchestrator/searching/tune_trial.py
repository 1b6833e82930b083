"""Trials under ASHA and HyperBand of Ray Tune: the actor that trains them, its writer, and the schedulers.

An actor trains up to the next evaluation at every step. Beside the metric, a step returns whatever the worker
reports, which `TrialWriter` writes: the actor has no table. A trial that ended in an earlier session is not
trained again: its recorded curve is replayed, so that the scheduler compares others with it. To have it decide as
it did then, a trial reports its end in a step of its own, after that of its last value.
"""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING, Any

from ray import tune
from ray.tune.schedulers import ASHAScheduler, HyperBandScheduler, TrialScheduler

from orchestrator.searching.tune_writer import Writer
from orchestrator.store.trials import FINITE_WORST
from orchestrator.workers.worker import Files, Raised, Worker
from trainer.result import Record, Resumed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from orchestrator.store.table import Table
    from orchestrator.store.trials import Task
    from orchestrator.workers.worker import Item
    from trainer.spec import Device

CLOCK = 27
"""The length of a run on the clock of HyperBand, whose brackets then begin with 4, 6, 12 and 27 trials."""


class TuneTrial(tune.Trainable):
    """An actor that trains one trial after another (`reuse_actors`)."""

    def setup(  # type: ignore[override]
        self, config: dict[str, Any], metric: str, device: Device, files: Files
    ) -> None:
        """Take the trial of `config["task"]`."""
        self._metric = metric
        self._worker = Worker(device, files=files)
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take another trial."""
        self._task: Task = new_config["task"]
        self._steps = self._task.runs[0].steps or 1
        self._items: Iterator[Item] | None = None
        self._points = deque(self._task.curve)
        self._seen: dict[int, dict[str, float]] = {}
        self._reported, self._value = 0, FINITE_WORST[self._metric]
        self._over = self._task.over
        return True

    def step(self) -> dict[str, Any]:
        """Train to the next evaluation of all runs."""
        items: list[Item] = []
        while not self._points and not self._over:
            self._take(items)
        done = not self._points
        if not done:
            self._reported, self._value = self._points.popleft()
        while self._reported == self._steps and not self._over:
            self._take(items)
        clock = CLOCK * self._reported // self._steps
        return {self._metric: self._value, "step": self._reported, "clock": clock, "done": done, "items": items}

    def _take(self, items: list[Item]) -> None:
        if self._items is None:
            self._items = self._worker.train(self._task.runs)
        item = next(self._items)
        items.append(item)
        match item:
            case Record():
                self._note(item)
            case Resumed():
                for record in item.history:
                    self._note(record)
            case Raised():
                self._over = True
            case list():
                self._over = True
                if any(result.state == "diverged" for result in item):
                    self._points.append((self._steps, FINITE_WORST[self._metric]))

    def _note(self, record: Record) -> None:
        value = record.error if self._metric == "val_error" else record.loss
        if math.isnan(value):  # not evaluated
            return
        seen = self._seen.setdefault(record.step, {})
        seen[record.run_id] = value
        if len(seen) == len(self._task.runs) and record.step > self._reported:
            self._points.append((record.step, math.fsum(seen.values()) / len(seen)))

    def save_checkpoint(self, checkpoint_dir: str) -> dict[str, Any]:  # noqa: ARG002 - ours have a place of their own
        """Stop the stack, whose runs then leave checkpoints: a paused trial may continue in another actor."""
        if self._items is not None and not self._over:
            self._worker.stop()
            for _ in self._items:
                pass
            self._items = None
        return {"reported": self._reported}

    def load_checkpoint(self, checkpoint: dict[str, Any] | None) -> None:
        """Continue after the last report; the runs find their own checkpoints, or start again."""
        self._reported = (checkpoint or {})["reported"]
        self._points = deque(point for point in self._task.curve if point[0] > self._reported)

    def cleanup(self) -> None:
        """Forget the stack in training."""
        self._items = None


class TrialWriter(Writer):
    """Claims the runs of the trials that Tune starts, and ends their attempts as Tune ends the trials."""

    def __init__(self, table: Table, interrupted: Callable[[], bool], files: Files) -> None:
        super().__init__(table, interrupted)
        self._files = files
        self._paused: set[int] = set()

    def on_trial_start(self, *, trial: Any, **_: Any) -> None:  # type: ignore[override]
        """Claim the trial's runs: again if its actor died, not if it was paused and continues."""
        task: Task = trial.config["task"]
        if task.number in self._paused:
            self._paused.discard(task.number)
            return
        self.end(task.number, "queued", "lost", "its actor ended")
        if not task.over:
            self.claim(task.number, task.runs)

    def on_trial_result(self, *, trial: Any, result: dict[str, Any], **_: Any) -> None:  # type: ignore[override]
        """Write what the worker reported in this step."""
        for item in result["items"]:
            self.write(trial.config["number"], item)

    def on_trial_complete(self, *, trial: Any, **_: Any) -> None:  # type: ignore[override]
        """A trial that is complete while its runs are claimed was stopped by the scheduler."""
        task: Task = trial.config["task"]
        step = (trial.last_result or {}).get("step", 0)
        self.end(task.number, "pruned", "pruned", f"Ray Tune's scheduler, at step {step}")
        self._files.drop([run.run_id for run in task.runs])

    def on_trial_error(self, *, trial: Any, **_: Any) -> None:  # type: ignore[override]
        """The actor died more often than Tune starts it again."""
        self.end(trial.config["number"], "failed", "lost", "its actor died repeatedly")

    def on_step_end(self, *, trials: list[Any], **more: Any) -> None:  # type: ignore[override]
        """Note which trials are paused."""
        self._paused |= {trial.config["number"] for trial in trials if trial.status == "PAUSED"}
        super().on_step_end(**more)


def scheduler_of(name: str, steps: int) -> Any:
    """`asha` or `hyperband` for runs of at most `steps` steps: stop two of three trials, first at 1/27 of a run."""
    if name == "asha":
        return ASHAScheduler(
            time_attr="step", max_t=steps + 1, grace_period=max(1, steps // CLOCK), reduction_factor=3
        )
    return Brackets(time_attr="clock", max_t=CLOCK, reduction_factor=3)


class Brackets(HyperBandScheduler):
    """HyperBand that halves until a trial can continue.

    Evaluations may be further apart than its halvings, and a trial that diverged is at its end.
    """

    def _process_bracket(self, tune_controller: Any, bracket: Any) -> str:
        action: str = super()._process_bracket(tune_controller, bracket)
        while bracket.current_trials() and bracket.cur_iter_done() and not bracket.finished():
            again = super()._process_bracket(tune_controller, bracket)
            action = action if action == TrialScheduler.STOP else again
        return action
