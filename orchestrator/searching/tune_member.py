"""Population-based training (Jaderberg et al. 2017) by Ray Tune: each member trains in parts, each part a run.

A part begins with the parameters of the part before it, or, where the scheduler has its member copy a better one,
of that one's; its hyper-parameters are the scheduler's. So a part is a run with a `parent` and a stage of its own,
and its identity tells all that went into it. The optimiser's moments are not copied: every part begins them anew.
Seeds are STRIDE apart, so that every part sees the data in another order (and, on digits, in the same fold).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ray import tune

from orchestrator.searching.tune_writer import Writer
from orchestrator.store.trials import FINITE_WORST, Trial
from orchestrator.workers.worker import Files, Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from orchestrator.store.table import Table
    from orchestrator.workers.worker import Item
    from trainer.spec import Device, RunSpec

STRIDE = 5


def number_of(name: str) -> int:
    """A member's number by its trial's name; its config is another's after it has copied that."""
    return int(name.removeprefix("trial-"))


class TuneMember(tune.Trainable):
    """A member of the population: a step is a part, of which `template` is any.

    `begun` is where members go on: the part that they have done, and the run, with its cell, to begin with.
    """

    def setup(  # type: ignore[override]
        self,
        config: dict[str, Any],
        template: RunSpec,
        parts: int,
        metric: str,
        begun: Mapping[int, tuple[int, str, str]],
        device: Device,
        files: Files,
    ) -> None:
        """Take the member of `config["number"]`, its hyper-parameters beside it."""
        self._template, self._parts, self._metric, self._begun = template, parts, metric, begun
        self._worker = Worker(device, files=files)
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take other hyper-parameters, or another member."""
        self._values = {name: value for name, value in new_config.items() if name != "number"}
        self._number = number_of(self.trial_name)
        self._first = max((begun[0] for begun in self._begun.values()), default=0)  # Tune counts from here
        self._part, self._parent, self._parent_cell = self._begun.get(self._number, (0, "", ""))
        return True

    def step(self) -> dict[str, Any]:
        """Train the next part; after one that diverged or failed, from where that one began."""
        run = replace(
            self._template,
            **self._values,
            seed=self._template.seed + STRIDE * (self._part + self._parts * self._number),
            parent=self._parent,
            parent_cell=self._parent_cell,
            stage=f"part-{self._part + 1}",
        )
        heard: list[Item] = list(self._worker.train([run], [run.run_id]))
        value, self._part = FINITE_WORST[self._metric], self._part + 1
        if isinstance(heard[-1], list) and heard[-1][0].state == "done":
            value = float(getattr(heard[-1][0], self._metric))
            self._parent, self._parent_cell = run.run_id, run.cell_id
        over = self._part == self._parts
        return {self._metric: value, "round": self._part - self._first, "run": run, "items": heard, "done": over}

    def save_checkpoint(self, checkpoint_dir: str) -> dict[str, Any]:  # noqa: ARG002 - parameters lie with the table's
        """Which run the next part begins with."""
        return {"part": self._part, "parent": self._parent, "parent_cell": self._parent_cell}

    def load_checkpoint(self, checkpoint: dict[str, Any] | None) -> None:
        """Go on from a member's part, another's where the scheduler says so."""
        assert checkpoint is not None
        self._part, self._parent = checkpoint["part"], checkpoint["parent"]
        self._parent_cell = checkpoint["parent_cell"]


class PartWriter(Writer):
    """Writes parts as they end: until then nobody knows them but the member that trains them."""

    def __init__(self, table: Table, interrupted: Callable[[], bool], sweep: str, cell_id: str) -> None:
        super().__init__(table, interrupted)
        self._table = table
        self._sweep, self._cell_id = sweep, cell_id

    def on_trial_result(self, *, trial: Any, result: dict[str, Any], **_: Any) -> None:  # type: ignore[override]
        """Enter a part into the table, with all that was heard of it."""
        run: RunSpec = result["run"]
        number = number_of(str(trial))
        with self._table.transaction():
            self._table.trials.propose(self._sweep, [Trial(self._cell_id, number, [run])])
            self.claim(number, [run])
            for item in result["items"]:
                self.write(number, item)
