"""A worker and its checkpoints, without Ray."""

import logging
import threading
from itertools import islice

import pytest

from orchestrator.host.usage import Usage
from orchestrator.workers.worker import Files, Said, Worker
from trainer import train
from trainer.result import Record, Resumed


@pytest.fixture(autouse=True)
def _handlers():
    """Workers that relay the log stay in it: processes of their own, elsewhere."""
    log = logging.getLogger("isoflop")
    before = list(log.handlers)
    yield
    log.handlers[:] = before


def results_of(item):
    assert isinstance(item, list)
    return item


@pytest.fixture
def run(planned):
    return planned(width="16", seeds=1, epochs="60").runs[0]


def test_a_stopped_stack_goes_on_where_it_was(tmp_path, run):
    files = Files(tmp_path)
    assert run.run_id not in files.begun()
    worker = Worker("cpu", files=files)
    events = worker.train([run])
    next(event for event in events if isinstance(event, Record))
    worker.stop()
    *_, last = events
    (cut,) = results_of(last)
    assert cut.state == "cancelled"
    assert files.begun()[run.run_id] == cut.steps
    _, first, *records, used, last = Worker("cpu", files=files).train([run])
    (result,) = results_of(last)
    assert isinstance(used, Usage)
    assert used.peak_memory > 1e6
    assert isinstance(first, Resumed)
    assert (first.step, first.flops) == (cut.steps, cut.flops)
    assert all(isinstance(record, Record) and record.step > cut.steps for record in records)
    alone = train(run, device="cpu")
    assert (result.error, result.loss, result.flops) == (alone.error, alone.loss, alone.flops)
    assert run.run_id not in files.begun()


def test_what_is_logged_reaches_the_caller_where_it_is_relayed(tmp_path, run):
    (tmp_path / "file").touch()
    files = Files(tmp_path / "file", every=0)
    said = [e for e in Worker("cpu", files=files, relay=True).train([run]) if isinstance(e, Said)]
    assert said
    assert "training goes on" in said[0].text
    assert not any(isinstance(e, Said) for e in islice(Worker("cpu", files=files).train([run]), 5))


def test_what_is_handed_to_another_process_is_all_of_it_in_order_and_the_records_together(run):
    parts = list(Worker("cpu").stream([run]))
    items = [item for part in parts for item in part]
    assert [type(item) for item in items] == [type(item) for item in Worker("cpu").train([run])]
    assert [r.step for r in items if isinstance(r, Record)] == [r.step for r in train(run, device="cpu").history]
    assert all(isinstance(item, Record | Usage) for part in parts for item in part[:-1])
    assert len(parts) < len(items)
    assert len(parts[0]) == 1  # that it hears `stop` from now on is not kept waiting


class Slow(Worker):
    """Makes three records, the second at once, the third when it is told to; then its thread dies."""

    def __init__(self):
        super().__init__("cpu")
        self.told = threading.Event()

    def train(self, specs, keep=()):
        yield from specs[:2]
        self.told.wait(240)
        yield specs[2]
        raise SystemExit


def test_a_record_is_kept_waiting_for_moments_only_and_a_thread_that_dies_ends_the_stream(run, monkeypatch):
    monkeypatch.setattr("orchestrator.workers.worker.GATHER", 1.0)  # in which the second surely comes
    worker, records = Slow(), list(train(run, device="cpu").history[:3])
    stream = worker.stream(records)
    assert next(stream) == records[:2]
    worker.told.set()
    assert list(stream) == [records[2:]]
