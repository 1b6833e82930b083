"""A search run by a scheduler of Ray Tune, where the file names one. Its trials are kept in our table all the same.

The trials of a cell are drawn beforehand (`sampling`), so that the table knows them all; Tune decides which go on.
The coordinator writes what its actors say, in callbacks; nothing that Tune writes is needed afterwards. A search
that was cut off begins a new Tuner: trials that are over are not trained again but played back to it.
"""

from __future__ import annotations

import os
import tempfile
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from orchestrator import cluster
from orchestrator.device import SLOTS_PER_GPU
from orchestrator.search import SweepSearch
from orchestrator.search_file import drawn_beforehand
from orchestrator.trials import ENDED, Task, curves, known, standings
from trainer.machine import cores

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from orchestrator.sweep import Sweep
    from orchestrator.table import Table
    from orchestrator.trials import Trial
    from orchestrator.worker import Files
    from trainer.spec import Device

LOSSES = 3
"""Times that a trial is started again whose actor died."""

_HALVINGS = 27  # the first rung stands at this part of a run


class TuneSearch:
    """The trials of a sweep under a scheduler of Ray Tune, on `slots` equal shares (one a core, four a GPU)."""

    def __init__(
        self, table: Table, sweep: Sweep, files: Files, *, slots: int | None = None, device: Device = "auto"
    ) -> None:
        assert sweep.search is not None
        self._table, self._sweep, self._search, self._files = table, sweep, sweep.search, files
        self._slots, self._device = slots, device
        self._drawn = SweepSearch(table, sweep.model_copy(update={"search": drawn_beforehand(sweep.search)}))
        self.interrupted = False

    def run(self, say: Callable[[str], None] = lambda _: None) -> None:
        """Train what is missing, cell after cell; `interrupted` tells whether Ctrl-C came in between."""
        self._drawn.more()
        ray = None
        try:
            for cell_id, trials in self._trials().items():
                tasks = self._tasks(trials)
                if self.interrupted or all(task.over for task in tasks.values()):
                    continue
                ray = ray or cluster.start(self._slots or cores(), None)
                # not earlier: Ray reads at import how to start
                from orchestrator.tune_coordinator import Coordinator

                say(f"{cell_id[:8]}: {len(tasks)} trials under {self._search.scheduler} of Ray Tune")
                coordinator = Coordinator(self._table, tasks, self._files)
                try:
                    with tempfile.TemporaryDirectory(prefix="isoflop-tune-") as folder:
                        self._tuner(folder, cell_id, tasks, coordinator, ray).fit()
                finally:
                    self.interrupted = coordinator.release()
        finally:
            if ray is not None:
                ray.shutdown()

    def _trials(self) -> dict[str, list[Trial]]:
        found: defaultdict[str, list[Trial]] = defaultdict(list)
        for trial in known(self._table, self._sweep.sweep):
            found[trial.search_cell].append(trial)
        return found

    def _tasks(self, trials: Sequence[Trial]) -> dict[int, Task]:
        """What actors are given, by the trial's number; of those that are over only what left a curve."""
        ids = [run.run_id for trial in trials for run in trial.runs]
        standing, recorded = standings(self._table, ids), curves(self._table, ids, self._search.metric)
        tasks = {}
        for trial in trials:
            over = all(standing[run.run_id].state in ENDED for run in trial.runs)
            curve = _mean([recorded.get(run.run_id, {}) for run in trial.runs]) if over else []
            if curve or not over:
                tasks[trial.number] = Task(trial.runs, curve)
        return tasks

    def _tuner(self, folder: str, cell_id: str, tasks: dict[int, Task], coordinator: Any, ray: Any) -> Any:
        from orchestrator.tune_trial import TuneTrial

        steps = max(task.runs[0].steps or 1 for task in tasks.values())
        said = {"tasks": tasks, "metric": self._search.metric, "device": self._device, "files": self._files}
        return tuner(
            TuneTrial,
            said,
            {"number": list(tasks)},
            _scheduler(str(self._search.scheduler), steps),
            coordinator,
            metric=self._search.metric,
            share=share(ray, self._slots, self._device),
            where=(folder, cell_id),
        )


def share(ray: Any, slots: int | None, device: Device) -> dict[str, float]:
    """What an actor takes of the machine: one shape for all, since Tune reuses actors of one shape."""
    gpus = ray.cluster_resources().get("GPU", 0) if device in ("auto", "cuda") else 0
    return {"cpu": 0.0, "gpu": gpus / (slots or gpus * SLOTS_PER_GPU)} if gpus else {"cpu": 1.0}


def tuner(
    trainable: Any,
    said: Mapping[str, Any],
    space: Mapping[str, Any],
    scheduler: Any,
    callback: Any,
    *,
    metric: str,
    share: dict[str, float],
    where: tuple[str, str],
) -> Any:
    """A Tuner of a trainable with the arguments `said`, a trial for every `number` of the space; it is quiet."""
    from ray import tune

    os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"  # no files of metrics: the table has them
    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"  # the only way in which verbose=0 says nothing
    config = tune.TuneConfig(
        metric=metric,
        mode="min",
        scheduler=scheduler,
        reuse_actors=True,
        trial_name_creator=lambda trial: f"trial-{trial.config['number']}",
        trial_dirname_creator=lambda trial: f"trial-{trial.config['number']}",
    )
    folder, name = where
    run = tune.RunConfig(
        name=name,
        storage_path=folder,
        verbose=0,
        callbacks=[callback],
        failure_config=tune.FailureConfig(max_failures=LOSSES),
        checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
    )
    made = tune.with_resources(tune.with_parameters(trainable, **said), share)
    numbers = {**space, "number": tune.grid_search(space["number"])}
    return tune.Tuner(made, param_space=numbers, tune_config=config, run_config=run)


def _scheduler(name: str, steps: int) -> Any:
    """Whichever the file names, its clock the steps of the optimiser."""
    from ray.tune.schedulers import ASHAScheduler, HyperBandScheduler

    from orchestrator.tune_trial import CLOCK

    if name == "hyperband":
        return HyperBandScheduler(time_attr="clock", max_t=CLOCK, reduction_factor=3)
    return ASHAScheduler(
        time_attr="step", max_t=steps + 1, grace_period=max(1, steps // _HALVINGS), reduction_factor=3
    )


def _mean(curve: Sequence[dict[int, float]]) -> list[tuple[int, float]]:
    """The mean over the runs of a trial, at the steps that all of them have recorded."""
    steps = sorted(set(curve[0]).intersection(*curve[1:]))
    return [(step, sum(one[step] for one in curve) / len(curve)) for step in steps]
