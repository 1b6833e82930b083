"""A search run by a scheduler of Ray Tune, where the file names one. Its trials are kept in our table all the same.

Trials are drawn beforehand (`sampling`), so that the table knows them all, or BOHB proposes them as it goes, each
written to the table before it trains; Tune decides which go on. The coordinator writes what its actors say, in
callbacks; nothing that Tune writes is needed afterwards. A search that was cut off begins a new Tuner: trials that
are over are not trained again but played back to it.
"""

from __future__ import annotations

import math
import os
import tempfile
import time
from importlib import import_module
from typing import TYPE_CHECKING, Any

from orchestrator.host.interrupts import Interrupts
from orchestrator.host.speed import SLOTS_PER_GPU
from orchestrator.searching.sweep_search import cells_of
from orchestrator.store.trials import ENDED, FINITE_WORST, Task
from orchestrator.sweep.search_space import drawn_beforehand, trials_of
from orchestrator.sweep.sweep import SweepError
from orchestrator.workers import ray_cluster
from trainer.host.limits import cores

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from orchestrator.searching.optuna_cell import CellSearch
    from orchestrator.store.table import Table
    from orchestrator.store.trials import Trial
    from orchestrator.sweep.sweep import Sweep
    from orchestrator.workers.ray_cluster import Node
    from orchestrator.workers.worker import Files
    from trainer.spec import Device

LOSSES = 3
"""Times that a trial is started again whose actor died."""


class TuneSearch:
    """The cells of a sweep, one after the other, under a scheduler of Ray Tune; `interrupted` tells of its end.

    Actors take one of `slots` equal shares of a machine (one a core, four a GPU): of this one, or of those of the
    Ray cluster at `address`.
    """

    def __init__(
        self,
        table: Table,
        sweep: Sweep,
        files: Files,
        *,
        slots: int | None = None,
        device: Device = "auto",
        address: str | None = None,
    ) -> None:
        assert sweep.search is not None
        self._table, self._files = table, files
        self._slots, self._device, self._address = slots, device, address
        self._search = drawn_beforehand(sweep.search)
        self._sweep = sweep.model_copy(update={"search": self._search})
        self._interrupts = Interrupts(time.monotonic, lambda: None)
        self._ray: Any = None
        self.interrupted = False

    def run(self, say: Callable[[str], None] = lambda _: None) -> None:
        """Train what is missing."""
        cells = cells_of(self._sweep)
        self._data = sorted({path for cell in cells for path in (cell.said.path, cell.said.start) if path})
        try:
            self.interrupted = not all(self._over(cell, say) for cell in cells)
        finally:
            if self._ray is not None:
                self._ray.shutdown()

    def _over(self, cell: CellSearch, say: Callable[[str], None]) -> bool:
        """Train what is missing of a cell; whether it came to its end."""
        raise NotImplementedError

    def _start(self) -> None:
        """Start Ray, or join it. What imports it is imported after this: Ray reads at its import how to start."""
        if self._ray is not None:
            return
        if self._address is None:
            self._ray = ray_cluster.start(self._slots or cores(), None)
            return
        self._ray = ray_cluster.join(self._address)
        ray_cluster.check_shared(self._ray, ray_cluster.nodes(self._ray), self._data, self._files.where)

    def _fit(self, cell: CellSearch, trainable: Any, said: Mapping[str, Any], writer: Any, **options: Any) -> None:
        """Have Tune run a trainable with the arguments `said`. The first Ctrl-C ends it soon, the second now."""
        shared = self._files.where if self._address else None
        said = {"metric": self._search.metric, "device": self._device, "files": self._files, **said}
        try:
            with tempfile.TemporaryDirectory(prefix=".tune-", dir=shared) as folder, self._interrupts.watched():
                _tuner(
                    trainable,
                    said,
                    writer,
                    share=_share(ray_cluster.nodes(self._ray), self._slots, self._device),
                    where=(folder, cell.cell_id),
                    **options,
                ).fit()
        except KeyboardInterrupt:
            if not self._interrupts.count:
                raise
        finally:
            writer.release()

    def _asked_to_stop(self) -> bool:
        return self._interrupts.count > 0


class TrialSearch(TuneSearch):
    """The trials of every cell under ASHA, HyperBand or BOHB."""

    def run(self, say: Callable[[str], None] = lambda _: None) -> None:
        """Train what is missing; SweepError where BOHB's packages are of versions that do not go together."""
        if self._search.scheduler == "bohb":
            try:
                import_module("hpbandster.optimizers.config_generators.bohb")
            except Exception as error:  # whatever a package of 2018 comes across
                why = f"scheduler: bohb cannot be used here ({error}); pip install 'isoflop[bohb]'"
                raise SweepError(self._sweep.source, [(("search", "scheduler"), why)]) from error
        super().run(say)

    def _over(self, cell: CellSearch, say: Callable[[str], None]) -> bool:
        trials = self._table.trials.of(self._sweep.sweep, cell.cell_id)
        states = self._table.trials.run_states([run.run_id for trial in trials for run in trial.runs])
        cell.restore(trials, states, {})
        tasks = self._tasks([trial for trial in trials if cell.contains(trial)])
        proposed = self._search.scheduler == "bohb"
        if not proposed:
            tasks |= self._entered(cell.ask())
        if all(task.over for task in tasks.values()) and (not proposed or cell.count == trials_of(self._search)):
            return True
        say(f"{cell.cell_id[:8]}: {trials_of(self._search)} trials under {self._search.scheduler} of Ray Tune")
        self._start()
        from orchestrator.searching.tune_schedulers import scheduler_of
        from orchestrator.searching.tune_trial import TuneTrial
        from orchestrator.searching.tune_writer import TrialWriter

        steps = max((task.runs[0].steps or 1 for task in tasks.values()), default=1)
        writer = TrialWriter(self._table, self._asked_to_stop, self._files)
        given = self._proposed(cell, tasks) if proposed else _drawn(tasks)
        self._fit(cell, TuneTrial, {}, writer, scheduler=scheduler_of(str(self._search.scheduler), steps), **given)
        cell.settle(self._table.trials.run_states(cell.pending))
        return not (self._interrupts.count or cell.pending)

    def _proposed(self, cell: CellSearch, tasks: dict[int, Task]) -> dict[str, Any]:
        from orchestrator.searching.tune_bohb import Proposer

        return {"search_alg": Proposer(cell, tasks, lambda trial: self._entered([trial])), "num_samples": -1}

    def _entered(self, trials: Sequence[Trial]) -> dict[int, Task]:
        """Write new trials into the table; what actors are given of them."""
        if trials:
            self._table.trials.propose(self._sweep.sweep, trials)
        return self._tasks(trials)

    def _tasks(self, trials: Sequence[Trial]) -> dict[int, Task]:
        """What actors are given, by the trial's number; of those that are over only what left a curve."""
        ids = [run.run_id for trial in trials for run in trial.runs]
        standing, recorded = self._table.trials.run_states(ids), self._table.trials.curves(ids, self._search.metric)
        tasks = {}
        for trial in trials:
            states = {standing[run.run_id].state for run in trial.runs}
            curve = _mean([recorded.get(run.run_id, {}) for run in trial.runs]) if states <= ENDED else []
            if states <= ENDED and "diverged" in states:
                curve.append((trial.runs[0].steps or 1, FINITE_WORST[self._search.metric]))
            if curve or not states <= ENDED:
                tasks[trial.number] = Task(trial.number, trial.runs, curve)
        return tasks


def _drawn(tasks: dict[int, Task]) -> dict[str, Any]:
    from ray import tune

    numbers, task = tune.grid_search(list(tasks)), tune.sample_from(lambda config: tasks[config["number"]])
    return {"space": {"number": numbers, "task": task}}


def _mean(curve: Sequence[dict[int, float]]) -> list[tuple[int, float]]:
    """The mean over the runs of a trial, at the steps that all of them have recorded."""
    steps = sorted(set(curve[0]).intersection(*curve[1:]))
    return [(step, sum(one[step] for one in curve) / len(curve)) for step in steps]


def _share(machines: Sequence[Node], slots: int | None, device: Device) -> dict[str, float]:
    """What an actor takes of a machine: one shape for all, since Tune reuses actors of one shape."""
    gpus = max(node.gpus for node in machines) if device in ("auto", "cuda") else 0
    if gpus:
        return {"cpu": 0.0, "gpu": math.floor(1e4 * min(1.0, gpus / (slots or gpus * SLOTS_PER_GPU))) / 1e4}
    return {"cpu": max(1, max(node.cpus for node in machines) // slots) if slots else 1}


def _tuner(
    trainable: Any,
    said: Mapping[str, Any],
    writer: Any,
    *,
    share: dict[str, float],
    where: tuple[str, str],
    space: Mapping[str, Any] | None = None,
    **options: Any,
) -> Any:
    """A Tuner that is quiet, writes no metrics, and leaves signals alone; a trial's config has its `number`."""
    from ray import tune

    os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"  # no files of metrics: the table has them
    os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"  # its own waits for every actor to come to an evaluation
    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"  # the only way in which verbose=0 says nothing

    def name_of(trial: Any) -> str:
        return f"trial-{trial.config['number']}"

    config = tune.TuneConfig(
        metric=said["metric"],
        mode="min",
        reuse_actors=True,
        trial_name_creator=name_of,
        trial_dirname_creator=name_of,
        **options,
    )
    folder, name = where
    run = tune.RunConfig(
        name=name,
        storage_path=folder,
        verbose=0,
        callbacks=[writer],
        failure_config=tune.FailureConfig(max_failures=LOSSES),
        checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
    )
    made = tune.with_resources(tune.with_parameters(trainable, **said), share)
    return tune.Tuner(made, param_space=dict(space or {}), tune_config=config, run_config=run)
