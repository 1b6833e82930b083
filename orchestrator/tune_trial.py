"""A trial as Ray Tune's schedulers see it: an actor that trains up to the next evaluation at every step.

Each step hands back, beside the metric, whatever the worker has said, for the coordinator to write: the actor knows
no table. A trial that ended in an earlier session is not trained: its recorded curve is played back, so that the
scheduler compares others with it.
"""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING, Any

from ray import tune

from orchestrator.trials import WORST
from orchestrator.worker import Files, Raised, Worker
from trainer.result import Record, Resumed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from orchestrator.trials import Task
    from orchestrator.worker import Item
    from trainer.spec import Device

CLOCK = 81
"""What a whole run is on the clock of HyperBand, whose brackets then begin with 5, 8, 15, 34 and 81 trials."""


class TuneTrial(tune.Trainable):
    """One trial after another, in an actor that lives on (`reuse_actors`)."""

    def setup(  # type: ignore[override]
        self, config: dict[str, Any], tasks: dict[int, Task], metric: str, device: Device, files: Files
    ) -> None:
        """Take the trial of `config["number"]`."""
        self._tasks, self._metric, self._device = tasks, metric, device
        self._worker = Worker(device, files=files)
        self._begin(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take another trial."""
        self._begin(new_config)
        return True

    def _begin(self, config: dict[str, Any]) -> None:
        self._task = self._tasks[config["number"]]
        self._items: Iterator[Item] | None = None
        self._points = deque(self._task.curve)
        self._seen: dict[int, dict[str, float]] = {}
        self._reported, self._over = 0, self._task.over

    def step(self) -> dict[str, Any]:
        """Train to the next evaluation of all runs."""
        heard: list[Item] = []
        while not self._points and not self._over:
            self._hear(heard)
        value = WORST[self._metric]  # of what ended without a figure
        if self._points:
            self._reported, value = self._points.popleft()
        if self._reported == self._task.runs[0].steps:
            while not self._over:
                self._hear(heard)
        clock = math.ceil(CLOCK * self._reported / (self._task.runs[0].steps or 1))
        done = self._over and not self._points
        return {self._metric: value, "step": self._reported, "clock": clock, "done": done, "items": heard}

    def _hear(self, heard: list[Item]) -> None:
        if self._items is None:
            self._items = self._worker.train(self._task.runs)
        item = next(self._items)
        heard.append(item)
        if isinstance(item, Record):
            self._note(item)
        elif isinstance(item, Resumed):
            for record in item.history:
                self._note(record)
        self._over = isinstance(item, list | Raised)

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
