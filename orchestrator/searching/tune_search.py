"""A search by a scheduler of Ray Tune. Its trials are rows of the table like any others.

All trials are drawn beforehand (`optuna_cell`) and written to the table; Tune decides which continue. Callbacks in
this process write what the actors report; nothing that Tune writes is needed afterwards. An interrupted search
begins a new Tuner: trials that are over are not trained again but replayed to it.
"""

from __future__ import annotations

import math
import os
import tempfile
import time
from typing import TYPE_CHECKING, Any

from orchestrator.host.interrupts import Interrupts
from orchestrator.host.slots import SLOTS_PER_GPU
from orchestrator.searching.sweep_search import cells_of
from orchestrator.store.trials import ENDED, FINITE_WORST, Task
from orchestrator.sweep.search_space import drawn_beforehand, trials_of
from orchestrator.text import count
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
"""How often a trial whose actor died is started again."""


class TuneSearch:
    """The cells of a sweep, one after the other, under a scheduler of Ray Tune; `interrupted` after a Ctrl-C.

    An actor takes one of `slots` equal shares of a machine (default: one a core, four a GPU), which is this one, or
    any of the Ray cluster at `address`.
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
        self._is_own = ray_cluster.is_own()
        self.interrupted = False

    def run(self, say: Callable[[str], None] = lambda _: None) -> None:
        """Train what is missing."""
        cells = cells_of(self._sweep)
        self._data = sorted({path for cell in cells for path in (cell.declared.path, cell.declared.start) if path})
        try:
            self.interrupted = not all(self._over(cell, say) for cell in cells)
        finally:
            if self._ray is not None and not self._is_own:
                self._ray.shutdown()

    def _over(self, cell: CellSearch, say: Callable[[str], None]) -> bool:
        """Train what a cell lacks; returns whether it came to its end."""
        raise NotImplementedError

    def _start(self) -> None:
        """Start Ray or join it. Modules that import Ray are imported later: it reads its settings at import."""
        if self._ray is not None:
            return
        if self._address is None:
            self._ray = ray_cluster.start(self._slots or cores(), None)
            return
        self._ray = ray_cluster.join(self._address)
        ray_cluster.check_shared(self._ray, ray_cluster.nodes(self._ray), self._data, self._files.where)

    def _fit(self, cell: CellSearch, trainable: Any, settings: dict[str, Any], writer: Any, **options: Any) -> None:
        """Have Tune run a trainable with some settings. The first Ctrl-C ends it soon, the second at once."""
        shared = self._files.where if self._address else None
        settings = {"metric": self._search.metric, "device": self._device, "files": self._files, **settings}
        try:
            with tempfile.TemporaryDirectory(prefix=".tune-", dir=shared) as folder, self._interrupts.watched():
                _tuner(
                    trainable,
                    settings,
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
    """The trials of every cell under ASHA or HyperBand."""

    def _over(self, cell: CellSearch, say: Callable[[str], None]) -> bool:
        trials = self._table.trials.of(self._sweep.sweep, cell.cell_id)
        states = self._table.trials.run_states([run.run_id for trial in trials for run in trial.runs])
        cell.restore(trials, states, {})
        if proposed := cell.ask():
            self._table.trials.propose(self._sweep.sweep, proposed)
        tasks = self._tasks([*filter(cell.contains, trials), *proposed])
        if all(task.over for task in tasks.values()):
            return True
        number = count(trials_of(self._search), "trial")
        say(f"{cell.cell_id[:8]}: {number} under {self._search.scheduler} of Ray Tune")
        self._start()
        from ray import tune

        from orchestrator.searching.tune_trial import TrialWriter, TuneTrial, scheduler_of

        steps = max(task.runs[0].steps or 1 for task in tasks.values())
        self._fit(
            cell,
            TuneTrial,
            {},
            TrialWriter(self._table, self._asked_to_stop, self._files),
            scheduler=scheduler_of(str(self._search.scheduler), steps),
            space={
                "number": tune.grid_search(list(tasks)),
                "task": tune.sample_from(lambda config: tasks[config["number"]]),
            },
        )
        cell.settle(self._table.trials.run_states(cell.pending))
        return not (self._interrupts.count or cell.pending)

    def _tasks(self, trials: Sequence[Trial]) -> dict[int, Task]:
        """What actors are given, by number of the trial; trials that are over without a curve are left out."""
        ids = [run.run_id for trial in trials for run in trial.runs]
        ends, curves = self._table.trials.run_states(ids), self._table.trials.curves(ids, self._search.metric)
        tasks = {}
        for trial in trials:
            states = {ends[run.run_id].state for run in trial.runs}
            curve = _mean([curves.get(run.run_id, {}) for run in trial.runs]) if states <= ENDED else []
            if states <= ENDED and "diverged" in states:
                curve.append((trial.runs[0].steps or 1, FINITE_WORST[self._search.metric]))
            if curve or not states <= ENDED:
                tasks[trial.number] = Task(trial.number, trial.runs, curve)
        return tasks


def _mean(curve: Sequence[dict[int, float]]) -> list[tuple[int, float]]:
    """The mean over the runs of a trial, at the steps that all of them recorded."""
    steps = sorted(set(curve[0]).intersection(*curve[1:]))
    return [(step, sum(one[step] for one in curve) / len(curve)) for step in steps]


def _share(machines: Sequence[Node], slots: int | None, device: Device) -> dict[str, float]:
    """The resources of an actor: the same for all, since Tune reuses only actors with equal resources."""
    gpus = max(node.gpus for node in machines) if device in ("auto", "cuda") else 0
    if gpus:
        return {"cpu": 0.0, "gpu": math.floor(1e4 * min(1.0, gpus / (slots or gpus * SLOTS_PER_GPU))) / 1e4}
    return {"cpu": max(1, max(node.cpus for node in machines) // slots) if slots else 1}


def _tuner(
    trainable: Any,
    settings: Mapping[str, Any],
    writer: Any,
    *,
    share: dict[str, float],
    where: tuple[str, str],
    space: Mapping[str, Any],
    **options: Any,
) -> Any:
    """A Tuner that prints nothing, writes no metrics and installs no signal handlers."""
    from ray import tune

    os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"  # no files of metrics: the table has them
    os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"  # its own waits for every actor to come to an evaluation
    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"  # with the new output, verbose=0 still prints

    def name_of(trial: Any) -> str:
        return f"trial-{trial.config['number']}"

    config = tune.TuneConfig(
        metric=settings["metric"],
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
    prepared = tune.with_resources(tune.with_parameters(trainable, **settings), share)
    return tune.Tuner(prepared, param_space=dict(space), tune_config=config, run_config=run)
