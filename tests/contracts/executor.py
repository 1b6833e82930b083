"""The tests that every executor passes: subclass `ExecutorContract`, from a checkout of isoflop on PYTHONPATH.

    from tests.contracts.executor import ExecutorContract

    class TestMyExecutor(ExecutorContract):
        @staticmethod
        def make():
            return MyExecutor()

The executor is made once for the class and closed at its end, and trains on CPUs. A worker is killed by the
process that Began names; where that is the caller's own, nobody is left to see it lost. The data set is
scikit-learn's digits.
"""

import time
from dataclasses import replace
from itertools import count

import pytest

from orchestrator import plan, read_sweep
from orchestrator.host.process import this_process
from orchestrator.workers.executor import Began, Failed, Finished, Left, Lost, Measured, Recorded, StackEnd
from orchestrator.workers.worker import OUT_OF_MEMORY
from trainer import train
from trainer.result import Record
from trainer.training.loop import training

SWEEP = """\
sweep: contract
data: {{dataset: digits, dataset_size: 180}}
model: {{family: b-mlp, depth: 1, width: {width}}}
train: {{batch_size: 32, lr: 1e-3}}
budget: {{epochs: {epochs}}}
seeds: {seeds}
"""

LONG = {"width": 64, "epochs": 5_000_000}
"""Hours of training on any machine, which no test waits for."""

NUMBERS = count(1)
"""Numbers of stacks, each used once."""


def runs(seeds=1, width=16, epochs=1):
    """Resolved specs of one shape."""
    return list(plan(read_sweep(SWEEP.format(seeds=seeds, width=width, epochs=epochs))).runs)


def events_of(executor, stacks, heard=lambda event: None, seconds=120):
    """Events by stack until each has ended; `heard` is called with every event."""
    events = {stack: [] for stack in stacks}
    deadline = time.monotonic() + seconds
    while not all(of and isinstance(of[-1], StackEnd) for of in events.values()):
        assert time.monotonic() < deadline, events
        for event in executor.poll(0.5):
            events[event.stack].append(event)
            heard(event)
    return events


class ExecutorContract:
    """Tests of the guarantees in orchestrator/workers/executor.py."""

    @staticmethod
    def make():
        """Return a new executor that trains on CPUs."""
        raise NotImplementedError

    @pytest.fixture(scope="class")
    @classmethod
    def executor(cls):
        made = cls.make()
        yield made
        made.close()

    @pytest.fixture
    def trained(self, executor):
        """Trains one stack; its events."""

        def events(specs, heard=lambda event: None, **options):
            executor.submit(number := next(NUMBERS), specs, **options)
            return events_of(executor, [number], heard)[number]

        return events

    def test_a_stack_begins_yields_records_is_measured_and_ends_once(self, executor, trained):
        specs, free = runs(seeds=2), executor.free
        seen = []
        began, *records, measured, end = trained(specs, lambda event: seen.append(executor.free))
        assert seen[0] == free - 1
        assert executor.free == seen[-1] == free
        assert isinstance(began, Began)
        assert began.worker.alive()
        assert isinstance(measured, Measured)
        assert measured.usage.peak_memory > 1e6
        assert all(isinstance(event, Recorded) for event in records)
        assert isinstance(end, Finished)
        assert [result.run_id for result in end.results] == [spec.run_id for spec in specs]
        assert {result.state for result in end.results} == {"done"}
        recorded = [event.record for event in records]
        for result in end.results:
            assert [record for record in recorded if record.run_id == result.run_id] == list(result.history)
        assert executor.poll(0) == []

    def test_the_numbers_are_those_of_the_trainer_alone(self, trained):
        (spec,) = runs(epochs=3)
        (result,) = trained([spec])[-1].results
        alone = train(spec, device="cpu")
        assert (result.error, result.loss, result.flops) == (alone.error, alone.loss, alone.flops)

    def test_all_slots_train_and_each_stack_ends(self, executor):
        stacks = {next(NUMBERS): [spec] for spec in runs(seeds=executor.slots)}
        for number, specs in stacks.items():
            assert executor.free
            executor.submit(number, specs)
        assert executor.free == 0
        ends = {number: events[-1] for number, events in events_of(executor, stacks).items()}
        assert {number: [result.run_id for result in end.results] for number, end in ends.items()} == {
            number: [spec.run_id for spec in specs] for number, specs in stacks.items()
        }

    def test_a_stack_goes_to_an_open_place_and_leaves_it_open_again(self, executor, trained):
        while len(executor.open) < executor.slots:
            executor.poll(0.5)
        before, names = sorted(executor.open), {place.name for place in executor.places}
        assert set(before) <= names
        during = []
        trained(runs(), lambda event: during.append(sorted(executor.open)), place=before[-1])
        assert during[0] == before[:-1]
        assert sorted(executor.open) == before

    # what is not as it should be

    def test_data_that_is_not_there_is_an_error_of_its_stack_and_the_worker_lives(self, trained):
        (spec,) = runs()
        began, *_, end = trained([replace(spec, dataset="gone", path="/nowhere/gone.npz")])
        assert isinstance(end, Failed)
        assert end.exception == "SpecError"
        assert "/nowhere/gone.npz" in end.reason
        assert "\n" not in end.reason
        assert "Traceback" in end.traceback
        assert began.worker.alive()
        assert isinstance(trained([spec])[-1], Finished)

    def test_what_does_not_fit_in_memory_has_one_name_and_the_worker_lives(self, trained):
        (spec,) = runs()
        began, *_, end = trained([replace(spec, width=2**20, expansion=64)])  # 280 TB of parameters
        assert isinstance(end, Failed)
        assert end.exception == OUT_OF_MEMORY
        assert began.worker.alive()
        assert isinstance(trained([spec])[-1], Finished)

    def test_a_stack_whose_worker_dies_is_lost_and_the_slots_work_again(self, executor, trained):
        killed = []

        def kill(event):
            if isinstance(event, Began) and event.worker != this_process():
                killed.append(event.worker)
            elif killed and isinstance(event, Recorded):
                killed[0].kill()
            elif isinstance(event, Recorded):  # our own process: nobody would see it lost
                executor.stop()

        end = trained(runs(**LONG), kill)[-1]
        assert isinstance(end, Lost if killed else Finished)
        if killed:
            assert end.reason
            assert not killed[0].alive()
        slots = executor.slots
        assert executor.free == slots > 0
        assert isinstance(trained(runs())[-1], Finished)

    # requests

    def test_a_run_leaves_its_stack_and_the_other_trains_on(self, executor, trained):
        stays, leaves = runs(seeds=2, **LONG)
        left, later = [], []

        def leave_then_stop(event):
            if isinstance(event, Began):
                executor.leave(event.stack + 1000, [stays.run_id])  # a stack that is not there
                executor.leave(event.stack, [leaves.run_id, "a run that is not there"])
            if isinstance(event, Left):
                left.append(event.result)
            elif isinstance(event, Recorded) and left and event.record.step > left[0].steps:
                later.append(event.record)
                executor.stop()

        *_, end = trained([stays, leaves], leave_then_stop)
        ends = {result.run_id: result for result in end.results}
        assert [(result.run_id, result.state) for result in left] == [(leaves.run_id, "cancelled")]
        assert repr(left[0].history) == repr(ends[leaves.run_id].history)  # equal, and NaN where NaN
        assert ends[leaves.run_id].steps == left[0].steps < ends[stays.run_id].steps
        after = later[0]
        assert after.run_id == stays.run_id
        alone = training([stays], device="cpu")
        same = next(item for item in alone if isinstance(item, Record) and item.step == after.step)
        alone.close()
        assert after.train_loss == same.train_loss  # not every record is evaluated

    def test_stop_ends_what_trains_as_cancelled_and_new_stacks_train(self, executor, trained):
        (spec,) = runs(**LONG)
        (result,) = trained([spec], lambda event: isinstance(event, Recorded) and executor.stop())[-1].results
        assert result.state == "cancelled"
        assert 0 < result.steps < spec.steps
        assert [end.state for end in trained(runs())[-1].results] == ["done"]

    def test_requests_while_nothing_trains_are_forgotten(self, executor, trained):
        executor.stop()
        executor.leave(10**6, ["a run"])
        assert [end.state for end in trained(runs())[-1].results] == ["done"]
