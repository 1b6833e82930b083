"""A search by population-based training: members drawn as trials are, their parts run and mutated by Ray Tune."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import numpy as np

from orchestrator.searching.tune_search import TuneSearch
from orchestrator.sweep.search_space import is_log

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from orchestrator.searching.optuna_cell import CellSearch
    from orchestrator.sweep.sweep import Parameter
    from trainer.spec import RunSpec

PARTS = 10
"""Parts of a member's training: after each, the worst quarter copies from the best and changes its values."""


class PopulationSearch(TuneSearch):
    """The members of every cell under PBT."""

    def _over(self, cell: CellSearch, say: Callable[[str], None]) -> bool:
        drawn = {trial.number: trial.runs[0] for trial in cell.ask()}
        part, last = self._trained(cell.cell_id, list(drawn))
        if part == PARTS:
            return True
        say(f"{cell.cell_id[:8]}: {len(drawn)} members, {PARTS - part} of {PARTS} parts, by PBT of Ray Tune")
        self._start()
        self._train(cell, drawn | last, part)
        return self._trained(cell.cell_id, list(drawn))[0] == PARTS

    def _trained(self, cell_id: str, numbers: list[int]) -> tuple[int, dict[int, RunSpec]]:
        """After which part all members stand, and that part of each: the last that was tried under its number."""
        trials = self._table.trials.of(self._sweep.sweep, cell_id)
        parts = {trial.number: {part_of(run): run for run in trial.runs} for trial in trials}
        part = min((max(parts.get(number, {0: None})) for number in numbers), default=PARTS)
        return part, {number: parts[number][part] for number in numbers} if part else {}

    def _begun(self, part: int, runs: Mapping[int, RunSpec]) -> dict[int, tuple[int, str, str]]:
        """Where members go on: from their last part, or from where that began, if it came to nothing."""
        standing = self._table.trials.run_states([run.run_id for run in runs.values()])
        found, kept = {}, self._files.kept()
        for number, run in runs.items() if part else ():
            whole = standing[run.run_id].state == "done" and run.run_id in kept
            found[number] = (part, *((run.run_id, run.cell_id) if whole else (run.parent, run.parent_cell)))
        return found

    def _train(self, cell: CellSearch, runs: dict[int, RunSpec], part: int) -> None:
        """Have Tune train the parts that are left; `runs` hold the values with which members begin."""
        from ray import tune

        from orchestrator.searching.tune_member import PartWriter, TuneMember

        def first(name: str) -> Any:
            return tune.sample_from(lambda config: getattr(runs[config["number"]], name))

        said = {"template": self._template(cell), "parts": PARTS, "begun": self._begun(part, runs)}
        writer = PartWriter(self._table, self._asked_to_stop, self._sweep.sweep, cell.cell_id)
        values = {name: first(name) for name in self._search.parameters}
        seed = int(cell.cell_id[:8], 16) + self._search.seed
        random.seed(seed)  # Tune draws its mutations from the global streams
        np.random.seed(seed % 2**32)  # noqa: NPY002
        scheduler = _scheduler(self._search.parameters)
        space = {**values, "number": tune.grid_search(list(runs))}
        self._fit(cell, TuneMember, said, writer, scheduler=scheduler, space=space)

    def _template(self, cell: CellSearch) -> RunSpec:
        """A part of any member: as long as a whole run divided by PARTS."""
        assert cell.dearest.examples is not None
        length = {"budget": None, "epochs": None, "examples": cell.dearest.examples // PARTS}
        return cell.make(length, self._sweep.seed_list[0])


def part_of(run: RunSpec) -> int:
    """Which part of its member's training a run is, from 1."""
    return int(run.stage.removeprefix("part-"))


def _scheduler(parameters: dict[str, Parameter]) -> Any:
    """Tune's, synchronous: every decision is of members that have come equally far."""
    from ray.tune.schedulers import PopulationBasedTraining

    def inside(config: dict[str, Any]) -> dict[str, Any]:
        """Values changed by a factor may have left their range."""
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
    from ray import tune

    from orchestrator.sweep.search_space import values_of

    if parameter.values is not None:
        return values_of(name, parameter)
    assert parameter.min is not None
    assert parameter.max is not None
    return (tune.loguniform if is_log(parameter) else tune.uniform)(parameter.min, parameter.max)
