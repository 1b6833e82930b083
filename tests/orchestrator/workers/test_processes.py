"""Child processes: what goes wrong in silence, and that none outlives its coordinator."""

import os
import platform
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.host.process import Process, this_process
from orchestrator.settings import Settings
from orchestrator.workers import processes
from orchestrator.workers.executor import Began, Finished, Lost, Recorded
from orchestrator.workers.processes import ProcessExecutor, WorkerError
from orchestrator.workers.worker import Worker


class Troubled(Worker):
    """Does what the stage of a run says."""

    def train(self, specs, keep=()):
        self.stage = specs[0].stage
        for item in super().train(specs, keep):
            yield item
            if self.stage == "stuck" and super().heartbeat().median is not None:
                threading.Event().wait()

    def heartbeat(self):
        heartbeat = super().heartbeat()._replace(available=0.01 if self.stage == "pressed" else 0.5)
        return heartbeat if self.stage == "stuck" else heartbeat._replace(still=0.0)


class Absent(Worker):
    """Cannot start."""

    def __init__(self, *_: object, **__: object) -> None:
        raise OSError("no\nlibrary")


@pytest.fixture(scope="module")
def executor():
    made = ProcessExecutor(slots=2, still=2.0, worker=Troubled)
    yield made
    made.close()


@pytest.fixture(scope="module")
def run(planned):
    return planned(width="64", seeds="1", epochs="5000000").runs[0]


def until(executor, kind, stack):
    """The next event of a kind."""
    while True:
        for event in executor.poll(0.5):
            if event.stack == stack and isinstance(event, kind):
                return event


def ready(executor):
    while len(executor.open) < executor.slots:
        executor.poll(0.5)


def test_a_worker_that_makes_no_step_is_killed_and_its_slot_works_again(executor, run):
    ready(executor)
    executor.submit(1, [replace(run, stage="stuck")])
    assert "no step for" in until(executor, Lost, 1).reason
    ready(executor)
    assert executor.slots == 2


def test_a_worker_that_does_not_answer_is_killed(executor, run):
    executor.submit(2, [replace(run, stage="fine")])
    worker = until(executor, Began, 2).worker
    until(executor, Recorded, 2)
    time_of_step(executor)
    os.kill(worker.pid, signal.SIGSTOP)
    assert "no answer for" in until(executor, Lost, 2).reason
    assert not worker.alive()


def time_of_step(executor):
    """Wait until the executor has heard how long a step takes; before, a data set might be decoding."""
    until_heard = time.monotonic() + 3.0
    while time.monotonic() < until_heard:
        executor.poll(0.1)


def test_ctrl_c_of_a_terminal_does_not_reach_a_worker(executor, run):
    ready(executor)
    executor.submit(3, [replace(run, stage="fine")])
    worker = until(executor, Began, 3).worker
    assert os.getpgid(worker.pid) != os.getpgid(0)
    executor.stop()
    assert [result.state for result in until(executor, Finished, 3).results] == ["cancelled"]


def test_a_machine_short_of_memory_has_one_slot_less_and_never_none(executor, run):
    ready(executor)
    for stack in (4, 5):
        executor.submit(stack, [replace(run, stage="pressed")])
    lost = None
    while lost is None:
        lost = next((event for event in executor.poll(0.2) if isinstance(event, Lost)), None)
    assert "memory was left" in lost.reason
    assert executor.slots == 1
    (left,) = {4, 5} - {lost.stack}
    until(executor, Recorded, left)
    executor.stop()
    until(executor, Finished, left)


def test_a_worker_that_cannot_start_is_an_error_with_its_reason():
    executor = ProcessExecutor(slots=1, worker=Absent)
    with pytest.raises(WorkerError, match="a worker does not start: library"):
        until(executor, Finished, 0)
    executor.close()


def test_workers_end_with_a_coordinator_that_is_killed():
    source = (
        "import sys; from orchestrator.workers.processes import ProcessExecutor as E; e = E(slots=2)\n"
        "while len(e.open) < 2: e.poll(0.5)\n"
        "from orchestrator.host.process import this_process; import subprocess, os\n"
        "print(subprocess.run(['ps', '-o', 'pid=', '--ppid', str(os.getpid())], capture_output=True, text=True)"
        ".stdout.split(), flush=True); sys.stdin.read()"
    )
    with subprocess.Popen([sys.executable, "-c", source], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        pids = [int(pid.strip("',[]")) for pid in process.stdout.readline().decode().split()]
        here = this_process()
        workers = [Process(here.host, here.boot_id, pid, started(pid)) for pid in pids if started(pid)]
        assert len(workers) == 2
        process.kill()
    deadline = time.monotonic() + 60
    while any(worker.alive() for worker in workers):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def started(pid):
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    except OSError:
        return 0


class OnCard(Worker):
    """Believes that it has the GPU that it is shown."""

    def warm(self):
        return super().warm()._replace(kind="cuda", bytes=8 * 2**30)


def test_children_share_the_gpus_and_each_sees_its_own(planned):
    executor = ProcessExecutor(slots=3, gpus=["0", "5"], worker=OnCard)
    try:
        ready(executor)
        first, second = f"{platform.node()} GPU 0", f"{platform.node()} GPU 5"
        assert sorted(executor.open) == [first, first, second]
        assert {(place.name, place.kind, place.bytes) for place in executor.places} == {
            (first, "cuda", 8 * 2**30),
            (second, "cuda", 8 * 2**30),
        }
        assert (executor.slots, executor.gpus) == (3, 2)
        executor.submit(1, planned(width="8", seeds="1").runs, place=second)
        worker = until(executor, Began, 1).worker
        assert sorted(executor.open) == [first, first]
        environment = Path(f"/proc/{worker.pid}/environ").read_bytes().split(b"\0")
        assert b"CUDA_VISIBLE_DEVICES=5" in environment
        until(executor, Finished, 1)
        worker.kill()
        while len(executor.open) < 3 or worker.alive():
            executor.poll(0.5)
        assert sorted(executor.open) == [first, first, second]  # its successor has the same GPU
    finally:
        executor.close()


@pytest.mark.parametrize("verb", ["run", "work", "search"])
def test_children_start_before_what_the_coordinator_itself_imports(verb, tmp_path):
    (tmp_path / "s.yaml").write_text("sweep: s\n")  # which is no sweep: the call ends once it is read
    source = (
        "import sys, orchestrator.workers.processes as processes, orchestrator.session as session\n"
        "def start(slots, gpus=()):\n"
        "    print(slots, 'sqlalchemy' in sys.modules, 'numpy' in sys.modules, flush=True)\n"
        "    sys.exit()\n"
        "processes.start_children = start\n"
        f"session.{verb}({'t.db' if verb == 'work' else 's.yaml'!r}, device='cpu', slots=3)"
    )
    if verb == "search":
        (tmp_path / "s.yaml").write_text(SEARCH)
    line = [sys.executable, "-c", source]
    said = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert said.stdout.split() == ["3", "False", "False"], said.stderr


SEARCH = """\
sweep: s
data: {dataset: digits, validation: 0.2}
model: {family: b-mlp, depth: 1, width: 16}
train: {optimizer: adamw, lr: {search: {values: [1e-3, 1e-2]}}, batch_size: 32}
budget: {epochs: 1}
search: {trials: 2}
"""


@pytest.mark.parametrize(
    ("device", "slots", "wanted"),
    [("auto", None, (8, ["0", "1"])), ("cuda", 3, (3, ["0", "1"])), ("cpu", 3, (3, []))],
)
def test_processes_share_the_gpus_that_are_asked_for(monkeypatch, tmp_path, device, slots, wanted):
    monkeypatch.setenv("ISOFLOP_CACHE", str(tmp_path))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    begun = []
    monkeypatch.setattr(processes, "start_children", lambda *asked: begun.append(asked) or [])
    with Settings(executor="processes", device=device, slots=slots).children():
        assert begun == [wanted]
