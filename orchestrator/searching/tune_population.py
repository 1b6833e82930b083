"""A search by population-based training of Ray Tune: its members are drawn as trials are, and train in parts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from orchestrator.searching.tune_search import TuneSearch
from orchestrator.text import count

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from orchestrator.searching.optuna_cell import CellSearch
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
        members = count(len(drawn), "member")
        say(f"{cell.cell_id[:8]}: {members}, {PARTS - part} of {PARTS} parts, by PBT of Ray Tune")
        self._start()
        self._train(cell, drawn | last, part)
        return self._trained(cell.cell_id, list(drawn))[0] == PARTS

    def _trained(self, cell_id: str, numbers: list[int]) -> tuple[int, dict[int, RunSpec]]:
        """The number of parts that all members have done, and the last of these of each member."""
        trials = self._table.trials.of(self._sweep.sweep, cell_id)
        parts = {trial.number: {part_of(run): run for run in trial.runs} for trial in trials}
        part = min((max(parts.get(number, {0: None})) for number in numbers), default=PARTS)
        return part, {number: parts[number][part] for number in numbers} if part else {}

    def _begun(self, part: int, runs: Mapping[int, RunSpec]) -> dict[int, tuple[int, str, str]]:
        """Where members continue: from their last part or, if it came to nothing, from where that part began."""
        ends, kept = self._table.trials.run_states([run.run_id for run in runs.values()]), self._files.kept()
        begun = {}
        for number, run in runs.items() if part else ():
            whole = ends[run.run_id].state == "done" and run.run_id in kept
            begun[number] = (part, *((run.run_id, run.cell_id) if whole else (run.parent, run.parent_cell)))
        return begun

    def _train(self, cell: CellSearch, runs: dict[int, RunSpec], part: int) -> None:
        """Have Tune train the parts that are left; `runs` hold the values with which members begin."""
        from ray import tune

        from orchestrator.searching.tune_member import PartWriter, TuneMember, population_scheduler

        def first(name: str) -> Any:
            return tune.sample_from(lambda config: getattr(runs[config["number"]], name))

        settings = {"template": self._template(cell), "parts": PARTS, "begun": self._begun(part, runs)}
        writer = PartWriter(self._table, self._asked_to_stop, self._sweep.sweep, cell.cell_id)
        values = {name: first(name) for name in self._search.parameters}
        scheduler = population_scheduler(self._search.parameters, int(cell.cell_id[:8], 16) + self._search.seed)
        space = {**values, "number": tune.grid_search(list(runs))}
        self._fit(cell, TuneMember, settings, writer, scheduler=scheduler, space=space)

    def _template(self, cell: CellSearch) -> RunSpec:
        """A part of any member: as long as a whole run divided by PARTS."""
        assert cell.dearest.examples is not None
        length = {"budget": None, "epochs": None, "examples": cell.dearest.examples // PARTS}
        return cell.make(length, self._sweep.seed_list[0])


def part_of(run: RunSpec) -> int:
    """Which part of its member's training a run is, from 1."""
    return int(run.stage.removeprefix("part-"))
