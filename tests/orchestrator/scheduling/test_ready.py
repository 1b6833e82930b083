"""The line of stacks: full stacks, and what an end costs beside a long line."""

import cProfile

import pytest

from orchestrator.host.speed import TYPICAL
from orchestrator.scheduling.options import SchedulerOptions
from orchestrator.scheduling.progress import Pace, Training
from orchestrator.scheduling.ready import ReadyQueue
from tests.orchestrator.fakes import Saved

STAGE = "then:\n  - {stage: again, train: {lr: 1e-4}, budget: {epochs: 1}}\n"


@pytest.fixture
def ready_queue(table, planned):
    """Enqueues a sweep; its runs, and what two slots are to train of it."""

    def made(**said):
        runs = planned(**said).runs
        table.queue.enqueue(planned(**said))
        ready = ReadyQueue(table, ["small"], SchedulerOptions(Saved(), TYPICAL), 2)
        ready.read()
        return runs, ready

    return made


def test_what_ends_release_waits_together_for_its_turn_and_goes_in_full_stacks(ready_queue):
    runs, ready = ready_queue(width="[16, 24]", seeds=8, more=STAGE)
    first = list(ready.waiting)
    parents = [run for run in runs if not run.parent and run.width == 16]
    for parent in parents:
        ready.ended(parent.run_id, "done")
        assert ready.waiting == first
    del ready.waiting[:]
    assert ready
    assert len(ready.waiting) == 2  # one for each slot
    assert sorted(run.parent for stack in ready.waiting for run in stack) == sorted(run.run_id for run in parents)
    ready.waiting.clear()
    assert not ready


def test_what_an_end_releases_with_a_higher_priority_goes_first(ready_queue, table, planned):
    table.queue.enqueue(planned(width="24", seeds=6, more=STAGE))
    urgent = [run for run in planned(width="24", seeds=6, more=STAGE).runs if run.parent][4]
    table.queue.prioritise([urgent.run_id], 3)
    _, ready = ready_queue(width="24", seeds=6, more=STAGE)
    for run_id in {run.parent for run in planned(width="24", seeds=6, more=STAGE).runs if run.parent}:
        ready.ended(run_id, "done")
    assert [stack[0].stage for stack in ready.waiting] == ["again", *["train"] * 6]
    assert ready.waiting[0] == [urgent]


@pytest.mark.parametrize("runs", [20, 400])
def test_what_an_end_costs_does_not_grow_with_what_waits(ready_queue, runs):
    made, ready = ready_queue(width="24", seeds=runs)
    assert len(ready.waiting) == runs
    with cProfile.Profile() as profile:
        for run in made[:10]:
            ready.ended(run.run_id, "done")
            ready.again(run)
            ready.waiting.pop(0)
    assert sum(entry.callcount for entry in profile.getstats()) < 1000


def test_the_pace_knows_what_is_left_after_any_ends():
    pace, seconds = Pace(), {str(i): float(i) for i in range(1, 8)}
    pace.expect(seconds, ())
    for run_id in ("3", "5", "unknown", "3"):
        pace.ended(run_id)
    assert pace.seconds_left([Training({"7": 0.5}, 10.0, 0.0)], ()) == pytest.approx(10 * 16.5 / 11.5)
    pace.expect({"1": 1.0}, ["2"])
    pace.spent(10.0)
    assert pace.seconds_left([], ()) == pytest.approx(10 * 3 / 8)
