"""What goes wrong in silence, on two logical GPUs: workers that hang or stop, a machine short of memory."""

import logging
import os
import signal
import threading
import time
from dataclasses import replace

import pytest

from orchestrator.host.heartbeat import LOADING, STEPS, Heartbeat, StepTimes
from orchestrator.workers.executor import Began, Finished, Lost, Noted, Recorded
from orchestrator.workers.ray_cluster import ClusterError, imported
from orchestrator.workers.ray_executor import RayExecutor
from orchestrator.workers.worker import Worker


class Troubled(Worker):
    """Does what the stage of a run says, and tells when it is asked for a heartbeat.

    Only one that is stuck makes no step for long, however little of the machine the others have.
    """

    def train(self, specs, keep=()):
        self.stage = specs[0].stage
        for item in super().train(specs, keep):
            yield item
            if self.stage == "stuck" and super().heartbeat().median is not None:
                threading.Event().wait()

    def heartbeat(self):
        logging.getLogger("isoflop").warning("asked")
        heartbeat = super().heartbeat()._replace(available=0.01 if self.stage == "pressed" else 0.5)
        return heartbeat if self.stage == "stuck" else heartbeat._replace(still=0.0)


@pytest.fixture(scope="module")
def executor():
    made = RayExecutor(slots=2, gpus=2, still=2.0, worker=Troubled)
    while len(made.open) < 2:
        made.poll(0.5)
    yield made
    made.close()


@pytest.fixture(scope="module")
def run(planned):
    return planned(width="64", seeds="1", epochs="5000000").runs[0]


def ends(executor, stack, seconds=240):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        for event in executor.poll(0.2):
            if event.stack == stack and isinstance(event, Finished | Lost):
                return event
    raise AssertionError("it never ended")


def until(executor, kind, times=1):
    """The last of so many events of a kind."""
    events = []
    while len(events) < times:
        events += [event for event in executor.poll(0.5) if isinstance(event, kind)]
    return events[-1]


def lost_within(executor, seconds):
    """Stacks that are lost in the next seconds."""
    deadline, lost = time.monotonic() + seconds, []
    while time.monotonic() < deadline:
        lost += [event for event in executor.poll(0.1) if isinstance(event, Lost)]
    return lost


def ready(executor):
    while len(executor.open) < executor.slots:
        executor.poll(0.5)


def test_a_gpu_is_held_whole_by_its_slots(executor):
    import ray

    names = sorted(place.name for place in executor.places)
    assert len(names) == 2
    assert sorted(executor.open) == names
    assert [name[-6:] for name in names] == [" GPU 0", " GPU 1"]
    assert ray.available_resources().get("GPU", 0) == 0


def test_a_worker_that_makes_no_step_is_killed_and_its_slot_works_again(executor, run):
    executor.submit(1, [replace(run, stage="stuck")])
    end = ends(executor, 1)
    assert isinstance(end, Lost)
    assert "no step for" in end.reason
    assert executor.slots == 2


def test_a_worker_that_does_not_answer_is_killed_but_not_for_one_missed_answer(executor, run):
    ready(executor)
    executor.submit(2, [replace(run, stage="fine")])
    worker = until(executor, Began).worker
    until(executor, Recorded)
    until(executor, Noted, times=2)  # asked again: it has told how long its steps take
    os.kill(worker.pid, signal.SIGSTOP)
    assert not lost_within(executor, 1.1)
    os.kill(worker.pid, signal.SIGCONT)
    until(executor, Recorded)
    os.kill(worker.pid, signal.SIGSTOP)
    end = ends(executor, 2)
    assert isinstance(end, Lost)
    assert "no answer for" in end.reason
    assert not worker.alive()


def test_a_worker_that_dies_while_it_is_asked_is_lost_once(executor, run, monkeypatch):
    import ray

    ready(executor)
    executor.submit(5, [replace(run, stage="fine")])
    worker = until(executor, Began).worker
    until(executor, Noted, times=2)
    os.kill(worker.pid, signal.SIGSTOP)
    assert not lost_within(executor, 2.1)  # it is asked, and all that it had said is heard
    os.kill(worker.pid, signal.SIGKILL)
    wait = ray.wait
    with monkeypatch.context() as patch:
        patch.setattr(
            ray, "wait", lambda refs, **how: wait(refs, **how | {"num_returns": len(refs), "timeout": 60})
        )
        (event,) = executor.poll(0)  # what it was asked and what it trained end at once
    assert isinstance(event, Lost)
    ready(executor)
    executor.submit(6, [replace(run, stage="fine")])
    until(executor, Recorded)
    executor.stop()
    assert isinstance(ends(executor, 6), Finished)


def test_a_machine_short_of_memory_has_one_slot_less_and_never_none(executor, run):
    ready(executor)
    for stack in (3, 4):
        executor.submit(stack, [replace(run, stage="pressed")])
    lost = []
    while not lost:
        lost = [event for event in executor.poll(0.2) if isinstance(event, Lost)]
    (event,) = lost
    assert "memory was left" in event.reason
    assert executor.slots == 1
    heard = []
    while sum(isinstance(event, Noted) for event in heard) < 2:
        heard += executor.poll(0.2)
    assert not any(isinstance(event, Lost) for event in heard)
    executor.stop()
    assert isinstance(ends(executor, 7 - event.stack), Finished)


def test_a_ray_that_does_not_start_is_one_line(monkeypatch):
    ray = imported()

    def times_out(**_):
        raise RuntimeError("The current node timed out during startup.\nThis could happen because ...")

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", times_out)
    with pytest.raises(ClusterError, match=r"^Ray does not start .*timed out.*; try again .* or .*inline$") as said:
        RayExecutor(slots=1)
    assert "\n" not in str(said.value)


# the rule


def test_limit_is_sixty_seconds_or_twenty_median_steps_and_longer_before_the_first(monkeypatch):
    assert Heartbeat(0, 0.1, 1).limit() == 60
    assert Heartbeat(0, 10.0, 1).limit() == 10 * STEPS
    assert Heartbeat(0, None, 1).limit() == LOADING
    now = [0.0]
    monkeypatch.setattr("orchestrator.host.heartbeat.time.monotonic", lambda: now[0])
    step_times = StepTimes()
    for seconds in (5, 1, 1, 30, 1):
        now[0] += seconds
        step_times()
    now[0] += 7
    assert (step_times.heartbeat().still, step_times.heartbeat().median) == (7, 1)
    step_times.begin()
    assert (step_times.heartbeat().still, step_times.heartbeat().median) == (0, None)


@pytest.mark.slow
def test_slots_of_a_gpu_are_as_many_as_pay(executor, run):
    executor.close()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("orchestrator.host.slots.SECONDS", 2.0)
        made = RayExecutor(gpus=2, probe=[run])
    try:
        assert made.per_gpu in (1, 2, 4)  # there are two cores behind these GPUs
        assert made.slots == 2 * made.per_gpu
    finally:
        made.close()
