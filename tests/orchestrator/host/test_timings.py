"""What finished stacks teach: corrections of predicted seconds, and what the cache keeps of sessions."""

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.host.speed import TYPICAL, keep, known_speed
from orchestrator.host.timings import KEPT, Corrections, Timing, Timings, kind_of, known_timings, median


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ISOFLOP_CACHE", str(tmp_path))
    monkeypatch.setattr("orchestrator.host.timings.code_version", lambda: "now")


@pytest.fixture
def stack(planned):
    def made(width=32, runs=1, **said):
        (run,) = planned(width=str(width), seeds=1).runs
        return [replace(run, seed=seed, **said) for seed in range(runs)]

    return made


def timings_of(stacks, factor, code="now"):
    return [Timing(kind_of(s), TYPICAL.work(s), factor * TYPICAL.modelled(TYPICAL.work(s)), code) for s in stacks]


@given(factor=st.floats(0.05, 20))
@settings(max_examples=30, deadline=None)
def test_a_machine_that_was_measured_wrongly_is_corrected_by_the_stacks_that_finished(planned, factor):
    """A speed measured under load triples nothing for long; the same factor applies to sizes never trained."""
    (run,) = planned(width="32", seeds=1).runs
    stacks = [[replace(run, width=16 * (i + 1))] for i in range(8)] * KEPT
    speed = replace(TYPICAL, spread=0.15).after(Timings(timings_of(stacks, factor)))
    for width in (16, 32, 256):
        ratio = speed.seconds([replace(run, width=width)]) / TYPICAL.seconds([replace(run, width=width)])
        assert abs(math.log(ratio / factor)) <= 0.15 * abs(math.log(factor)) + 1e-9
    fresh = TYPICAL.after(Timings(timings_of(stacks[:1], factor)))  # typical proportions say nothing of the time
    assert abs(math.log(fresh.correction(stacks[0]).factor / factor)) <= 0.1 * abs(math.log(factor)) + 1e-9


@pytest.mark.parametrize("noise", [0.2, 5.0])
def test_one_noisy_stack_spoils_no_prediction(stack, noise):
    good = timings_of([stack(width) for width in (16, 32, 64)] * 3, 1.0)
    bad = timings_of([stack(32)], noise)
    speed = replace(TYPICAL, spread=0.1).after(Timings(good + bad))
    assert speed.seconds(stack(32)) == pytest.approx(TYPICAL.seconds(stack(32)))
    alone = replace(TYPICAL, spread=0.1).after(Timings(bad))
    for width in (32, 1024):
        assert abs(math.log(alone.correction(stack(width)).factor)) < 0.2


def test_like_corrects_like(stack):
    """A recipe that takes twice what the model says does not slow down another."""
    plain, cropped = stack(32), stack(32, augment="crop")
    speed = replace(TYPICAL, spread=0.15).after(
        Timings(timings_of([plain] * 5, 1.0) + timings_of([cropped] * 5, 2.0))
    )
    assert speed.correction(plain).factor == pytest.approx(1.0)
    assert speed.correction(cropped).factor == pytest.approx(2.0, rel=0.15)
    assert speed.correction(stack(64, augment="crop")).factor == pytest.approx(2.0, rel=0.15)


VALUES = st.lists(st.tuples(st.floats(-9, 9), st.floats(0.1, 9)), min_size=1)


@given(weighed=VALUES)
def test_a_weighted_median_has_at_most_half_of_the_weight_on_either_side(weighed):
    middle, half = median(weighed), sum(weight for _, weight in weighed) / 2 * (1 + 1e-9)
    assert sum(weight for value, weight in weighed if value < middle) <= half
    assert sum(weight for value, weight in weighed if value > middle) <= half


def test_without_a_finished_stack_the_model_stands(stack):
    assert Corrections([], 0.15).at(kind_of(stack())) == pytest.approx((1.0, 0.15))


# in the cache


def test_sessions_are_kept_each_adding_to_the_last(stack):
    assert known_timings() == Timings()
    for session in range(KEPT + 2):
        Timings(timings_of([stack(32)], 1.0 + session), {"cold": [float(session)]}, [0.1], slots=None).keep()
    known = known_timings()
    unit = TYPICAL.modelled(TYPICAL.work(stack(32)))
    assert [timing.seconds / unit for timing in known.stacks] == pytest.approx([3, 4, 5, 6, 7])
    assert known.starts["cold"][-1] == KEPT + 1
    assert known.stacks[0].kind == kind_of(stack(32))
    Timings(starts={"warm": [2.0]}, slots=3).keep()
    assert len(known_timings().stacks) == KEPT
    assert known_timings().slots == 3


def test_stacks_of_older_code_are_forgotten_once_there_are_newer_ones(stack, monkeypatch):
    monkeypatch.setattr("orchestrator.host.timings.code_version", lambda: "then")
    Timings(timings_of([stack(32), stack(64)], 3.0, "then")).keep()
    monkeypatch.setattr("orchestrator.host.timings.code_version", lambda: "now")
    assert len(known_timings().stacks) == 2
    Timings(timings_of([stack(32)], 1.0)).keep()
    assert [timing.code for timing in known_timings().stacks] == ["now"]


def test_the_speed_of_a_machine_is_what_was_measured_and_what_was_learned(stack):
    assert known_speed() is None
    Timings(timings_of([stack(32)], 3.0)).keep()
    assert known_speed().seconds(stack(32)) == pytest.approx(3 * TYPICAL.seconds(stack(32)), rel=0.15)
    keep(replace(TYPICAL, spread=0.1, layer=2 * TYPICAL.layer, code="of another version"))
    known = known_speed()
    assert known.layer == 2 * TYPICAL.layer
    assert known.spread == pytest.approx(0.5)
    assert known.correction(stack(32)).factor > 1


def test_one_measurement_of_a_busy_machine_spoils_no_prediction(stack):
    quiet = replace(TYPICAL, code="now", spread=0.1)
    busy = replace(
        quiet, layer=3 * quiet.layer, value=3 * quiet.value, weight=3 * quiet.weight, flop=3 * quiet.flop
    )
    for measured, counts in ((quiet, quiet), (busy, quiet), (quiet, quiet), (busy, busy), (busy, busy)):
        keep(measured)
        assert known_speed().layer == counts.layer
    keep(replace(quiet, code="newer"))
    assert known_speed().layer == quiet.layer


def test_a_damaged_cache_is_as_an_empty_one(tmp_path):
    keep(TYPICAL)
    (tmp_path / "machine.json").write_text("{")
    assert known_speed() is None
    assert known_timings() == Timings()
    keep(TYPICAL)
    assert known_speed() is not None
