"""The order in which stacks start, simulated: how long everything takes, and when half of the runs are done."""

import heapq
import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator import load_sweep, plan
from orchestrator.host.speed import TYPICAL
from orchestrator.scheduling.stacks import WITHIN, group_into_stacks, makespan, shares, start_order
from tests.paths import ROOT
from tests.trainer.reference import resolved
from trainer.spec import stack_key
from trainer.trunk import by_recipe

SWEEPS = sorted((ROOT / "sweeps").glob("*.yaml"))


def simulated(stacks, slots, seconds):
    """(seconds, runs) as they end, on workers that each take the next stack."""
    free, ends = [0.0] * slots, []
    for stack in stacks:
        end = heapq.heappop(free) + seconds(stack)
        ends.append((end, len(stack)))
        heapq.heappush(free, end)
    return sorted(ends)


def half_done(ends):
    total, runs = sum(n for _, n in ends), 0
    for end, n in ends:
        runs += n
        if runs >= total / 2:
            return end
    raise AssertionError


@pytest.fixture(scope="module")
def shipped():
    """By name and slots: stacks in their order, the end of everything, and the least time that it can take."""
    found = {}
    for path in SWEEPS:
        runs = [run for run in plan(load_sweep(path), decode=False).runs if not run.parent]
        for slots in (2, 4, 8):
            made = group_into_stacks(runs, speed=TYPICAL, slots=slots)
            times = [TYPICAL.seconds(stack) for stack in made]
            found[path.stem, slots] = made, simulated(made, slots, TYPICAL.seconds), max(sum(times) / slots, *times)
    return found


def test_every_shipped_sweep_ends_within_a_twentieth_of_the_least_time(shipped):
    late = {which: ends[-1][0] / least for which, (_, ends, least) in shipped.items()}
    assert max(late.values()) <= WITHIN, late


def test_half_of_the_runs_are_done_by_a_tenth_of_the_time_wherever_that_can_be(shipped):
    """Most sweeps' costs are not so uneven: even the cheapest half of their runs, alone, takes longer than that."""
    can = set()
    for which, (made, ends, least) in shipped.items():
        cheapest = sorted(made, key=TYPICAL.seconds)
        half = next(i for i in range(1, len(made) + 1) if 2 * sum(map(len, cheapest[:i])) >= sum(map(len, made)))
        both = simulated(cheapest[:half] + cheapest[: half - 1 : -1], which[1], TYPICAL.seconds)
        if half_done(both) <= 0.1 * least and both[-1][0] <= WITHIN * least:
            can.add(which)
            assert half_done(ends) <= 0.1 * ends[-1][0], which
    assert ("paper-scaling", 8) in can


RECIPES = st.builds(
    lambda width, steps, **said: resolved(width=width, batch_size=32, examples=32 * steps, **said),
    st.sampled_from([16, 24, 64]),
    st.sampled_from([10, 100, 2000]),
    lr=st.sampled_from([1e-3, 1e-2]),
    weight_decay=st.sampled_from([0.0, 0.1]),
    schedule=st.sampled_from(["constant", "cosine", "wsd"]),
    seed=st.integers(0, 20),
)


@given(runs=st.lists(RECIPES, min_size=1, max_size=40, unique_by=lambda run: run.run_id), slots=st.integers(1, 8))
@settings(deadline=None, max_examples=40)
def test_stacks_hold_all_runs_and_no_worker_is_idle_that_could_shorten_the_whole(runs, slots):
    made = group_into_stacks(runs, slots=slots)
    assert sorted(run.run_id for stack in made for run in stack) == sorted(run.run_id for run in runs)
    assert all(len({stack_key(run) for run in stack}) == 1 for stack in made)
    assert all(len(by_recipe(stack)) == 1 for stack in made if stack[0].width == 24)
    recipes = [{run.run_id for run in recipe} for recipe in by_recipe(runs)]
    assert all(any(recipe <= {run.run_id for run in stack} for stack in made) for recipe in recipes)
    whole = group_into_stacks(runs, slots=1)
    assert len(whole) <= len(made)
    longest_first = [sorted(map(TYPICAL.seconds, some), reverse=True) for some in (made, whole)]
    assert makespan(longest_first[0], slots) <= makespan(longest_first[1], slots)


def test_runs_of_one_shape_are_one_stack_whatever_their_lengths_rates_and_steps():
    options = itertools.product((60, 90), (1e-3, 1e-2), ("cosine", "wsd"), (0, 1), (500, 900))
    runs = [
        resolved(width=16, batch_size=32, examples=32 * steps, lr=lr, schedule=how, seed=seed, dataset_size=n)
        for steps, lr, how, seed, n in options
    ]
    begun = {run.run_id: 5 * number for number, run in enumerate(runs[:3])}
    (stack,) = group_into_stacks(runs, lambda run: begun.get(run.run_id, 0))
    assert {run.run_id for run in stack} == {run.run_id for run in runs}
    halves = group_into_stacks([run for run in runs if run.schedule == "cosine"], slots=2)
    assert [len(half) for half in halves] == [8, 8]


def test_the_seconds_of_a_stack_belong_to_its_runs_by_their_flops():
    runs = [resolved(batch_size=32, examples=32 * steps, schedule="cosine") for steps in (10, 30)]
    assert shares(runs, 8.0) == pytest.approx({runs[0].run_id: 2.0, runs[1].run_id: 6.0})
    tests = [resolved(examples=0, parent="p", seed=seed) for seed in (0, 1)]
    assert set(shares(tests, 8.0).values()) == {4.0}


TIMES = st.lists(st.floats(0.01, 100), min_size=1, max_size=40)


@given(times=TIMES, slots=st.integers(1, 8))
def test_any_bundles_are_all_there_scouts_first_and_the_rest_from_the_longest_down(times, slots):
    made = [(i, seconds) for i, seconds in enumerate(times)]
    ordered = start_order(made, lambda b: b[1], lambda b: b[1], slots)
    assert sorted(ordered) == sorted(made)
    seconds = [b[1] for b in ordered]
    turn = next((i for i in range(1, len(seconds)) if seconds[i] < seconds[i - 1]), len(seconds))
    assert seconds[turn:] == sorted(seconds[turn:], reverse=True)
    least = max(sum(times) / slots, *times)
    assert makespan(seconds, slots) <= max(WITHIN * least, makespan(sorted(times, reverse=True), slots)) + 1e-9


def test_a_scout_is_as_large_as_it_should_be_and_gives_way_to_a_long_bundle():
    even = [(i, 1.0) for i in range(1000)]
    assert start_order(even, lambda b: b[0], lambda b: b[0])[0] == (0, 1.0)
    uneven = [(1.0,)] * 100 + [(100.0,)] * 20
    ordered = start_order(uneven, lambda b: b[0], lambda b: b[0], 4)
    assert ordered[:100] == [(1.0,)] * 100  # half of the runs and more, in less than a tenth of the time
    doubling = [(2.0**i,) for i in range(6)]  # three scouts, 5 % of the FLOPs, would keep the last one waiting
    ordered = start_order(doubling, lambda b: b[0], lambda b: b[0], 2)
    assert ordered == [(1.0,), (32.0,), (16.0,), (8.0,), (4.0,), (2.0,)]
