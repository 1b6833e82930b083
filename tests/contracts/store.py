"""What every store of the results table must do: one suite, run over SQLite and PostgreSQL.

A third party runs it over a store of its own: it subclasses `StoreContract` in a test module and adds a `store`:

    from tests.contracts.store import StoreContract

    class TestMyStore(StoreContract):
        @pytest.fixture
        def store(self, tmp_path):
            return "mydb://..."  # what `Table` is opened with; empty, and of this test alone

The suite trains nothing, and writes results made by hand.
"""

import os
import subprocess
import sys
import time
from dataclasses import replace

import pandas as pd
import pytest

import orchestrator
from orchestrator import Table, TableError, plan, read_sweep
from orchestrator.store.schema import attempts, meta
from orchestrator.store.table import LEASE, End
from orchestrator.store.trials import Trial
from tests.orchestrator.conftest import digits_text, made_result
from tests.paths import ROOT
from trainer.result import Resumed


def planned(**changes):
    """A plan of 2 widths x 2 seeds on digits, unless told otherwise."""
    return plan(read_sweep(digits_text(**changes)))


def states(table, sweep="small"):
    return list(table.frame("runs", sweep)["state"])


def claim_in_another_process(store, run_ids):
    """Have a coordinator claim runs and die."""
    code = f"from orchestrator import Table\nTable({store!r}, writable=True).queue.claim({run_ids!r})"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, timeout=120)


class StoreContract:
    """Subclass it with a fixture `store`."""

    @pytest.fixture
    def table(self, store):
        with Table(store, writable=True) as table:
            yield table

    @pytest.fixture
    def claimed(self, table):
        """A plan whose runs are all claimed, and the tokens."""
        sweep = planned()
        table.queue.enqueue(sweep)
        return sweep, table.queue.claim([run.run_id for run in sweep.runs])

    # enqueueing

    def test_enqueueing_again_adds_nothing(self, table):
        assert table.queue.enqueue(planned()) == 4
        before = table.frame()
        assert table.queue.enqueue(planned()) == 0
        pd.testing.assert_frame_equal(table.frame(), before)

    def test_two_sweeps_share_what_both_declare(self, table):
        table.queue.enqueue(planned(sweep="one", width="[16, 32]"))
        assert table.queue.enqueue(planned(sweep="two", width="[32, 48]")) == 2
        assert [row["runs"] for row in table.sweeps()] == [4, 4]
        assert sum(table.counts().values()) == 6
        shared = table.frame().set_index("run_id")
        assert len(shared) == shared.index.nunique() == 6
        assert sorted(map(tuple, shared["sweeps"])) == [("one",)] * 2 + [("one", "two")] * 2 + [("two",)] * 2
        assert (shared["sweep"] == shared["sweeps"].str[0]).all()
        two = table.frame("runs", "two")
        assert two["width"].tolist() == [32, 32, 48, 48]
        assert two["sweep"].tolist() == ["two"] * 4
        assert two["sweeps"].tolist() == [["one", "two"]] * 2 + [["two"]] * 2
        table.queue.claim([run.run_id for run in table.queued("one")])
        assert {run.width for run in table.queued("two")} == {48}

    def test_a_run_that_left_the_file_leaves_the_sweep_and_stays_in_the_table(self, table):
        table.queue.enqueue(planned(width="[16, 32]"))
        table.queue.enqueue(planned(width="[32]"))
        assert set(table.frame("runs", "small")["width"]) == {32}
        left = table.frame().set_index("width")
        assert (left.loc[16, "sweeps"].map(len) == 0).all()
        assert left.loc[16, "sweep"].isna().all()
        assert sum(table.counts().values()) == 4

    def test_queued_runs_come_back_as_planned_and_in_its_order(self, table):
        sweep = planned(width="[32, 16, 48]")
        table.queue.enqueue(sweep)
        assert table.queued("small") == list(sweep.runs)

    def test_a_limit_that_was_raised_queues_again_what_it_blocked(self, table):
        sweep = planned()
        table.queue.enqueue(sweep)
        table.queue.move([sweep.runs[0].run_id], "blocked", of=["queued"], reason="limits.hours")
        assert table.queue.enqueue(sweep) == 0
        assert table.counts() == {"blocked": 1, "queued": 3}
        table.queue.enqueue(planned(more="limits: {hours: 2}"))
        assert table.counts() == {"queued": 4}

    # claims and fencing tokens

    def test_a_run_is_claimed_exactly_once(self, table):
        sweep = planned(width="[16, 32]", seeds=20)
        table.queue.enqueue(sweep)
        ids = [run.run_id for run in sweep.runs]
        first, second = table.queue.claim(ids[:25]), table.queue.claim(ids)
        assert set(first) | set(second) == set(ids)
        assert not set(first) & set(second)
        assert table.queue.claim(ids) == {}
        assert set(first.values()) == {1}

    def test_a_finished_run_is_not_claimed_again(self, table, claimed):
        sweep, tokens = claimed
        table.queue.finish([made_result(run) for run in sweep.runs], tokens)
        assert table.queue.claim(list(tokens)) == {}
        assert table.queue.enqueue(sweep) == 0
        assert states(table) == ["done"] * 4

    def test_an_old_token_changes_nothing(self, table, claimed):
        sweep, old = claimed
        table.queue.release(old, "lost", "its worker died")
        table.queue.claim(list(old))
        before, tried = table.frame(), table.frame("attempts")
        table.queue.finish([made_result(run) for run in sweep.runs], old)
        table.queue.fail(old, "too late", "")
        table.queue.release(old, "lost", "too late")
        pd.testing.assert_frame_equal(table.frame(), before)
        pd.testing.assert_frame_equal(table.frame("attempts"), tried)
        assert states(table) == ["running"] * 4

    def test_a_run_ends_once(self, table, claimed):
        sweep, tokens = claimed
        table.queue.finish([made_result(run, error=0.25) for run in sweep.runs], tokens)
        table.queue.finish([made_result(run, error=0.75) for run in sweep.runs], tokens)
        table.queue.fail(tokens, "too late", "")
        assert set(table.frame()["error"]) == {0.25}
        assert states(table) == ["done"] * 4

    def test_settle_returns_the_runs_whose_attempt_it_ended(self, table, claimed):
        sweep, tokens = claimed
        first, second = [run.run_id for run in sweep.runs[:2]]
        late = End(second, tokens[second] + 1, "failed", "failed")
        assert table.queue.settle([End(first, tokens[first], "queued", "lost"), late]) == {first}

    def test_a_new_attempt_drops_what_the_old_one_recorded(self, table, claimed):
        sweep, tokens = claimed
        table.queue.record(made_result(sweep.runs[0]).history, tokens)
        assert len(table.frame("history")) == 2
        table.queue.release(tokens, "interrupted", "stopped")
        assert set(table.queue.claim(list(tokens)).values()) == {2}
        assert len(table.frame("history")) == 0

    def test_a_record_of_an_attempt_that_is_over_is_not_kept(self, table, claimed):
        sweep, old = claimed
        table.queue.release(old, "lost", "its worker died")
        table.queue.record(made_result(sweep.runs[0]).history, old)
        assert table.frame("history").empty
        new = table.queue.claim(list(old))
        table.queue.record(made_result(sweep.runs[0]).history, old)
        assert table.frame("history").empty
        table.queue.record(made_result(sweep.runs[0]).history, new)
        assert len(table.frame("history")) == 2

    def test_an_attempt_that_is_over_resumes_nothing(self, table, claimed):
        sweep, tokens = claimed
        record = made_result(sweep.runs[0]).history[0]
        table.queue.release(tokens, "lost", "its worker died")
        table.queue.claim([record.run_id])
        old = tokens[record.run_id]
        table.queue.resume(Resumed(record.run_id, record.step, record.flops, record.seconds, (record,)), old)
        assert table.frame("history").empty
        assert set(table.frame("attempts")["resumed_step"]) == {0}

    def test_a_transaction_that_raises_writes_nothing(self, table, claimed):
        sweep, tokens = claimed

        def fail_half_way():
            with table.transaction():
                table.queue.finish([made_result(run) for run in sweep.runs], tokens)
                table.queue.tell("small", message="half-way")
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            fail_half_way()
        assert states(table) == ["running"] * 4
        assert table.sweeps()[0]["message"] is None

    # attempts: how they end, and what they are charged

    def test_every_attempt_is_kept_with_how_it_ended(self, table, claimed):
        sweep, tokens = claimed
        table.queue.release(tokens, "lost", "its worker died")
        table.queue.finish([made_result(run) for run in sweep.runs], table.queue.claim(list(tokens)))
        tried = table.frame("attempts")
        one = tried[tried["run_id"] == sweep.runs[0].run_id]
        assert one["outcome"].tolist() == ["lost", "done"]
        assert {int(name.split("/")[2]) for name in one["coordinator"]} == {os.getpid()}
        assert one["stack"].tolist() == [4, 4]
        assert (one["ended"] >= one["started"]).all()

    def test_an_attempt_that_is_cut_off_is_charged_for_what_it_recorded(self, table, claimed):
        sweep, tokens = claimed
        first = made_result(sweep.runs[0])
        table.queue.record([first.history[0]], tokens)
        table.queue.release(tokens, "lost", "its worker died")
        tried = table.frame("attempts").set_index("run_id")
        assert tried.loc[first.run_id, "flops"] == first.history[0].flops
        assert set(tried["flops"].drop(first.run_id)) == {0}
        again = table.queue.claim([first.run_id])
        half = first.history[0]
        table.queue.resume(Resumed(first.run_id, half.step, half.flops, half.seconds, (half,)), again[first.run_id])
        assert list(table.frame("history")["step"]) == [half.step]
        table.queue.finish([first], again)
        tried = table.frame("attempts").query("run_id == @first.run_id")
        assert list(tried["resumed_step"]) == [0, half.step]
        assert tried["flops"].sum() == first.flops == table.frame()["flops"].sum()

    def test_a_failed_run_keeps_its_traceback_until_it_is_asked_again(self, table, claimed):
        sweep, tokens = claimed
        guilty = sweep.runs[0].run_id
        table.queue.fail({guilty: tokens[guilty]}, "ValueError: no", "Traceback ...\nValueError: no")
        (failure,) = table.failures("small")
        assert (failure["run_id"], failure["reason"]) == (guilty, "ValueError: no")
        assert failure["traceback"].startswith("Traceback")
        assert table.queue.move(table.states("other"), "queued", of=["failed"]) == 0
        assert table.queue.move(table.states("small"), "queued", of=["failed"]) == 1
        assert table.failures("small") == []
        assert table.queue.claim([guilty]) == {guilty: 2}

    def test_a_run_that_is_pruned_from_outside_keeps_its_last_record(self, table, claimed):
        sweep, tokens = claimed
        pruned, unheard = sweep.runs[:2]
        first, last = (replace(record, loss=2.5, error=0.75) for record in made_result(pruned).history)
        table.queue.record([first, replace(last, loss=2.25, error=0.5, train_loss=1.5)], tokens)
        table.queue.settle(
            [End(run.run_id, tokens[run.run_id], "pruned", "pruned", "a scheduler") for run in (pruned, unheard)]
        )
        rows = table.frame().set_index("run_id")
        row = rows.loc[pruned.run_id]
        assert (row["state"], row["reason"]) == ("pruned", "a scheduler")
        assert (row["val_error"], row["val_loss"], row["train_loss"]) == (0.5, 2.25, 1.5)
        kept = [row[name] for name in ("steps", "examples", "flops", "seconds", "charged_flops")]
        assert kept == [last.step, last.examples, last.flops, last.seconds, last.flops]
        assert row["epochs"] == last.examples / pruned.dataset_size
        assert pd.isna(row["error"])  # the test split was not evaluated
        assert rows.loc[unheard.run_id, "state"] == "pruned"
        assert pd.isna(rows.loc[unheard.run_id, "val_error"])

    # moving, cancelling, priorities

    def test_only_what_nobody_trains_is_moved(self, table, claimed):
        ids = list(claimed[1])
        assert table.queue.move(ids, "cancelled", of=["queued", "blocked"]) == 0
        assert states(table) == ["running"] * 4
        for before, after in [("running", "done"), ("done", "failed"), ("diverged", "queued")]:
            with pytest.raises((AssertionError, KeyError)):
                table.queue.move(ids, after, of=[before])

    def test_cancel_says_by_whom_in_the_run_and_reaches_runs_in_training(self, table):
        sweep = planned()
        table.queue.enqueue(sweep)
        waiting, other, training, finishing = [run.run_id for run in sweep.runs]
        tokens = table.queue.claim([training, finishing])
        assert table.queue.cancel([waiting, training, finishing]) == (1, 2)
        assert set(table.leaving()) == {training, finishing}
        assert table.states("small")[waiting] == "cancelled"
        table.queue.release({training: tokens[training]}, "interrupted", "stopped")
        table.queue.finish([made_result(sweep.runs[3])], tokens)  # it came to its end meanwhile
        rows = table.frame().set_index("run_id")
        assert rows["state"].to_dict() == {
            waiting: "cancelled",
            other: "queued",
            training: "cancelled",
            finishing: "done",
        }
        assert rows.loc[[waiting, training], "reason"].tolist() == ["cancelled by hand"] * 2
        assert rows.loc[[other, finishing], "reason"].isna().all()
        assert table.leaving() == []
        table.queue.move([training], "queued", of=["cancelled"])
        assert table.queue.claim([training]) == {training: 2}

    def test_priorities_are_kept_and_counted(self, table, claimed):
        ids = list(claimed[1])
        assert table.queue.prioritise(ids[:3], 7) == 3
        assert sorted(row.priority for row in table.standing().values()) == [0, 7, 7, 7]

    # recovery

    def test_recovery_takes_back_what_a_dead_coordinator_left(self, store, table):
        sweep = planned()
        table.queue.enqueue(sweep)
        ids = [run.run_id for run in sweep.runs]
        table.close()
        claim_in_another_process(store, ids[:3])
        with Table(store, writable=True) as after:
            assert after.queue.recover() == 3
            assert states(after) == ["queued"] * 4
            assert after.queue.recover() == 0
            assert after.frame("attempts")["outcome"].tolist() == ["lost"] * 3

    def test_recovery_leaves_another_host_its_runs_until_the_lease_ends(self, table, claimed):
        _, tokens = claimed
        with table.engine.begin() as connection:
            connection.execute(attempts.update().values(coordinator="elsewhere/b/1/2"))
        assert table.queue.recover() == 0
        table.queue.renew(tokens)
        assert (table.frame("attempts")["lease"] > time.time() + LEASE / 2).all()
        with table.engine.begin() as connection:
            connection.execute(attempts.update().values(lease=time.time() - 1))
        assert table.queue.recover() == 4

    # reading

    def test_results_are_one_row_a_run_with_plain_columns(self, store, table, claimed):
        sweep, tokens = claimed
        table.queue.finish([made_result(run) for run in sweep.runs[:3]], tokens)
        frame = orchestrator.results(store)
        assert frame["run_id"].tolist() == [run.run_id for run in sweep.runs]
        assert frame["sweep"].unique().tolist() == ["small"]
        for name in ("width", "depth", "seed", "batch_size", "dataset_size", "params", "planned_flops", "attempt"):
            assert pd.api.types.is_integer_dtype(frame[name]), name
        for name in ("lr", "weight_decay", "error", "loss", "train_loss", "seconds", "epochs"):
            assert pd.api.types.is_float_dtype(frame[name]), name
        assert "spec" not in frame
        done = frame[frame["state"] == "done"]
        assert (done["flops"] == done["planned_flops"]).all()
        assert (done["epochs"] == done["examples"] / done["dataset_size"]).all()
        assert frame["params"].tolist() == [made_result(run).params for run in sweep.runs]
        assert frame[frame["state"] == "running"]["error"].isna().all()

    def test_history_is_one_row_a_record_in_order(self, store, table, claimed):
        sweep, tokens = claimed
        results = [made_result(run) for run in sweep.runs]
        table.queue.record([record for result in results for record in result.history[:1]], tokens)
        table.queue.finish(results, tokens)
        frame = orchestrator.history(store, "small")
        wanted = [(r.run_id, r.step, r.flops, r.error) for result in results for r in result.history]
        assert list(frame[["run_id", "step", "flops", "error"]].itertuples(index=False, name=None)) == wanted

    def test_a_sweep_is_summed_up(self, table, claimed):
        sweep, tokens = claimed
        table.queue.finish([made_result(run, error=0.5 - i / 10) for i, run in enumerate(sweep.runs[:2])], tokens)
        table.queue.finish([made_result(sweep.runs[2], "diverged", float("nan"))], tokens)
        (row,) = table.sweeps()
        counted = {name: row[name] for name in ("runs", "queued", "running", "done", "failed", "diverged")}
        assert counted == {"runs": 4, "queued": 0, "running": 1, "done": 2, "failed": 0, "diverged": 1}
        assert row["planned_flops"] == sweep.flops
        assert row["best_error"] == pytest.approx(0.4)

    def test_the_password_of_a_data_url_is_for_workers_alone(self, table):
        sweep = planned()
        url = "sftp://me:s3cret@host/x.npz"
        table.queue.enqueue(replace(sweep, runs=tuple(replace(run, path=url) for run in sweep.runs)))
        assert {run.path for run in table.queued("small")} == {url}
        assert set(table.frame()["path"]) == {"sftp://me:***@host/x.npz"}
        row = table.shown(sweep.runs[0].run_id)
        assert (row["path"], row["start"]) == ("sftp://me:***@host/x.npz", None)

    def test_what_was_measured_is_kept_with_the_table(self, store, table):
        assert (table.speed, table.devices) == (None, {})
        table.speed, table.devices = {"device": "cpu", "layer": 1e-4}, {"per_gpu": 4}
        with Table(store) as reader:
            assert (reader.speed, reader.devices) == ({"device": "cpu", "layer": 1e-4}, {"per_gpu": 4})

    # trials

    def test_trials_come_back_by_cell_and_number(self, table):
        runs = planned(width="[16, 32, 48]", seeds="2").runs
        trials = [Trial("b", 0, list(runs[:2])), Trial("a", 1, list(runs[2:4])), Trial("a", 0, list(runs[4:]))]
        table.trials.declare(replace(planned(), runs=()))
        table.trials.propose("small", trials)
        assert table.trials.of("small") == sorted(trials, key=lambda trial: trial[:2])
        assert table.trials.of("small", "b") == trials[:1]
        assert {run.state for run in table.trials.run_states([run.run_id for run in runs]).values()} == {"queued"}

    def test_a_trial_that_was_trained_already_is_not_queued_again(self, table, claimed):
        sweep, tokens = claimed
        table.queue.finish([made_result(run) for run in sweep.runs], tokens)
        table.trials.declare(replace(planned(), sweep="search", runs=()))
        table.trials.propose("search", [Trial("a", 0, list(sweep.runs[:1]))])
        assert table.counts() == {"done": 4}
        curve = table.trials.curves([sweep.runs[0].run_id], "val_loss")[sweep.runs[0].run_id]
        assert curve == {record.step: record.loss for record in made_result(sweep.runs[0]).history}

    # opening

    def test_a_second_writer_shares_the_table_or_is_told_who_holds_it(self, store, table):
        table.queue.enqueue(planned())
        if table.shared:
            with Table(store, writable=True) as other:
                assert len(other.queue.claim([run.run_id for run in planned().runs])) == 4
            return
        with pytest.raises(TableError, match=rf"is in use by another isoflop \(pid {os.getpid()}\)"):
            Table(store, writable=True)

    @pytest.mark.parametrize("writable", [True, False])
    def test_another_schema_version_is_refused(self, store, table, writable):
        with table.engine.begin() as connection:
            connection.execute(meta.update().values(version=99))
        table.close()
        with pytest.raises(TableError, match=r"has schema version 99, this isoflop reads \d+$"):
            Table(store, writable=writable)

    def test_a_reader_cannot_write(self, store, table):
        table.queue.enqueue(planned())
        with Table(store) as reader, pytest.raises(Exception, match=r"read-?only"):
            reader.queue.enqueue(planned(width="48"))
        assert table.counts() == {"queued": 4}
