"""What Ray Tune's schedulers are given and what they decide, without Ray; real searches are in tests/line."""

import math
import warnings
from types import SimpleNamespace

import numpy as np
import pytest

from orchestrator import read_sweep
from orchestrator.searching.sweep_search import cells_of
from orchestrator.store.trials import Task, Trial
from orchestrator.sweep.sweep import SweepError
from orchestrator.workers.ray_cluster import imported

RANGE = "lr: {search: {min: 1e-4, max: 1, distribution: log_uniform}}"
SWEEP = """\
sweep: tuned
data: {{dataset: digits, validation: 0.2}}
model: {{family: b-mlp, depth: 1, width: {width}}}
train: {{batch_size: 32, {train}}}
budget: {{epochs: 10}}
search: {{trials: {trials}, scheduler: bohb, metric: val_loss}}
"""


def cell_of(train=RANGE, width="16", trials=60):
    return cells_of(read_sweep(SWEEP.format(train=train, width=width, trials=trials)))[0]


@pytest.fixture(scope="module")
def bohb():
    pytest.importorskip("hpbandster", reason="the extra [bohb] is not installed")
    imported()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a package of 2018, as it is compiled
        from orchestrator.searching import tune_bohb

    return tune_bohb


class Played:
    """A search by BOHB in which a trial is worth what `worth` says of its run, at every rung."""

    def __init__(self, bohb, cell, worth, known=()):
        tasks = {task.number: task for task in known}
        self.proposer = bohb.Proposer(cell, tasks, lambda t: {t.number: Task(t.number, t.runs, [])})
        self.worth, self.metric, self.tasks = worth, cell.search.metric, []

    def step(self):
        said = self.proposer.suggest(f"id-{len(self.tasks)}")
        if said == "FINISHED":
            return False
        assert said["number"] == len(self.tasks)
        value = self.worth(said["task"].runs[0])
        told = {self.metric: value, "hyperband_info": {"budget": 27}}
        self.proposer.on_trial_result(f"id-{said['number']}", told)
        self.tasks.append(said["task"])
        return True

    def all(self):
        while self.step():
            pass
        return [task.runs[0] for task in self.tasks]


def bowl(run):
    return (math.log10(run.lr) + 2) ** 2


def test_bohb_proposes_near_what_was_good(bohb):
    runs = Played(bohb, cell_of(), bowl).all()
    assert len({run.run_id for run in runs}) == 60
    away = np.array([abs(math.log10(run.lr) + 2) for run in runs])
    assert np.median(away[20:]) < 0.5  # 1 if they were drawn at random
    assert away[20:].max() > 1  # as a third of them is


def test_bohb_goes_on_after_what_is_known_as_it_would_have(bohb):
    whole = Played(bohb, cell_of(), bowl).all()
    first = Played(bohb, cell_of(), bowl)
    for _ in range(23):
        first.step()
    np.random.seed(1)  # noqa: NPY002 - the global stream is somebody else's
    cell = cell_of()
    cell.restore([Trial(cell.cell_id, task.number, task.runs) for task in first.tasks], Ended(), {})
    assert Played(bohb, cell, bowl, known=reversed(first.tasks)).all() == whole


class Ended(dict):
    def __missing__(self, run_id):
        return SimpleNamespace(state="pruned")


def test_bohb_keeps_to_what_the_file_says_of_every_kind_of_parameter(bohb):
    train = (
        "optimizer: {search: {values: [sgd, adamw, lion]}}, weight_decay: {search: {values: [0, 0.01, 0.1]}}, "
        "momentum: {search: {min: 0.1, max: 0.95}}, " + RANGE
    )
    width = "{search: {min: 4, max: 64, distribution: int_log_uniform}}"
    cell = cell_of(train, width)
    runs = Played(
        bohb, cell, lambda run: bowl(run) + run.weight_decay + (run.optimizer == "lion") + run.width
    ).all()
    for name, kind in {
        "optimizer": str,
        "weight_decay": float,
        "momentum": float,
        "lr": float,
        "width": int,
    }.items():
        assert {type(getattr(run, name)) for run in runs} == {kind}
    assert {run.optimizer for run in runs} == {"sgd", "adamw", "lion"}
    assert {run.weight_decay for run in runs} == {0.0, 0.01, 0.1}
    assert all(4 <= run.width <= 64 and 0.1 <= run.momentum <= 0.95 and 1e-4 <= run.lr <= 1 for run in runs)
    late = runs[30:]
    assert np.mean([run.optimizer == "lion" for run in late]) < 0.3
    assert np.median([run.width for run in late]) < np.median([run.width for run in runs[:6]])


def test_bohb_tries_nothing_twice_and_ends_when_all_was_tried(bohb):
    cell = cell_of("lr: {search: {values: [1e-3, 1e-2]}}", "{search: {min: 3, max: 6}}")
    runs = Played(bohb, cell, bowl).all()
    assert len(runs) == len({(run.lr, run.width) for run in runs}) == 8


def test_bohb_without_its_packages_is_refused_in_a_line(monkeypatch):
    monkeypatch.setattr(
        "orchestrator.sweep.search_space.find_spec", lambda name: None if name == "hpbandster" else name
    )
    with pytest.raises(SweepError, match=r":6: scheduler: bohb needs packages: pip install 'isoflop\[bohb\]'"):
        cell_of()


# brackets


class Tried(SimpleNamespace):
    __hash__ = object.__hash__


class Controller:
    """As much of Tune's as a scheduler uses, over one trial after another; `told` is what the searcher hears."""

    def __init__(self, scheduler):
        self.scheduler, self.trials, self.told = scheduler, [], []
        self.search_alg = self.searcher = self
        scheduler.set_search_properties("val_error", "min")

    def add(self, values):
        self.trials.append(
            trial := Tried(status="PENDING", is_saving=False, trial_id=len(self.trials), values=values)
        )
        self.scheduler.on_trial_add(self, trial)

    def get_trials(self):
        return self.trials

    def on_pause(self, trial_id):
        pass

    on_unpause = on_pause

    def on_trial_result(self, trial_id, result):
        if "budget" in result.get("hyperband_info", {}):
            self.told.append((trial_id, result["hyperband_info"]["budget"]))

    def stop_trial(self, trial):
        trial.status = "TERMINATED"
        self.scheduler.on_trial_remove(self, trial)

    def run(self):
        while (trial := self.scheduler.choose_trial_to_run(self)) is not None:
            trial.status = "RUNNING"
            while trial.status == "RUNNING":
                clock, value = trial.values.pop(0)
                result = {"val_error": value, "clock": clock}
                decision = self.scheduler.on_trial_result(self, trial, result)
                if decision != "STOP":
                    self.on_trial_result(trial.trial_id, result)
                trial.status = {"CONTINUE": "RUNNING", "PAUSE": "PAUSED", "STOP": "STOPPED"}[decision]
            if trial.status == "STOPPED":
                self.stop_trial(trial)


@pytest.mark.parametrize("name", ["hyperband", "bohb"])
@pytest.mark.parametrize("kind", ["all diverge", "few evaluations", "many evaluations"])
def test_brackets_come_to_their_end(name, kind):
    imported()  # others of this process start Ray
    from orchestrator.searching.tune_schedulers import scheduler_of

    clocks = {"all diverge": [27], "few evaluations": [2, 11, 27], "many evaluations": range(28)}[kind]
    controller = Controller(scheduler_of(name, 100))
    for number in range(27):
        controller.add([(clock, 1.0 if kind == "all diverge" else number / 100) for clock in clocks])
    controller.run()
    assert {trial.status for trial in controller.trials} == {"TERMINATED"}
    if kind != "all diverge":
        assert not controller.trials[0].values  # the best came to its end
    if name == "bohb":
        assert len(controller.told) == len(set(controller.told))
        assert {number for number, _ in controller.told} == set(range(27))
