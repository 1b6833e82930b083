"""The actor of a trial under Ray Tune: trains up to the next evaluation at every step.

Each step hands back, beside the metric, whatever the worker has said, for the coordinator to write: the actor knows
no table. A trial that ended in an earlier session is not trained: its recorded curve is played back, so that the
scheduler compares others with it. So that it decides then as it did before, no trial says with its last figure that
it is over, but only when it is asked for more.
"""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING, Any

from ray import tune

from orchestrator.store.trials import FINITE_WORST
from orchestrator.workers.worker import Files, Raised, Worker
from trainer.result import Record, Resumed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from orchestrator.store.trials import Task
    from orchestrator.workers.worker import Item
    from trainer.spec import Device

CLOCK = 27
"""What a whole run is on the clock of HyperBand, whose brackets then begin with 4, 6, 12 and 27 trials."""


class TuneTrial(tune.Trainable):
    """One trial after another, in an actor that lives on (`reuse_actors`)."""

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
        heard: list[Item] = []
        while not self._points and not self._over:
            self._hear(heard)
        done = not self._points
        if not done:
            self._reported, self._value = self._points.popleft()
        while self._reported == self._steps and not self._over:
            self._hear(heard)
        clock = CLOCK * self._reported // self._steps
        return {self._metric: self._value, "step": self._reported, "clock": clock, "done": done, "items": heard}

    def _hear(self, heard: list[Item]) -> None:
        if self._items is None:
            self._items = self._worker.train(self._task.runs)
        item = next(self._items)
        heard.append(item)
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
        seen = self._seen.setdefault(record.step, {})
        seen[record.run_id] = record.error if self._metric == "val_error" else record.loss
        if len(seen) == len(self._task.runs) and record.step > self._reported:
            self._points.append((record.step, math.fsum(seen.values()) / len(seen)))

    def save_checkpoint(self, checkpoint_dir: str) -> dict[str, Any]:  # noqa: ARG002 - ours lie with the table's
        """Have the runs leave a checkpoint of theirs and the stack end: a paused trial goes on elsewhere."""
        if self._items is not None and not self._over:
            self._worker.stop()
            for _ in self._items:
                pass
            self._items = None
        return {"reported": self._reported}

    def load_checkpoint(self, checkpoint: dict[str, Any] | None) -> None:
        """Go on behind what was reported; the runs find their own checkpoints, or start again."""
        self._reported = (checkpoint or {})["reported"]
        self._points = deque(point for point in self._task.curve if point[0] > self._reported)

    def cleanup(self) -> None:
        """Drop what is in training."""
        self._items = None
