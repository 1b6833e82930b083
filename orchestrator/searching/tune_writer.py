"""Writes the reports of Ray Tune's actors to the table, in the process that runs Tune's loop."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from ray import tune

from orchestrator.host.process import Process
from orchestrator.store.table import LEASE, End
from orchestrator.workers.worker import Raised
from trainer.result import Record, Resumed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from orchestrator.store.table import Table
    from orchestrator.workers.worker import Item
    from trainer.spec import RunSpec


class Writer(tune.Callback):
    """Claims the runs of trials, by the trial's number, and writes what their workers report.

    Once `interrupted` returns True, it ends Tune's loop between two of its steps, by KeyboardInterrupt.
    """

    def __init__(self, table: Table, interrupted: Callable[[], bool]) -> None:
        self._queue, self._interrupted = table.queue, interrupted
        self._claimed: dict[int, dict[str, int]] = {}
        self._step: dict[str, int] = {}
        self._renewed = time.monotonic()

    def on_step_end(self, **_: Any) -> None:  # type: ignore[override]
        """Leave if that is asked; else renew the leases of all claimed runs."""
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
        """Write what a worker reports of the claimed runs of a trial."""
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
            case Resumed():  # after a pause: records between the last report and the checkpoint are new here
                for record in item.history:
                    self.write(number, record)
            case Raised():
                self._queue.fail(claimed, item.reason, item.traceback, item.exception)
                self._claimed.pop(number, None)
            case list():
                self._claimed.pop(number, None)
                ended = [result for result in item if result.run_id in claimed and result.state != "cancelled"]
                self._queue.finish(ended, claimed)

    def end(self, number: int, state: str, outcome: str, reason: str) -> None:
        """End the attempt at a trial's runs, if there is one."""
        claimed = self._claimed.pop(number, {})
        self._queue.settle([End(run_id, token, state, outcome, reason) for run_id, token in claimed.items()])

    def release(self) -> None:
        """Queue again whatever is still claimed."""
        for number in list(self._claimed):
            self.end(number, "queued", "interrupted", "its coordinator stopped")

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune pickles its callbacks into a file that nobody reads."""
        return {}
