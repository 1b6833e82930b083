"""On a real GPU: a sweep by the real command, and what happens where its memory is not enough."""

import pytest
import torch

import orchestrator
from orchestrator import plan, read_sweep
from orchestrator.host.calibration import measure
from orchestrator.scheduling.options import SchedulerOptions
from orchestrator.scheduling.scheduler import Scheduler
from orchestrator.store.table import Table
from orchestrator.workers.ray_executor import RayExecutor
from orchestrator.workers.worker import Files, Worker

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


def test_a_sweep_says_which_gpu_it_had_and_what_it_took_of_it(isoflop, sweep, tmp_path):
    ended = isoflop("run", sweep(width="[16, 64]", seeds="4", epochs="40"), "--store", "g.db", "--no-canary")
    assert ended.code == 0, ended.err
    runs = orchestrator.results(tmp_path / "g.db")
    assert set(runs["state"]) == {"done"}
    assert set(runs["device"]) == {torch.cuda.get_device_name()}
    assert runs["error"].max() < 0.5
    with Table(tmp_path / "g.db") as table:
        attempts = table.frame("attempts")
        assert "cuda" in table.devices["memory"]
    assert attempts["peak_memory"].between(1e5, 1e9).all()
    assert (attempts["gpu_seconds"] > 0).all()
    pytest.importorskip("pynvml")
    watts = attempts["energy"].sum() / attempts["gpu_seconds"].sum()
    assert 10 < watts < 2000


class Cramped(Worker):
    """Its GPU seems larger than it is."""

    def warm(self):
        warm = super().warm()
        torch.cuda.set_per_process_memory_fraction(2 * 2**30 / warm.bytes)
        return warm


def cramped(tmp_path, text):
    """The rows and attempts of a sweep under a cap of 2 GiB of which admission knows nothing."""
    executor = RayExecutor(slots=1, device="cuda", files=Files(tmp_path / "c"), worker=Cramped)
    with Table(tmp_path / "t.db", writable=True) as table:
        table.queue.enqueue(plan(read_sweep(text)))
        try:
            Scheduler(table, executor, ["small"], SchedulerOptions(Files(tmp_path / "c"))).drain()
        finally:
            executor.close()
        return table.frame("runs"), table.frame("attempts")


def test_what_runs_out_of_memory_ends_in_smaller_parts_of_a_batch(tmp_path, text_of):
    text = text_of(width="1024", seeds="1", epochs="400").replace("batch_size: 32", "batch_size: 32768")
    runs, attempts = cramped(tmp_path, text)
    assert list(runs["state"]) == ["done"]
    assert runs["accumulate"][0] > 1
    assert set(attempts["exception"].dropna()) == {"OutOfMemoryError"}


def test_what_never_fits_fails_with_the_figure_and_others_go_on(tmp_path, text_of):
    runs, _ = cramped(tmp_path, text_of(width="[64, 8192]", seeds="1"))
    runs = runs.set_index("width")
    assert runs.loc[64, "state"] == "done"
    assert runs.loc[8192, "state"] == "failed"
    assert "out of memory: about" in runs.loc[8192, "reason"]


def test_the_speed_that_was_measured_tells_the_time_of_a_stack():
    speed = measure("cuda")
    assert speed.device == torch.cuda.get_device_name()
    assert speed.flops_per_second > 1e12
    assert speed.spread < 1.0
