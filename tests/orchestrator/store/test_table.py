"""The results table: the queue, the fence, and what survives."""

import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa

import orchestrator
from orchestrator import Table, TableError
from orchestrator.host.process import this_process
from tests.paths import ROOT


@pytest.fixture
def store(tmp_path):
    return tmp_path / "t.db"


@pytest.fixture
def table(store):
    with Table(store, writable=True) as made:
        yield made


@pytest.fixture
def claimed(table, planned):
    """A table whose sweep `small` is all claimed, and the tokens."""
    made = planned()
    table.queue.enqueue(made)
    return made, table.queue.claim([run.run_id for run in made.runs])


def states(table, sweep="small"):
    return list(table.frame("runs", sweep)["state"])


# the queue


def test_a_claim_looks_at_the_runs_that_it_names_alone(table, planned):
    """SQLite would rather read all queued runs by the index on states."""
    made, plans = planned(seeds=4), []
    table.queue.enqueue(made)

    def explain(_, cursor, statement, parameters, *__):
        if statement.startswith("UPDATE runs"):
            plans.append([row[3] for row in cursor.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)])

    sa.event.listen(table.engine, "before_cursor_execute", explain)
    assert len(table.queue.claim([run.run_id for run in made.runs])) == 8
    assert plans == [["SEARCH runs USING INDEX sqlite_autoindex_runs_1 (run_id=?)"]]


# the fence


def test_a_worker_that_outlived_its_coordinator_is_ended_before_its_run_is_queued_again(store, planned):
    made = planned(width="16", seeds=2)
    with subprocess.Popen(["sleep", "240"]) as orphan, subprocess.Popen(["sleep", "240"]) as bystander:
        with Table(store, writable=True) as table:
            table.queue.enqueue(made)
            tokens = table.queue.claim([run.run_id for run in made.runs])
            of = [
                process_of(orphan.pid),
                process_of(bystander.pid)._replace(started=1),
            ]  # its number was used again
            for (run_id, token), process in zip(tokens.items(), of, strict=True):
                table.queue.began({run_id: token}, process)
        with Table(store, writable=True) as table:
            assert table.queue.recover() == 2
        assert orphan.wait() == -signal.SIGKILL
        assert bystander.poll() is None
        bystander.kill()


def process_of(pid):
    started = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    return this_process()._replace(pid=pid, started=started)


# reading


def test_a_sweep_may_cost_more_flops_than_an_integer_of_the_database_holds(table, planned):
    """Two of the paper's sweeps do: 1e19 FLOPs in all."""
    table.queue.enqueue(planned())
    with sqlite3.connect(table.store) as direct:
        direct.execute("UPDATE runs SET planned_flops = 6000000000000000000")
    direct.close()
    assert table.sweeps()[0]["planned_flops"] == 24 * 10**18


# the file


def test_a_second_writer_is_refused_by_name_and_readers_are_not(store, table, planned):
    table.queue.enqueue(planned())
    code = f"from orchestrator import Table; Table({str(store)!r}, writable=True)"
    refused = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    last = refused.stderr.strip().splitlines()[-1]
    assert f"TableBusyError: {store} is in use by another isoflop (pid {os.getpid()})" in last
    with Table(store) as reader:
        assert reader.counts() == {"queued": 4}


def test_a_closed_table_can_be_written_by_the_next(store, planned):
    for _ in range(2):
        with Table(store, writable=True) as table:
            table.queue.enqueue(planned())


def test_a_commit_survives_a_power_cut(table):
    with table.engine.connect() as connection:
        raw = connection.connection.driver_connection
        assert raw.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert raw.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL


@pytest.mark.parametrize("name", ["plain.db", "with space.db", "a#b?c%20.db", "größe.db", "quo'te.db"])
def test_a_table_may_have_any_name(tmp_path, planned, name):
    store = tmp_path / "folder of mine" / name
    with Table(store, writable=True) as table:
        table.queue.enqueue(planned())
    assert store.exists()
    assert len(orchestrator.results(store)) == 4


def test_a_table_that_is_not_there_is_said_and_not_made(store):
    with pytest.raises(TableError, match=r"no results table at .*; `isoflop run FILE --store"):
        Table(store)
    assert not store.exists()


@pytest.mark.parametrize("writable", [True, False])
def test_a_file_that_is_no_table_is_refused_in_one_line(store, writable):
    store.write_text("name,error\na,0.5\n" * 100)
    with pytest.raises(TableError) as caught:
        Table(store, writable=writable)
    assert str(caught.value) == f"{store} is not a results table: file is not a database"
    assert store.read_text().startswith("name,error")


def test_a_database_of_somebody_else_is_refused(store):
    with sqlite3.connect(store) as other:
        other.execute("CREATE TABLE theirs (x)")
    other.close()
    with pytest.raises(TableError, match="is not a results table: no such table: meta"):
        Table(store)


def test_an_older_table_is_brought_up_to_date_by_the_next_writer(store, planned):
    made = planned()
    with Table(store, writable=True) as table:
        table.queue.enqueue(made)
        whole = table.frame()
    with sqlite3.connect(store) as direct:
        for column in ("mixup", "dropout", "precision"):
            direct.execute(f"ALTER TABLE runs DROP COLUMN {column}")
        direct.execute("UPDATE meta SET version = 1")
    direct.close()
    with pytest.raises(TableError, match=r"has schema version 1, .* upgrades it"):
        Table(store)
    with Table(store, writable=True) as table:
        assert table.queued("small") == list(made.runs)
    with Table(store) as table:
        frame = table.frame()
    assert set(frame) == set(whole)
    assert frame["mixup"].isna().all()
    assert frame["width"].tolist() == whole["width"].tolist()


def test_a_running_table_of_the_version_before_is_upgraded_and_its_runs_taken_back(store, planned):
    """What stands in it is of the version before: attempts named only the coordinator's host."""
    made = planned()
    with Table(store, writable=True) as table:
        table.queue.enqueue(made)
        table.queue.claim([run.run_id for run in made.runs])
        host = table.frame("attempts")["coordinator"].iloc[0].split("/")[0]
    with sqlite3.connect(store) as direct:
        direct.execute("UPDATE attempts SET host = ?", [host])
        for name, columns in NEW_IN_4.items():
            for column in columns:
                direct.execute(f"ALTER TABLE {name} DROP COLUMN {column}")
        direct.execute("UPDATE meta SET version = 3")
    direct.close()
    with Table(store, writable=True) as table:
        assert table.queue.recover() == 4
        assert set(table.frame()["priority"]) == {0}
        assert table.limits("small") == made.limits
        assert set(table.queue.claim([run.run_id for run in made.runs]).values()) == {2}


NEW_IN_4 = {
    "runs": ["priority"],
    "sweeps": ["limits", "paused", "seconds", "seconds_left", "message"],
    "attempts": [
        *("coordinator", "boot_id", "pid_started", "reserved", "resumed_flops", "exception"),
        *("gpu_seconds", "peak_memory", "energy"),
    ],
}

WRITER = """
import sys
sys.path.insert(0, {root!r})
from orchestrator import Table, plan, read_sweep
from trainer.result import Record
from tests.paths import ROOT

with Table({store!r}, writable=True) as table:
    planned = plan(read_sweep({text!r}))
    table.queue.enqueue(planned)
    run_id = planned.runs[0].run_id
    claimed = table.queue.claim([run_id])
    step = 0
    while True:
        step += 1
        table.queue.record([Record(run_id, step, step, step, 0.0, 0.0, 0.0, 0.0)], claimed)
        print(step, flush=True)
"""


def test_kill_9_in_the_middle_of_writing_loses_no_committed_record(store, text_of):
    code = WRITER.format(root=str(ROOT), store=str(store), text=text_of())
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as writer:
        said = [int(writer.stdout.readline()) for _ in range(50)]
        writer.send_signal(signal.SIGKILL)
        said += [int(line) for line in writer.stdout if line.strip()]
    with Table(store, writable=True) as table:  # and its lock died with it
        steps = table.frame("history")["step"].tolist()
        assert table.queue.recover() == 1
    assert steps[: len(said)] == said
    assert len(steps) - len(said) in (0, 1)  # committed, and killed before it could say so
    with sqlite3.connect(store) as direct:
        assert direct.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    direct.close()


def test_a_queued_spec_that_is_still_in_use_is_not_built_again(table, planned):
    made = planned()
    table.queue.enqueue(made)
    first = table.queued("small")
    assert first == list(made.runs)
    table.queue.claim([first[0].run_id])
    second = table.queued("small")
    assert all(again is before for again, before in zip(second, first[1:], strict=True))
