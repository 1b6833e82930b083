"""The life of a run in training: what its attempt is charged, what its row says it used, and how it ends."""

import pytest

from orchestrator.host.usage import Usage
from orchestrator.scheduling.failures import MOST_LOSSES
from orchestrator.scheduling.memory import DeviceMemory
from orchestrator.scheduling.running import Running
from orchestrator.scheduling.stacks import Chosen
from orchestrator.workers.executor import Failed, Finished, Left, Lost, Measured, Recorded, WentOn
from tests.orchestrator.fakes import FakeExecutor, Saved
from trainer.result import Resumed


@pytest.fixture
def start(result_of, clock, planned):
    """Starts stack 0 on one of four slots that share two GPUs.

    Returns what is in training, its runs, and a function that starts them again.
    """

    def started(seeds=1, smoke_test=""):
        executor, runs = FakeExecutor(result_of, clock, slots=4), planned(width="16", seeds=seeds).runs
        executor.gpus, memory = 2, DeviceMemory(lambda: executor.places)
        running = Running(executor, memory, Saved(), clock, None)

        def begin():
            assert memory.give(0, runs, ["here"]) == "here"
            tokens = {} if smoke_test else {run.run_id: 5 for run in runs}
            assert running.start(Chosen(0, runs, "here", smoke_test), tokens, set()) == []

        begin()
        return running, runs, begin

    return started


def test_a_resumed_run_is_charged_what_it_adds(start, result_of):
    """By its result, or by its last record where its worker died."""
    for end in (lambda run: Finished(0, [result_of(run)]), lambda run: Lost(0, "it died")):
        running, (run,), _ = start()
        first, last = result_of(run).history
        running.take(WentOn(0, Resumed(run.run_id, first.step, first.flops, first.seconds, (first,))))
        running.take(Recorded(0, last))
        (ended,) = running.take(end(run))
        assert ended.spent == last.flops - first.flops > 0


def test_the_runs_of_a_stack_share_its_energy_and_its_part_of_a_gpu(start, result_of, clock):
    """Half a GPU for ten seconds, by two runs of which one leaves after six."""
    running, runs, _ = start(seeds=2)
    clock.now += 6
    running.take(Measured(0, Usage(peak_memory=700, energy=80.0)))
    (left,) = running.take(Left(0, result_of(runs[0], "diverged")))
    clock.now += 4
    (end,) = running.take(Finished(0, [result_of(run) for run in runs]))
    assert left.end.used == {"peak_memory": 700, "energy": 20.0, "gpu_seconds": 1.5}
    assert end.end.used == {"peak_memory": 700, "energy": 20.0, "gpu_seconds": 2.5}


def test_an_attempt_that_fails_or_is_lost_says_what_it_used(start, clock):
    for event in (Failed(0, "ValueError: no", "Traceback"), Lost(0, "it died")):
        running, _, _ = start()
        clock.now += 8
        (ended,) = running.take(event)
        assert ended.end.used == {"peak_memory": None, "energy": None, "gpu_seconds": 4.0}
    running, _, again = start()
    for losses in range(1, MOST_LOSSES + 1):
        clock.now += 8
        (ended,) = running.take(Lost(0, "it died"))
        assert ended.end.used["gpu_seconds"] == 4.0
        assert ended.end.state == ("failed" if losses == MOST_LOSSES else "queued")
        if losses < MOST_LOSSES:
            again()


def test_a_smoke_test_ends_no_run(start, result_of):
    running, (run,), _ = start(smoke_test="small")
    record = result_of(run).history[0]
    for event in (Recorded(0, record), Measured(0, Usage(1)), Finished(0, [result_of(run)])):
        assert running.take(event) == []
    assert running.stacks == {}
