"""The contract of Executor, held against this process and against Ray, with and without a (logical) GPU."""

import os
import signal
import socket
import time
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator import plan, read_sweep
from orchestrator.workers.executor import (
    Began,
    Failed,
    Finished,
    InlineExecutor,
    Left,
    Lost,
    Measured,
    Recorded,
    StackEnd,
)
from orchestrator.workers.ray_executor import RayExecutor
from orchestrator.workers.worker import OUT_OF_MEMORY
from trainer import train


@pytest.fixture(scope="module", params=["inline", "ray", "ray with a logical GPU"])
def executor(request):
    if request.param == "inline":
        made = InlineExecutor("cpu")
    elif request.param == "ray":
        made = RayExecutor(slots=2, device="cpu")
    else:
        made = RayExecutor(slots=2, gpus=1)
    yield made
    made.close()


@pytest.fixture
def runs(text_of):
    """Resolved specs of one shape."""
    return lambda **said: list(plan(read_sweep(text_of(**{"width": "16", "seeds": "2", **said}))).runs)


def until_the_end(executor, stacks, seconds=120):
    """Events by stack, until each has ended."""
    events = {stack: [] for stack in stacks}
    deadline = time.monotonic() + seconds
    while not all(e and isinstance(e[-1], StackEnd) for e in events.values()):
        assert time.monotonic() < deadline, events
        for event in executor.poll(0.5):
            events[event.stack].append(event)
    return events


def test_a_stack_yields_its_records_and_then_ends_once(executor, runs):
    specs = runs()
    assert executor.free >= 1
    free = executor.free
    executor.submit(7, specs)
    assert executor.free == free - 1
    began, *records, metered, end = until_the_end(executor, [7])[7]
    assert isinstance(began, Began)
    assert began.worker.alive()
    assert isinstance(metered, Measured)
    assert metered.usage.peak_memory > 1e6
    assert all(isinstance(event, Recorded) for event in records)
    assert isinstance(end, Finished)
    assert [result.run_id for result in end.results] == [spec.run_id for spec in specs]
    assert {result.state for result in end.results} == {"done"}
    said = [event.record for event in records]
    assert sorted(said, key=str) == sorted((r for result in end.results for r in result.history), key=str)
    assert executor.free == free
    assert executor.poll(0) == []


def test_the_numbers_are_those_of_the_trainer_alone(executor, runs):
    specs = runs(epochs="3", seeds="1")
    executor.submit(8, specs)
    (result,) = until_the_end(executor, [8])[8][-1].results
    alone = train(specs[0], device="cpu")
    assert (result.error, result.loss, result.flops) == (alone.error, alone.loss, alone.flops)


def test_slots_work_at_the_same_time_and_each_bundle_ends(executor, runs):
    stacks = {i: [spec] for i, spec in enumerate(runs(seeds=str(executor.slots)))}
    for stack, specs in stacks.items():
        executor.submit(stack, specs)
    assert executor.free == 0
    ends = {stack: events[-1] for stack, events in until_the_end(executor, stacks).items()}
    assert {b: [r.run_id for r in end.results] for b, end in ends.items()} == {
        b: [spec.run_id for spec in specs] for b, specs in stacks.items()
    }


def test_a_stack_that_raises_fails_with_its_traceback_and_the_worker_lives(executor, runs):
    (spec,) = runs(seeds="1")
    executor.submit(1, [replace(spec, dataset="gone", path="/nowhere/gone.npz")])
    *_, end = until_the_end(executor, [1])[1]
    assert isinstance(end, Failed)
    assert end.exception == "SpecError"
    assert "/nowhere/gone.npz" in end.reason
    assert "\n" not in end.reason
    assert "Traceback" in end.traceback
    executor.submit(2, [spec])
    assert isinstance(until_the_end(executor, [2])[2][-1], Finished)


def test_a_run_leaves_its_stack_and_the_other_goes_on(executor, runs):
    stays, leaves = runs(epochs="400", seeds="2")  # a second of training
    executor.submit(5, [stays, leaves])
    executor.leave(6, [stays.run_id])  # another stack's
    events, deadline = [], time.monotonic() + 60
    while not events or not isinstance(events[-1], StackEnd):
        assert time.monotonic() < deadline
        fresh = executor.poll(0.5)
        if any(isinstance(event, Began) for event in fresh):
            executor.leave(5, [leaves.run_id])
        events += fresh
    ends = {result.run_id: result for result in events[-1].results}
    (left,) = [event.result for event in events if isinstance(event, Left)]
    assert (left.run_id, left.state, left.history) == (leaves.run_id, "cancelled", ends[leaves.run_id].history)
    assert (ends[stays.run_id].state, ends[leaves.run_id].state) == ("done", "cancelled")
    assert ends[leaves.run_id].steps < leaves.steps
    alone = train(stays, device="cpu")
    assert (ends[stays.run_id].error, ends[stays.run_id].loss) == (alone.error, alone.loss)


def test_what_does_not_fit_in_memory_says_so_and_the_worker_lives(executor, runs):
    (spec,) = runs(seeds="1")
    executor.submit(1, [replace(spec, width=2**22)])  # 280 TB of parameters
    end = until_the_end(executor, [1])[1][-1]
    assert isinstance(end, Failed)
    assert end.exception == OUT_OF_MEMORY
    executor.submit(2, [spec])
    assert isinstance(until_the_end(executor, [2])[2][-1], Finished)


def test_a_bundle_goes_to_an_open_place_and_leaves_it_open_again(executor, runs):
    (spec,) = runs(seeds="1")
    while len(executor.open) < executor.slots:
        executor.poll(0.5)
    places = {place.name: place for place in executor.places}
    assert set(executor.open) <= set(places)
    name = executor.open[-1]
    executor.submit(1, [spec], place=name)
    assert list(executor.open).count(name) == executor.slots // len(places) - 1
    until_the_end(executor, [1])
    assert len(executor.open) == executor.slots


def test_stop_ends_what_trains_as_cancelled(executor, runs):
    specs = runs(epochs="5000", seeds="1", width="64")
    executor.submit(3, specs)
    events, deadline = [], time.monotonic() + 60
    while not events or not isinstance(events[-1], StackEnd):
        assert time.monotonic() < deadline
        events += executor.poll(0.5)
        if events and isinstance(events[-1], Recorded):
            executor.stop()
    assert [result.state for result in events[-1].results] == ["cancelled"]
    assert 0 < events[-1].results[0].steps < specs[0].steps


def test_after_a_stop_new_stacks_train_again(executor, runs):
    executor.submit(4, runs(seeds="1"))
    assert [r.state for r in until_the_end(executor, [4])[4][-1].results] == ["done"]


# what only Ray can do


@pytest.fixture
def ray_executor(executor):
    if isinstance(executor, InlineExecutor):
        pytest.skip("has no workers of its own")
    return executor


def test_workers_live_from_stack_to_stack(ray_executor, runs):
    before = ray_executor.pids
    ray_executor.submit(5, runs(seeds="1"))
    until_the_end(ray_executor, [5])
    assert ray_executor.pids == before
    assert os.getpid() not in before
    assert len(set(before)) == ray_executor.slots


def test_a_killed_worker_is_lost_and_replaced(ray_executor, runs):
    (spec,) = runs(epochs="5000", seeds="1", width="64")
    ray_executor.submit(6, [spec])
    while not any(isinstance(event, Recorded) for event in ray_executor.poll(0.5)):
        pass
    before = ray_executor.pids
    os.kill(before[0], signal.SIGKILL)  # the first slot's: it got the only stack
    end = until_the_end(ray_executor, [6])[6][-1]
    assert isinstance(end, Lost)
    assert "worker died" in end.reason
    assert ray_executor.free == ray_executor.slots
    assert before[0] not in ray_executor.pids
    ray_executor.submit(7, runs(seeds="1"))
    assert isinstance(until_the_end(ray_executor, [7])[7][-1], Finished)


def listening():
    """Addresses of this machine's listening TCP sockets that belong to Ray's processes."""
    inodes = set()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            name = (folder / "cmdline").read_bytes()
            if b"ray" not in name and b"gcs_server" not in name:
                continue
            links = [str(link.readlink()) for link in (folder / "fd").iterdir()]
        except OSError:
            continue
        inodes |= {link[8:-1] for link in links if link.startswith("socket:")}
    found = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            local, state, inode = (line.split()[i] for i in (1, 3, 9))
            if state == "0A" and inode in inodes:
                found.append(local.partition(":")[0])
    return found


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="needs /proc")
def test_ray_listens_on_loopback_only(ray_executor):
    found = listening()
    loopback = {"0100007F", "00000000000000000000000001000000", "0000000000000000FFFF00000100007F"}
    assert found
    assert set(found) <= loopback, found


def test_ray_takes_no_call_without_its_token(ray_executor):
    import ray

    assert os.environ["RAY_AUTH_MODE"] == "token"
    assert len(os.environ["RAY_AUTH_TOKEN"]) == 64
    host, _, port = ray.get_runtime_context().gcs_address.rpartition(":")
    assert socket.gethostbyname(host) == "127.0.0.1"
    assert int(port) > 0
