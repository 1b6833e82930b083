"""A table written before the code was moved into packages (commit ed1cb22) opens, reads and resumes.

`fixtures/before_packages.sqlite` holds a grid that is partly trained, with runs that are done, diverged, failed,
cancelled and queued, and one whose coordinator died; and a search by BOHB, which was removed.
"""

import shutil
from pathlib import Path

import pandas as pd
import pytest

import orchestrator
from orchestrator import Table, plan, read_sweep
from orchestrator.scheduling.scheduler import Scheduler
from orchestrator.searching.sweep_search import SweepSearch, best_of
from orchestrator.workers.inline import InlineExecutor
from trainer import train

FIXTURE = Path(__file__).parent / "fixtures" / "before_packages.sqlite"
COUNTS = {"cancelled": 1, "diverged": 1, "done": 4, "failed": 1, "pruned": 1, "queued": 7, "running": 1}


@pytest.fixture
def store(tmp_path, monkeypatch):
    """A copy, upgraded by a writer, and the identity of runs with the arithmetic of that time."""
    monkeypatch.setattr("trainer.spec.NUMERICS", 1)
    path = shutil.copy(FIXTURE, tmp_path / "old.db")
    Table(path, writable=True).close()
    return path


def sweep_of(table, name):
    _, text = table.declaration(name)
    return read_sweep(text.replace("bohb", "hyperband"))


def test_its_rows_are_shown(store):
    with Table(store) as table:
        assert table.counts() == COUNTS
        assert [row["sweep"] for row in table.sweeps()] == ["older", "older-search"]
        assert table.failures("older")[0]["reason"] == "RuntimeError: planted"
        assert len(table.running()) == 1
    frame = orchestrator.results(store)
    searched = frame[frame["sweep"] == "older-search"]
    assert searched["trial"].tolist() == [0, 1, 2, 3]
    assert searched["state"].tolist() == ["done", "done", "pruned", "queued"]
    assert searched["val_error"].notna().tolist() == [True, True, True, False]
    history = orchestrator.history(store)
    assert set(frame.query("state == 'done'")["run_id"]) <= set(history["run_id"])


def test_what_was_planned_then_is_the_same_run_today(store):
    with Table(store, writable=True) as table:
        assert table.queue.enqueue(plan(sweep_of(table, "older"))) == 0
        assert table.counts() == COUNTS
        specs = {run.run_id: run for run in plan(sweep_of(table, "older")).runs}
    for row in orchestrator.results(store, "older").query("state == 'done'").to_dict("records"):
        today = train(specs[row["run_id"]], device="cpu")
        assert today.state == "done"
        assert (today.error, today.loss) == pytest.approx((row["error"], row["loss"]), rel=1e-5)


def test_its_queued_runs_are_trained_and_its_finished_ones_are_not(store):
    before = orchestrator.results(store, "older").set_index("run_id")
    with Table(store, writable=True) as table:
        assert table.queue.recover() == 1
        table.queue.move(table.states("older"), "queued", of=["failed", "cancelled"])
        Scheduler(table, InlineExecutor("cpu"), ["older"]).drain()
        assert table.counts("older") == {"done": 8, "diverged": 4}
    after = orchestrator.results(store, "older").set_index("run_id").loc[before.index]
    finished = before["state"].isin(["done", "diverged"])
    plain = [frame[finished].astype(object).where(frame[finished].notna(), None) for frame in (before, after)]
    pd.testing.assert_frame_equal(plain[0], plain[1])
    assert after["attempt"].tolist() == [1 + (state in ("failed", "running")) for state in before["state"]]


def test_its_search_goes_on(store):
    with Table(store, writable=True) as table:
        sweep = sweep_of(table, "older-search")
        text = table.declaration("older-search")[1].replace("scheduler: bohb", "method: random, batch: 2")
        assert best_of(table, sweep)[0].trial in (0, 1)
        search = SweepSearch(table, read_sweep(text))
        assert search.proposed == search.total == 4
        Scheduler(table, InlineExecutor("cpu"), ["older-search"], source=search).drain()
        assert table.counts("older-search") == {"done": 3, "pruned": 1}
