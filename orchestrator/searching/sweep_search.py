"""The search of a sweep: the next trials of every cell, and the best of each."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from orchestrator.searching.optuna_cell import CellSearch
from orchestrator.sweep.planner import makers
from orchestrator.sweep.search_space import choices, is_log, trials_of
from trainer.spec import RunSpec, model_name

if TYPE_CHECKING:
    from collections.abc import Collection

    from analysis import LearningRates
    from orchestrator.store.table import Table
    from orchestrator.store.trials import RunState, Trial
    from orchestrator.sweep.sweep import Parameter, Sweep
    from trainer.result import Record


class SweepSearch:
    """The searches of a sweep's cells: a source of runs for the scheduler (`options.RunSource`).

    Its state is in the table before anything trains, so that a new one continues where a killed one was.
    """

    def __init__(self, table: Table, sweep: Sweep) -> None:
        assert sweep.search is not None
        self._table, self._sweep, self._search = table, sweep, sweep.search
        self._cells = {cell.cell_id: cell for cell in cells_of(sweep)}
        trials = table.trials.of(sweep.sweep)
        ids = [run.run_id for trial in trials for run in trial.runs]
        states = table.trials.run_states(ids)
        curves = table.trials.curves([] if self._search.pruner == "none" else ids, self._search.metric)
        for cell_id, cell in self._cells.items():
            cell.restore([trial for trial in trials if trial.search_cell == cell_id], states, curves)

    @property
    def proposed(self) -> int:
        """Number of trials proposed so far, within the present ranges."""
        return sum(cell.count for cell in self._cells.values())

    @property
    def total(self) -> int:
        """Number of trials at the end; fewer if a cell runs out of new combinations."""
        return len(self._cells) * trials_of(self._search)

    def more(self) -> bool:
        """Queue the next trials of every cell that has none pending; returns whether there is anything to train."""
        while True:
            pending = [run_id for cell in self._cells.values() for run_id in cell.pending]
            states = self._table.trials.run_states(pending)
            for cell in self._cells.values():
                cell.settle(states)
            trials = [trial for cell in self._cells.values() for trial in cell.ask()]
            if not trials:
                return False
            self._table.trials.propose(self._sweep.sweep, trials)
            ids = [run.run_id for trial in trials for run in trial.runs]
            if any(run.state == "queued" for run in self._table.trials.run_states(ids).values()):
                return True  # otherwise another sweep has trained them all

    def judge(self, record: Record) -> Collection[str]:
        """The runs to prune, now that one has recorded this."""
        return next((stop for cell in self._cells.values() if (stop := cell.judge(record))), ())


def cells_of(sweep: Sweep) -> list[CellSearch]:
    """The search of every cell of a sweep."""
    assert sweep.search is not None
    seeds = sweep.seed_list
    return [CellSearch(sweep.search, declared, make, seeds) for declared, make in makers(sweep)]


@dataclass(frozen=True)
class Best:
    """The best trial of a cell, and how the others ended.

    `cell` names it by what its sweep varies. `value` is the metric on the validation split, the mean over seeds;
    `error` is the test error of the same runs, which took no part in the choice. `edges` are the parameters that
    are best at an end of what was searched, or within a twentieth of it: better ones may lie beyond.
    """

    cell: dict[str, Any]
    trials: int
    states: dict[str, int]
    trial: int | None
    parameters: dict[str, Any]
    metric: str
    value: float | None
    error: float | None
    edges: tuple[str, ...]


def best_of(table: Table, sweep: Sweep) -> list[Best]:
    """The best trial of every cell, in the order of the file; of equal ones the earliest."""
    trials = table.trials.of(sweep.sweep)
    ids = [run.run_id for trial in trials for run in trial.runs]
    states, cells = table.trials.run_states(ids), cells_of(sweep)
    varied = _varied([cell.declared for cell in cells], sweep)
    own = [[t for t in trials if t.search_cell == cell.cell_id and cell.contains(t)] for cell in cells]
    return [_best(cell, varied, tried, states) for cell, tried in zip(cells, own, strict=True)]


def _best(cell: CellSearch, varied: list[str], trials: list[Trial], runs: dict[str, RunState]) -> Best:
    name = {key: getattr(cell.declared, key) for key in varied} or {"model": model_name(cell.dearest)}
    metric, whole = cell.search.metric, cell.search.scheduler != "pbt"  # there a trial is its last part
    ends = {t.number: [runs[run.run_id] for run in t.runs[0 if whole else -1 :]] for t in trials}
    states = Counter(map(_state, ends.values()))
    done = {number: cell.value(end) for number, end in ends.items() if _state(end) == "done"}
    if not done:
        return Best(name, len(trials), dict(states), None, {}, metric, None, None, ())
    number = min(done, key=lambda number: (done[number], number))
    run = next(t.runs[-1] for t in trials if t.number == number)
    values = {key: getattr(run, key) for key in cell.search.parameters}
    edges = tuple(key for key, p in cell.search.parameters.items() if _at_edge(key, p, values[key]))
    error = float(np.mean([end.error for end in ends[number]]))
    return Best(name, len(trials), dict(states), number, values, metric, done[number], error, edges)


def _state(runs: list[RunState]) -> str:
    """The state of a trial: that of its least finished run."""
    return min((run.state for run in runs), key=lambda state: _ORDER.index(state) if state in _ORDER else -1)


_ORDER = ("queued", "running", "failed", "cancelled", "pruned", "diverged", "done")


def _at_edge(key: str, parameter: Parameter, value: Any) -> bool:
    if parameter.values is not None or parameter.points is not None:
        values = choices(key, parameter)
        ordered = sorted(values) if all(isinstance(v, int | float) for v in values) else []
        return len(ordered) > 2 and value in (ordered[0], ordered[-1]) and value != 0
    assert parameter.min is not None
    assert parameter.max is not None
    low, high = parameter.min, parameter.max
    if is_log(parameter):
        low, high, value = math.log(low), math.log(high), math.log(value)
    return not _NEAR < (value - low) / (high - low) < 1 - _NEAR


_NEAR = 0.05


def _varied(runs: list[RunSpec], sweep: Sweep) -> list[str]:
    """The fields in which the cells of a search differ."""
    searched = sweep.search.parameters if sweep.search else {}
    free = [name for name in RunSpec.__dataclass_fields__ if name not in searched and name != "seed"]
    return [name for name in free if len({getattr(run, name) for run in runs}) > 1]


def learning_rates(table: Table, sweep: Sweep) -> LearningRates | None:
    """The parabola of every cell over finished trials, after a grid over the learning rate; else None."""
    search = sweep.search
    if search is None or search.method != "grid" or "lr" not in search.parameters:
        return None
    from analysis import best_learning_rates

    frame = table.frame("runs", sweep.sweep)
    cells = cells_of(sweep)
    frame = frame[frame["search_cell"].isin([cell.cell_id for cell in cells])]
    varied = _varied([cell.declared for cell in cells], sweep) + [p for p in search.parameters if p != "lr"]
    try:
        return best_learning_rates(frame, search.metric, by=varied)
    except ValueError:  # no trial has finished
        return None
