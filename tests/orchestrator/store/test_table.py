"""The results table: the queue, the fence, and what survives."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

import orchestrator
from orchestrator import Table, TableError
from orchestrator.host.process import this_process
from orchestrator.store.table import LEASE
from tests.paths import ROOT
from trainer.result import Resumed


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


def test_enqueueing_again_adds_nothing(table, planned):
    assert table.queue.enqueue(planned()) == 4
    before = table.frame()
    assert table.queue.enqueue(planned()) == 0
    pd.testing.assert_frame_equal(table.frame(), before)


def test_two_sweeps_share_what_both_declare(table, planned):
    table.queue.enqueue(planned(sweep="one", width="[16, 32]"))
    assert table.queue.enqueue(planned(sweep="two", width="[32, 48]")) == 2
    assert [row["runs"] for row in table.sweeps()] == [4, 4]
    assert sum(table.counts().values()) == 6
    both = table.frame().groupby("run_id")["sweep"].apply(list)
    assert both[both.map(len) == 2].tolist() == [["one", "two"]] * 2
    table.queue.claim([run.run_id for run in table.queued("one")])
    assert {run.width for run in table.queued("two")} == {48}


def test_a_run_that_left_the_file_leaves_the_sweep_and_stays_in_the_table(table, planned):
    table.queue.enqueue(planned(width="[16, 32]"))
    table.queue.enqueue(planned(width="[32]"))
    assert set(table.frame("runs", "small")["width"]) == {32}
    assert sum(table.counts().values()) == 4


def test_queued_runs_come_back_as_planned_and_in_its_order(table, planned):
    made = planned(width="[32, 16, 48]")
    table.queue.enqueue(made)
    assert table.queued("small") == list(made.runs)


def test_an_attempt_that_is_cut_off_is_charged_for_what_it_recorded(table, claimed, result_of):
    made, tokens = claimed
    first = result_of(made.runs[0])
    table.queue.record([first.history[0]], tokens)
    table.queue.release(tokens, "lost", "its worker died")
    attempts = table.frame("attempts").set_index("run_id")
    assert attempts.loc[first.run_id, "flops"] == first.history[0].flops
    assert set(attempts["flops"].drop(first.run_id)) == {0}
    again = table.queue.claim([first.run_id])
    half = first.history[0]
    table.queue.resume(Resumed(first.run_id, half.step, half.flops, half.seconds, (half,)), again[first.run_id])
    assert list(table.frame("history")["step"]) == [half.step]
    table.queue.finish([first], again)
    attempts = table.frame("attempts").query("run_id == @first.run_id")
    assert list(attempts["resumed_step"]) == [0, half.step]
    assert attempts["flops"].sum() == first.flops == table.frame()["flops"].sum()


def test_an_attempt_that_is_over_resumes_nothing(table, claimed, result_of):
    made, tokens = claimed
    record = result_of(made.runs[0]).history[0]
    table.queue.release(tokens, "lost", "its worker died")
    table.queue.claim([record.run_id])
    old = tokens[record.run_id]
    table.queue.resume(Resumed(record.run_id, record.step, record.flops, record.seconds, (record,)), old)
    assert table.frame("history").empty
    assert set(table.frame("attempts")["resumed_step"]) == {0}


def test_a_run_is_claimed_exactly_once(table, planned):
    made = planned(width="[16, 32]", seeds=20)
    table.queue.enqueue(made)
    ids = [run.run_id for run in made.runs]
    first = table.queue.claim(ids[:25])
    second = table.queue.claim(ids)
    assert set(first) | set(second) == set(ids)
    assert not set(first) & set(second)
    assert table.queue.claim(ids) == {}
    assert set(first.values()) == {1}


def test_a_finished_run_is_not_claimed_again(table, claimed, result_of):
    made, tokens = claimed
    table.queue.finish([result_of(run) for run in made.runs], tokens)
    assert table.queue.claim(list(tokens)) == {}
    assert table.queue.enqueue(made) == 0
    assert states(table) == ["done"] * 4


# the fence


def test_an_old_token_changes_nothing(table, claimed, result_of):
    made, old = claimed
    table.queue.release(old, "lost", "its worker died")
    table.queue.claim(list(old))
    before, attempts = table.frame(), table.frame("attempts")
    table.queue.finish([result_of(run) for run in made.runs], old)
    table.queue.fail(old, "too late", "")
    table.queue.release(old, "lost", "too late")
    pd.testing.assert_frame_equal(table.frame(), before)
    pd.testing.assert_frame_equal(table.frame("attempts"), attempts)
    assert states(table) == ["running"] * 4


def test_a_run_ends_once(table, claimed, result_of):
    made, tokens = claimed
    table.queue.finish([result_of(run, error=0.25) for run in made.runs], tokens)
    table.queue.finish([result_of(run, error=0.75) for run in made.runs], tokens)
    table.queue.fail(tokens, "too late", "")
    assert set(table.frame()["error"]) == {0.25}
    assert states(table) == ["done"] * 4


def test_a_new_attempt_drops_what_the_old_one_recorded(table, claimed, result_of):
    made, tokens = claimed
    table.queue.record(result_of(made.runs[0]).history, tokens)
    assert len(table.frame("history")) == 2
    table.queue.release(tokens, "interrupted", "stopped")
    assert set(table.queue.claim(list(tokens)).values()) == {2}
    assert len(table.frame("history")) == 0


def test_a_record_of_an_attempt_that_is_over_is_not_kept(table, claimed, result_of):
    made, old = claimed
    table.queue.release(old, "lost", "its worker died")
    table.queue.record(result_of(made.runs[0]).history, old)
    assert table.frame("history").empty
    new = table.queue.claim(list(old))
    table.queue.record(result_of(made.runs[0]).history, old)
    assert table.frame("history").empty
    table.queue.record(result_of(made.runs[0]).history, new)
    assert len(table.frame("history")) == 2


def test_only_what_nobody_trains_is_moved(table, claimed):
    ids = list(claimed[1])
    assert table.queue.move(ids, "cancelled", of=["queued", "blocked"]) == 0
    assert states(table) == ["running"] * 4
    for before, after in [("running", "done"), ("done", "failed"), ("diverged", "queued")]:
        with pytest.raises((AssertionError, KeyError)):
            table.queue.move(ids, after, of=[before])


def test_a_worker_that_outlived_its_coordinator_is_ended_before_its_run_is_queued_again(store, planned):
    made = planned(width="16", seeds=2)
    with subprocess.Popen(["sleep", "60"]) as orphan, subprocess.Popen(["sleep", "60"]) as bystander:
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
        assert orphan.wait(10) == -signal.SIGKILL
        assert bystander.poll() is None
        bystander.kill()


def process_of(pid):
    started = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    return this_process()._replace(pid=pid, started=started)


def test_every_attempt_is_kept_with_how_it_ended(table, claimed, result_of):
    made, tokens = claimed
    table.queue.release(tokens, "lost", "its worker died")
    table.queue.finish([result_of(run) for run in made.runs], table.queue.claim(list(tokens)))
    attempts = table.frame("attempts")
    one = attempts[attempts["run_id"] == made.runs[0].run_id]
    assert one["outcome"].tolist() == ["lost", "done"]
    assert {int(said.split("/")[2]) for said in one["coordinator"]} == {os.getpid()}
    assert one["stack"].tolist() == [4, 4]
    assert (one["ended"] >= one["started"]).all()


def test_recovery_takes_back_what_a_dead_coordinator_left(store, planned):
    made = planned()
    with Table(store, writable=True) as table:
        table.queue.enqueue(made)
        table.queue.claim([run.run_id for run in made.runs[:3]])
    with Table(store, writable=True) as table:
        assert table.queue.recover() == 3
        assert states(table) == ["queued"] * 4
        assert table.queue.recover() == 0
        assert table.frame("attempts")["outcome"].tolist() == ["lost"] * 3


def test_recovery_leaves_another_host_its_runs_until_the_lease_ends(table, claimed):
    _, tokens = claimed
    with sqlite3.connect(table.store) as direct:
        direct.execute("UPDATE attempts SET coordinator = 'elsewhere/b/1/2'")
    assert table.queue.recover() == 0
    table.queue.renew(tokens)
    lease = table.frame("attempts")["lease"]
    assert (lease > time.time() + LEASE / 2).all()
    with sqlite3.connect(table.store) as direct:
        direct.execute("UPDATE attempts SET lease = ?", [time.time() - 1])
    direct.close()
    assert table.queue.recover() == 4


def test_a_failed_run_keeps_its_traceback_until_it_is_asked_again(table, claimed):
    made, tokens = claimed
    guilty = made.runs[0].run_id
    table.queue.fail({guilty: tokens[guilty]}, "ValueError: no", "Traceback ...\nValueError: no")
    (failure,) = table.failures("small")
    assert (failure["run_id"], failure["reason"]) == (guilty, "ValueError: no")
    assert failure["traceback"].startswith("Traceback")
    assert table.queue.move(table.states("other"), "queued", of=["failed"]) == 0
    assert table.queue.move(table.states("small"), "queued", of=["failed"]) == 1
    assert table.failures("small") == []
    assert table.queue.claim([guilty]) == {guilty: 2}


# reading


def test_results_are_one_row_a_run_with_plain_columns(store, table, claimed, result_of):
    made, tokens = claimed
    table.queue.finish([result_of(run) for run in made.runs[:3]], tokens)
    frame = orchestrator.results(store)
    assert frame["run_id"].tolist() == [run.run_id for run in made.runs]
    assert frame["sweep"].unique().tolist() == ["small"]
    for name in ("width", "depth", "seed", "batch_size", "dataset_size", "params", "planned_flops", "attempt"):
        assert pd.api.types.is_integer_dtype(frame[name]), name
    for name in ("lr", "weight_decay", "error", "loss", "train_loss", "seconds", "epochs"):
        assert pd.api.types.is_float_dtype(frame[name]), name
    assert "spec" not in frame
    done = frame[frame["state"] == "done"]
    assert (done["flops"] == done["planned_flops"]).all()
    assert (done["epochs"] == done["examples"] / done["dataset_size"]).all()
    assert frame["params"].tolist() == [result_of(run).params for run in made.runs]
    assert frame[frame["state"] == "running"]["error"].isna().all()


def test_history_is_one_row_a_record_in_order(store, table, claimed, result_of):
    made, tokens = claimed
    results = [result_of(run) for run in made.runs]
    table.queue.record([record for result in results for record in result.history[:1]], tokens)
    table.queue.finish(results, tokens)
    frame = orchestrator.history(store, "small")
    wanted = [(r.run_id, r.step, r.flops, r.error) for result in results for r in result.history]
    assert list(frame[["run_id", "step", "flops", "error"]].itertuples(index=False, name=None)) == wanted


def test_a_sweep_is_summed_up(table, claimed, result_of):
    made, tokens = claimed
    table.queue.finish([result_of(run, error=0.5 - i / 10) for i, run in enumerate(made.runs[:2])], tokens)
    table.queue.finish([result_of(made.runs[2], "diverged", float("nan"))], tokens)
    (row,) = table.sweeps()
    counted = {name: row[name] for name in ("runs", "queued", "running", "done", "failed", "diverged")}
    assert counted == {"runs": 4, "queued": 0, "running": 1, "done": 2, "failed": 0, "diverged": 1}
    assert row["planned_flops"] == made.flops
    assert row["best_error"] == pytest.approx(0.4)


def test_the_password_of_a_data_url_is_for_workers_alone(table, planned):
    made = planned()
    secret = replace(made, runs=tuple(replace(run, path="sftp://me:s3cret@host/x.npz") for run in made.runs))
    table.queue.enqueue(secret)
    assert {run.path for run in table.queued("small")} == {"sftp://me:s3cret@host/x.npz"}
    assert set(table.frame()["path"]) == {"sftp://me:***@host/x.npz"}
    found = table.shown(made.runs[0].run_id)
    assert (found["path"], found["start"]) == ("sftp://me:***@host/x.npz", None)


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


def test_a_reader_cannot_write(store, table, planned):
    table.queue.enqueue(planned())
    with Table(store) as reader, pytest.raises(Exception, match="readonly"):
        reader.queue.enqueue(planned(width="48"))
    assert table.counts() == {"queued": 4}


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
    assert str(caught.value) == f"{store} is no results table: file is not a database"
    assert store.read_text().startswith("name,error")


def test_a_database_of_somebody_else_is_refused(store):
    with sqlite3.connect(store) as other:
        other.execute("CREATE TABLE theirs (x)")
    other.close()
    with pytest.raises(TableError, match="is no results table: no such table: meta"):
        Table(store)


def test_a_measured_speed_is_kept_with_the_table(store):
    with Table(store, writable=True) as table:
        assert table.speed is None
        table.speed = {"device": "cpu", "layer": 1e-4}
    with Table(store) as table:
        assert table.speed == {"device": "cpu", "layer": 1e-4}


@pytest.mark.parametrize("writable", [True, False])
def test_another_schema_version_is_refused(store, planned, writable):
    with Table(store, writable=True) as table:
        table.queue.enqueue(planned())
    with sqlite3.connect(store) as direct:
        direct.execute("UPDATE meta SET version = 99")
    direct.close()
    with pytest.raises(TableError, match=r"has schema version 99, this isoflop reads \d+$"):
        Table(store, writable=writable)


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
        for table, columns in NEW_IN_4.items():
            for column in columns:
                direct.execute(f"ALTER TABLE {table} DROP COLUMN {column}")
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
