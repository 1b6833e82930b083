"""The time left, on simulated workers whose stacks end as list scheduling has it."""

import heapq
import random
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from orchestrator.scheduling.progress import Pace, Training

SHARES = [0.0, *(0.6**i for i in range(11, -1, -1))]
"""Shares of a run at which it is recorded: evaluations are log-spaced, the last after six tenths."""


def course(predicted, slots):
    """Begin and end of each stack on workers that each take the next."""
    free, ends = [0.0] * slots, []
    for seconds in predicted:
        begin = heapq.heappop(free)
        heapq.heappush(free, begin + seconds)
        ends.append((begin, begin + seconds))
    return ends


def left_at(now, predicted, actual, slots):
    """What Pace says at a time, of stacks of one run each, and what is true."""
    pace, ends = Pace(), course(actual, slots)
    pace.expect({str(i): seconds for i, seconds in enumerate(predicted)}, ())
    training = list[Training]()
    waiting = list[Any]()
    for i, (begin, end) in enumerate(ends):
        if end <= now:
            pace.ended(str(i))
            pace.spent(end - begin)
        elif begin <= now:
            share = max(s for s in SHARES if begin + s * (end - begin) <= now)
            seen = begin + share * (end - begin)
            training.append(Training({str(i): share}, seen - begin, now - seen))
        else:
            waiting.append([SimpleNamespace(run_id=str(i))])
    return pace.seconds_left(training, waiting), max(end for _, end in ends) - now


TIMES = st.lists(st.floats(1, 50), min_size=1, max_size=40)


@given(times=TIMES, slots=st.integers(1, 4), factor=st.floats(0.2, 8), at=st.floats(0.1, 0.95))
def test_the_time_left_is_right_where_all_predictions_are_off_by_one_factor(times, slots, factor, at):
    """Also in the tail, where one long stack is left, and between two records of it."""
    predicted = sorted(times, reverse=True)
    actual = [factor * seconds for seconds in predicted]
    whole = max(end for _, end in course(actual, slots))
    said, truth = left_at(at * whole, predicted, actual, slots)
    assume(said is not None)
    assert said == pytest.approx(truth, rel=0.1, abs=0.02 * whole)


@pytest.mark.parametrize("slots", [1, 2, 4])
def test_a_tenth_into_a_sweep_the_time_left_is_mostly_within_a_quarter(slots):
    """Where stacks take 1.7 x their prediction, give or take 15 %."""
    draw, good, asked = random.Random(slots), 0, 0
    for _ in range(60):
        predicted = sorted((draw.lognormvariate(0, 1) for _ in range(draw.randint(6, 40))), reverse=True)
        actual = [1.7 * seconds * draw.lognormvariate(0, 0.15) for seconds in predicted]
        whole = max(end for _, end in course(actual, slots))
        for at in (0.1, 0.3, 0.6):
            said, truth = left_at(at * whole, predicted, actual, slots)
            asked += 1
            good += said is not None and abs(said - truth) <= 0.25 * truth
    assert good >= 0.9 * asked


def test_nothing_is_known_before_anything_is_done():
    pace = Pace()
    pace.expect({"a": 3.0}, ())
    assert pace.seconds_left([], ()) is None
    assert pace.seconds_left([Training({"a": 0.0}, 0.0, 5.0)], ()) is None


def test_what_a_run_came_with_is_no_work_of_this_session():
    pace = Pace()
    pace.expect({"a": 10.0, "b": 10.0}, ())
    pace.went_on("a", 0.5)
    assert pace.seconds_left([Training({"a": 0.75}, 5.0, 0.0)], ()) == pytest.approx(2 * 12.5)
