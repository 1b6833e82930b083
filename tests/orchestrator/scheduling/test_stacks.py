"""The order in which stacks start, simulated: how long everything takes, and when half of the runs are done."""

import heapq

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator import load_sweep, plan
from orchestrator.host.speed import TYPICAL
from orchestrator.scheduling.stacks import WITHIN, group_into_stacks, makespan, start_order
from tests.paths import ROOT

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
    assert can >= {("quickstart", 2), ("cifar10-small", 2), ("cifar10-small", 4), ("paper-scaling", 8)}


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
