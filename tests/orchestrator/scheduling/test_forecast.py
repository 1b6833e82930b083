"""Predicted seconds of a sweep: those of the scheduler's own stacks on its slots, and what surrounds them."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from orchestrator import plan, read_sweep
from orchestrator.host.speed import TYPICAL, Speed
from orchestrator.host.timings import Timings
from orchestrator.host.usage import Usage
from orchestrator.scheduling.forecast import (
    START,
    Forecast,
    Lessons,
    Simulation,
    decoding_seconds,
    forecast,
    planned_forecast,
)
from orchestrator.scheduling.stacks import group_into_stacks, makespan
from trainer.trunk import charged_flops

SPEED = Speed("cpu", layer=1e-3, value=0.0, weight=0.0, flop=1e-10, spread=0.1)


@pytest.mark.parametrize("slots", [1, 2, 5])
def test_the_scheduler_s_own_stacks_are_simulated(planned, slots):
    runs = planned(width="[16, 32, 64]", epochs="[1, 4, 16]", seeds=5).runs
    stacks = group_into_stacks(runs, speed=SPEED, slots=slots)
    simulated = Simulation(runs, SPEED, slots)
    assert simulated.end == pytest.approx(makespan(map(SPEED.seconds, stacks), slots))
    assert simulated.shares.keys() == {run.run_id for run in runs}
    assert sum(simulated.shares.values()) == pytest.approx(sum(map(SPEED.seconds, stacks)))


def test_nothing_takes_no_time():
    assert Simulation([], SPEED, 2).end == 0


def test_stages_follow_their_parents(text_of):
    stage = "then: [{stage: tuned, after: train, budget: {epochs: 3}}]"
    runs = plan(read_sweep(text_of(width="24", seeds="1", more=stage))).runs
    alone = [Simulation([run], SPEED, 1).end for run in runs]
    assert Simulation(runs, SPEED, 8).end == pytest.approx(sum(alone))


def test_what_surrounds_training_is_learned_from_sessions(planned):
    runs = planned().runs
    unknown = forecast(runs, SPEED, 2)
    assert unknown.start == START["processes"]
    known = forecast(runs, SPEED, 2, timings=Timings(starts={"processes": [9.0, 9.5, 60.0]}, per_run=[1.0, 1.0]))
    assert known.start == 9.0
    assert known.training - unknown.training == pytest.approx(len(runs) * (1.0 - 0.003) / 2)


def test_what_the_cache_lacks_is_decoded_first(text_of, tmp_path, monkeypatch):
    monkeypatch.setenv("ISOFLOP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("ISOFLOP_DATA", str(tmp_path))
    text = text_of(width="16").replace("dataset: digits", "dataset: cifar10, path: cifar10.tar.gz")
    (tmp_path / "cifar10.tar.gz").write_bytes(bytes(19_432_850))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("orchestrator.scheduling.forecast.cores", lambda: 2)
    runs = plan(read_sweep(text), decode=False).runs
    assert decoding_seconds(runs) == pytest.approx(0.825 * 12.5, rel=0.02)  # once, whatever the number of runs
    monkeypatch.setattr("orchestrator.scheduling.forecast.cores", lambda: 16)
    assert decoding_seconds(runs) < 0.7 * 12.5
    assert decoding_seconds([replace(run, fingerprint="decoded") for run in runs]) == 0


def test_a_search_trains_round_after_round(text_of):
    def of(**said):
        text = text_of(width="32", seeds="1", more=f"search: {said}\n".replace("'", "")).replace(
            "lr: 1e-3", "lr: {search: {min: 1e-3, max: 1e-1}}"
        )
        return planned_forecast(plan(read_sweep(text.replace("dataset_size: 180", "validation: 0.2"))), SPEED)

    one = of(method="random", trials=1, batch=1)
    assert of(method="random", trials=4, batch=1).training == pytest.approx(4 * one.training)
    assert of(method="random", trials=4, batch=4).training < 2 * one.training


def test_a_forecast_says_its_parts_and_how_sure_it_is():
    said = Forecast(6.0, 16.0, 0.1)
    assert str(said) == "22 s (6 s to start + 16 s of training, 14 s to 18 s)"
    assert str(Forecast(2.0, 0.1, 0.1)) == "2 s (2 s to start + 0.1 s of training)"
    low, high = said.interval
    assert low < 16 < high
    assert said.to_dict()["seconds"] == 22.0


# what a session teaches


def ended(stack, seconds, state="done", began=()):
    running = SimpleNamespace(all=tuple(stack), usage=Usage(seconds=seconds), began=began)
    return running, SimpleNamespace(results=[SimpleNamespace(state=state) for _ in stack])


def test_a_session_teaches_the_median_of_each_kind_of_stack(planned):
    runs = planned(width="[16, 32]", seeds=1).runs
    lessons = Lessons(SPEED)
    lessons.begin()
    for run in runs:
        for factor in (1.0, 8.0, 1.2):
            lessons.take(*ended([run], factor * SPEED.seconds([run])))
    learned = lessons.timings("cold", 0.0, None)
    assert [ratio for _, ratio in learned.ratios(SPEED.modelled)] == pytest.approx([1.2, 1.2])
    assert learned.starts["cold"][0] > 0


@pytest.mark.parametrize(
    "said", [{"seconds": None}, {"seconds": 1.0, "state": "cancelled"}, {"seconds": 1.0, "began": {"a": 7}}]
)
def test_a_stack_that_did_not_train_from_start_to_end_teaches_nothing(planned, said):
    lessons = Lessons(TYPICAL)
    lessons.begin()
    lessons.take(*ended(planned().runs[:1], **said))
    assert lessons.timings("cold", 0.0, None).stacks == []


def test_a_session_without_a_finished_stack_teaches_nothing():
    assert Lessons(TYPICAL).timings("cold", 0.0, None) == Timings()


def test_the_shares_of_a_plan_add_up(planned):
    made = planned(width="[16, 32]", epochs="[1, 4]")
    said = planned_forecast(made, replace(SPEED, layer=0.0))
    assert said.shares.keys() == charged_flops(made.runs).keys()
    assert sum(said.shares.values()) <= said.training
