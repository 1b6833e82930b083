"""BOHB (Falkner, Klein, Hutter 2018) by Ray Tune and hpbandster: what it proposes becomes trials of our table.

Proposals are of its model of what trials were worth at the rungs of HyperBand, a third of them at random. What is
drawn for a number depends on the seed, the cell, the number and what the model was told. Trials that are known
already come first, in the order of their numbers, so that model and brackets are told of them again.
"""

from __future__ import annotations

import warnings
from collections import deque
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from ray.tune.search import Searcher
from ray.tune.search.bohb import TuneBOHB

from orchestrator.sweep.search_space import WHOLE, is_log, values_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from orchestrator.searching.optuna_cell import CellSearch
    from orchestrator.store.trials import Task, Trial
    from orchestrator.sweep.sweep import Parameter


class Proposer(TuneBOHB):
    """Trials of a cell, those of `tasks` first; `enter` writes a new one into the table before it trains."""

    def __init__(self, cell: CellSearch, tasks: dict[int, Task], enter: Callable[[Trial], dict[int, Task]]) -> None:
        self._cell, self._enter = cell, enter
        self._waiting = deque(tasks[number] for number in sorted(tasks))
        self._parameters = cell.search.parameters
        self._points = _space(self._parameters)
        with _quiet():
            super().__init__(space=self._points, metric=cell.search.metric, mode="min")

    def suggest(self, trial_id: str) -> Any:
        """The config of the next trial: its number, and what an actor is given of it."""
        while not self._waiting:
            trial = self._cell.take(self._draw)
            if trial is None:
                return Searcher.FINISHED
            self._waiting.extend(self._enter(trial).values())  # none: another sweep has tried it, and it failed
        task = self._waiting.popleft()
        self.trial_to_params[trial_id] = self._point(task)
        self.running.add(trial_id)
        return {"number": task.number, "task": task}

    def _draw(self, number: int) -> dict[str, Any]:
        seed = self._cell.seed(number)
        np.random.seed(seed)  # noqa: NPY002 - hpbandster draws from the global stream
        self._points.seed(seed)
        with _quiet():
            point, _ = self.bohber.get_config(None)
        return {name: _value(name, parameter, point[name]) for name, parameter in self._parameters.items()}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Have the model know what a trial is worth at a rung."""
        with _quiet():
            super().on_trial_result(trial_id, result)

    def _point(self, task: Task) -> dict[str, Any]:
        """Where a trial lies in the space of the model: values of a list are known by their places in it."""
        run = task.runs[0]
        return {
            name: values_of(name, p).index(getattr(run, name)) if p.values is not None else getattr(run, name)
            for name, p in self._parameters.items()
        }

    def save_to_dir(self, checkpoint_dir: str, session_str: str = "") -> None:
        """Nothing: the table has it."""

    def __getstate__(self) -> dict[str, Any]:
        """Nothing, as well."""
        return {}


@contextmanager
def _quiet() -> Iterator[None]:
    """Without warnings: hpbandster is of 2018, and uses what later packages call deprecated."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _space(parameters: dict[str, Parameter]) -> Any:
    import ConfigSpace

    def part(name: str, parameter: Parameter) -> Any:
        if parameter.values is not None:
            return ConfigSpace.CategoricalHyperparameter(name, list(range(len(parameter.values))))
        assert parameter.min is not None
        assert parameter.max is not None
        log = is_log(parameter)
        if name in WHOLE:
            return ConfigSpace.UniformIntegerHyperparameter(name, int(parameter.min), int(parameter.max), log=log)
        return ConfigSpace.UniformFloatHyperparameter(name, parameter.min, parameter.max, log=log)

    made = ConfigSpace.ConfigurationSpace()
    made.add([part(name, parameter) for name, parameter in parameters.items()])
    return made


def _value(name: str, parameter: Parameter, drawn: Any) -> Any:
    """A value of ours: an int or a float of Python, or what stands at a place of a list."""
    if parameter.values is not None:
        return values_of(name, parameter)[int(drawn)]
    return int(drawn) if name in WHOLE else float(drawn)
