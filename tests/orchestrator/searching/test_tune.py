"""What Ray Tune's schedulers decide, without Ray; real searches are in tests/line."""

import pytest

from orchestrator.workers.ray_cluster import imported


class Tried:
    def __init__(self, number, values):
        self.trial_id, self.values, self.status, self.is_saving = number, values, "PENDING", False


class Controller:
    """As much of Tune's as a scheduler uses, over one trial after another."""

    def __init__(self, scheduler):
        self.scheduler, self.trials = scheduler, []
        scheduler.set_search_properties("val_error", "min")

    def add(self, values):
        self.trials.append(trial := Tried(len(self.trials), values))
        self.scheduler.on_trial_add(self, trial)

    def get_trials(self):
        return self.trials

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
                trial.status = {"CONTINUE": "RUNNING", "PAUSE": "PAUSED", "STOP": "STOPPED"}[decision]
            if trial.status == "STOPPED":
                self.stop_trial(trial)


@pytest.mark.parametrize("kind", ["all diverge", "few evaluations", "many evaluations"])
def test_brackets_come_to_their_end(kind):
    imported()  # others of this process start Ray
    from orchestrator.searching.tune_trial import scheduler_of

    clocks = {"all diverge": [27], "few evaluations": [2, 11, 27], "many evaluations": range(28)}[kind]
    controller = Controller(scheduler_of("hyperband", 100))
    for number in range(27):
        controller.add([(clock, 1.0 if kind == "all diverge" else number / 100) for clock in clocks])
    controller.run()
    assert {trial.status for trial in controller.trials} == {"TERMINATED"}
    if kind != "all diverge":
        assert not controller.trials[0].values  # the best came to its end
