"""The contract of Executor, held against this process and against Ray, with and without a (logical) GPU."""

import os
import socket
from pathlib import Path

import pytest

from orchestrator.host.process import this_process
from orchestrator.workers.executor import Began, Lost
from orchestrator.workers.inline import InlineExecutor
from orchestrator.workers.processes import ProcessExecutor
from orchestrator.workers.ray_executor import RayExecutor
from tests.contracts.executor import LONG, NUMBERS, ExecutorContract, events_of, runs


class TestInline(ExecutorContract):
    @staticmethod
    def make():
        return InlineExecutor("cpu")


class TestProcesses(ExecutorContract):
    @staticmethod
    def make():
        return ProcessExecutor(slots=2)


class TestRay(ExecutorContract):
    """On two cores of this machine."""

    @staticmethod
    def make():
        return RayExecutor(slots=2, device="cpu")

    def test_workers_live_from_stack_to_stack(self, executor):
        before = workers(executor)
        assert workers(executor) == before
        assert this_process() not in before
        assert len(before) == executor.slots

    def test_a_killed_worker_is_replaced_and_the_reason_says_that_it_died(self, executor, trained):
        before = workers(executor)
        began, *_, end = trained(runs(**LONG), lambda event: isinstance(event, Began) and event.worker.kill())
        assert isinstance(end, Lost)
        assert "worker died" in end.reason
        after = workers(executor)
        assert len(after) == len(before)
        assert after - before
        assert before - after == {began.worker}

    @pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="needs /proc")
    def test_ray_listens_on_loopback_only(self, executor):
        found = listening()
        loopback = {"0100007F", "00000000000000000000000001000000", "0000000000000000FFFF00000100007F"}
        assert found
        assert set(found) <= loopback, found

    def test_ray_takes_no_call_without_its_token(self, executor):
        import ray

        assert os.environ["RAY_AUTH_MODE"] == "token"
        assert len(os.environ["RAY_AUTH_TOKEN"]) == 64
        host, _, port = ray.get_runtime_context().gcs_address.rpartition(":")
        assert socket.gethostbyname(host) == "127.0.0.1"
        assert int(port) > 0


@pytest.mark.slow  # test_ray_executor.py has two such GPUs
class TestRayOnAGPU(TestRay):
    """On a GPU that only Ray believes in."""

    @staticmethod
    def make():
        return RayExecutor(slots=2, gpus=1)


def workers(executor):
    """The processes of all slots, by a stack for each."""
    stacks = {next(NUMBERS): [spec] for spec in runs(seeds=executor.slots)}
    for number, specs in stacks.items():
        executor.submit(number, specs)
    return {events[0].worker for events in events_of(executor, stacks).values()}


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
