"""Members of a population under PBT of Ray Tune (Jaderberg et al. 2017): the actor, its writer, and the scheduler.

A member trains in parts, each of them a run. A part begins with the parameters of the part before it or, if the
scheduler has its member copy a better one, with that one's; its hyper-parameters are the scheduler's. So a part
has a `parent` and a stage of its own, and its identity tells all that went into it. Moments of the optimiser are
not copied: every part begins with new ones. Seeds are STRIDE apart, so that every part sees the data in another
order (and, on digits, in the same fold).
"""

from __future__ import annotations

import random
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from ray import tune
from ray.tune.schedulers import PopulationBasedTraining

from orchestrator.searching.tune_writer import Writer
from orchestrator.store.trials import FINITE_WORST, Trial
from orchestrator.sweep.search_space import is_log, values_of
from orchestrator.workers.worker import Files, Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from orchestrator.store.table import Table
    from orchestrator.sweep.sweep import Parameter
    from orchestrator.workers.worker import Item
    from trainer.spec import Device, RunSpec

STRIDE = 5


def number_of(name: str) -> int:
    """A member's number, from its trial's name: its config becomes another's once it copies that."""
    return int(name.removeprefix("trial-"))


class TuneMember(tune.Trainable):
    """An actor that trains a member of the population: a step is a part.

    `template` is a part of any member. `begun` says where members continue: the number of parts that are done, and
    the run, with its cell, to begin with.
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
        """Train the next part; after one that diverged or failed, with what that one began with."""
        run = replace(
            self._template,
            **self._values,
            seed=self._template.seed + STRIDE * (self._part + self._parts * self._number),
            parent=self._parent,
            parent_cell=self._parent_cell,
            stage=f"part-{self._part + 1}",
        )
        items: list[Item] = list(self._worker.train([run], [run.run_id]))
        value, self._part = FINITE_WORST[self._metric], self._part + 1
        if isinstance(items[-1], list) and items[-1][0].state == "done":
            value = float(getattr(items[-1][0], self._metric))
            self._parent, self._parent_cell = run.run_id, run.cell_id
        over = self._part == self._parts
        return {self._metric: value, "round": self._part - self._first, "run": run, "items": items, "done": over}

    def save_checkpoint(self, checkpoint_dir: str) -> dict[str, Any]:  # noqa: ARG002 - ours have a place of their own
        """The run with which the next part begins."""
        return {"part": self._part, "parent": self._parent, "parent_cell": self._parent_cell}

    def load_checkpoint(self, checkpoint: dict[str, Any] | None) -> None:
        """Continue from a part: of this member, or of the one that it copies."""
        assert checkpoint is not None
        self._part, self._parent = checkpoint["part"], checkpoint["parent"]
        self._parent_cell = checkpoint["parent_cell"]


class PartWriter(Writer):
    """Writes parts once they have ended: until then only the member that trains a part knows it."""

    def __init__(self, table: Table, interrupted: Callable[[], bool], sweep: str, cell_id: str) -> None:
        super().__init__(table, interrupted)
        self._table = table
        self._sweep, self._cell_id = sweep, cell_id

    def on_trial_result(self, *, trial: Any, result: dict[str, Any], **_: Any) -> None:  # type: ignore[override]
        """Add a part to the table, with everything that was reported of it."""
        run: RunSpec = result["run"]
        number = number_of(str(trial))
        with self._table.transaction():
            self._table.trials.propose(self._sweep, [Trial(self._cell_id, number, [run])])
            self.claim(number, [run])
            for item in result["items"]:
                self.write(number, item)


def population_scheduler(parameters: dict[str, Parameter], seed: int) -> Any:
    """PBT, synchronous: every decision compares members that have done as many parts."""
    random.seed(seed)  # Tune draws its mutations from the global streams
    np.random.seed(seed % 2**32)  # noqa: NPY002

    def inside(config: dict[str, Any]) -> dict[str, Any]:
        """Return values to their range, which a factor may have led out of."""
        for name, parameter in parameters.items():
            if parameter.min is not None and parameter.max is not None:
                config[name] = min(max(config[name], parameter.min), parameter.max)
        return config

    return PopulationBasedTraining(
        time_attr="round",
        perturbation_interval=1,
        hyperparam_mutations={name: _domain(name, parameter) for name, parameter in parameters.items()},
        custom_explore_fn=inside,
        synch=True,
        log_config=False,
    )


def _domain(name: str, parameter: Parameter) -> Any:
    if parameter.values is not None:
        return values_of(name, parameter)
    assert parameter.min is not None
    assert parameter.max is not None
    return (tune.loguniform if is_log(parameter) else tune.uniform)(parameter.min, parameter.max)
