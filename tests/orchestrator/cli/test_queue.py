"""`isoflop queue`, `work`, `status` and `watch` as a user types them, in this process, without Ray."""

import json
import threading

import numpy as np
import pytest

import orchestrator
from orchestrator.cli import watch
from orchestrator.store.engine import is_held
from orchestrator.store.table import Table
from tests.polling import until


@pytest.fixture
def queue(isoflop, sweep):
    """A queue of one small sweep that nobody works on."""
    file = sweep(width="[16, 32]", seeds="2")
    assert isoflop("queue", "add", file).out == "small: 4 runs, 4 new\n"
    return file


def ids(isoflop, *options):
    return [row["run_id"] for row in json.loads(isoflop("queue", "list", "--json", *options).out)]


def test_the_queue_is_listed_and_a_run_is_shown(isoflop, queue):
    header, *lines = isoflop("queue", "list").out.splitlines()
    assert header.split() == ["run_id", "model", "seed", "state"]
    assert len(lines) == 4
    assert isoflop("queue", "list", "--state", "done").out == "no runs\n"
    assert isoflop("queue", "list", "small").out.splitlines()[0] == header
    assert isoflop("queue", "list", "--state", "ready").code == 2
    first = ids(isoflop)[0]
    assert isoflop("show", first[:8]).out.splitlines()[0].split() == ["run", first]
    assert json.loads(isoflop("queue", "show", first, "--json").out)["attempts"] == []
    gone = isoflop("queue", "show", "gone")
    assert (gone.code, gone.err) == (2, "no run 'gone' in isoflop.db; `isoflop results` lists them\n")


def test_what_is_cancelled_is_not_trained_until_it_is_asked_again(isoflop, queue):
    first = ids(isoflop)[0]
    assert isoflop("queue", "cancel", first[:8]).out == "1 of 1 run now cancelled\n"
    ended = isoflop("work", "--executor", "inline")
    assert ended.code == 0
    assert ids(isoflop) == ids(isoflop, "--state", "cancelled") == [first]
    assert isoflop("run", queue, "--executor", "inline").err == "small: 0 of 4 runs to do\n"
    isoflop("queue", "retry", "small")
    assert isoflop("work", "--executor", "inline").code == 0
    assert ids(isoflop) == []


def test_a_higher_priority_is_trained_first(isoflop, queue):
    last = ids(isoflop)[-1]
    isoflop("queue", "prioritise", last)
    isoflop("work", "--executor", "inline")
    with Table("isoflop.db") as table:
        started = table.frame("attempts").sort_values("started", kind="stable")
    assert started["run_id"].iloc[0] == last


def test_work_drains_every_sweep_and_says_where_they_stand(isoflop, queue, sweep):
    isoflop("queue", "add", sweep("other.yaml", sweep="other", width="48"))
    ended = isoflop("work", "other", "--executor", "inline")
    assert ended.code == 0
    rows = {row["sweep"]: row for row in json.loads(isoflop("status", "--json").out)}
    assert (rows["other"]["done"], rows["small"]["done"]) == (2, 0)
    ended = isoflop("work", "--executor", "inline")
    assert [line.split()[0] for line in ended.out.splitlines()] == ["sweep", "small", "other"]
    assert isoflop("work", "gone").err == "no sweep 'gone' in isoflop.db; it holds small, other\n"


def test_status_says_what_would_unblock_what_is_blocked(isoflop, sweep):
    more = "limits: {total_flops: 1e7}"
    ended = isoflop("run", sweep(width="[16, 32]", seeds="2", more=more), "--executor", "inline")
    assert ended.code == 0
    assert "2 runs of small are blocked: raise limits.total_flops to " in ended.err
    (row,) = json.loads(isoflop("status", "--json").out)
    assert row["blocked"] > 0
    assert row["charged_flops"] <= 1e7
    said = isoflop("status").err
    assert said.startswith(f"{row['blocked']} runs of small are blocked: raise limits.total_flops to ")
    enough = said.split("total_flops to ")[1].split()[0]
    more = f"limits: {{total_flops: {float(enough) * 1.01!r}}}"
    isoflop("run", sweep(width="[16, 32]", seeds="2", more=more), "--executor", "inline")
    (row,) = json.loads(isoflop("status", "--json").out)
    assert (row["done"], row["blocked"]) == (4, 0)


def test_a_paused_sweep_is_said_and_run_goes_on_with_it(isoflop, queue):
    isoflop("queue", "pause", "small")
    assert isoflop("status").err == "small is paused: by hand; `isoflop queue resume small` resumes it\n"
    assert isoflop("run", queue, "--executor", "inline").code == 0
    assert isoflop("status").err == ""


def test_run_looks_on_where_another_isoflop_works_and_takes_over_when_it_ends(isoflop, queue, sweep, result_of):
    """A coordinator that obeys one request, trains one run, and dies with the lock."""
    from orchestrator.store.requests import inbox_of

    held, done = threading.Event(), threading.Event()

    def coordinator():
        with Table("isoflop.db", writable=True) as table:
            held.set()
            inbox = inbox_of("isoflop.db")
            until(lambda: inbox.pending(table))
            inbox.obey(table)
            run = table.queued("wider")[-1]
            table.queue.finish([result_of(run)], table.queue.claim([run.run_id]))
        done.set()

    threading.Thread(target=coordinator).start()
    held.wait()
    assert is_held("isoflop.db")
    ended = isoflop("run", sweep("wider.yaml", sweep="wider", width="[32, 48]"), "--executor", "inline")
    assert done.is_set()
    assert ended.code == 0
    assert "wider: 4 runs, 2 new; another process trains them, this one follows" in ended.err
    assert "wider: 3 of 4 runs to do" in ended.err
    assert ended.out.startswith("wider: 4 done")


def test_the_live_view_shows_sweeps_what_trains_and_what_holds_it_up(isoflop, queue, result_of):
    with Table("isoflop.db", writable=True) as table:
        runs = table.queued("small")
        tokens = table.queue.claim([run.run_id for run in runs[:2]])
        table.queue.record(result_of(runs[0]).history[:1], tokens)
        table.queue.release({runs[1].run_id: tokens[runs[1].run_id]}, "lost", "its worker died")
        table.queue.tell("small", paused="by hand", seconds_left=90.0)
        said = watch.screen(*watch.look(table))
    lines = said.splitlines()
    assert lines[0].startswith("small  ...")
    assert "1 min 30 s left" in lines[0]
    assert lines[1] == "  3 queued, 1 running"
    assert lines[2] == "  paused: by hand"
    assert lines[-1].split()[0] == runs[0].run_id[:8]
    printed = isoflop("watch").out
    assert printed.startswith("no process trains this table; `isoflop work` starts one; 1 run of a process")


def test_rows_fit_the_terminal_and_columns_can_be_chosen(isoflop, sweep, monkeypatch):
    isoflop("queue", "add", sweep(width="[16, 32]", lr="[1e-3, 3e-3]", epochs="[1, 2]", seeds="2"))
    isoflop("work", "--executor", "inline")
    monkeypatch.setenv("COLUMNS", "80")
    header = isoflop("results").out.splitlines()[0].split()
    assert header[:5] == ["run_id", "model", "lr", "epochs", "seed"]
    monkeypatch.setenv("COLUMNS", "40")
    narrow = isoflop("results")
    assert all(len(line) <= 40 for line in narrow.out.splitlines())
    assert "error" in narrow.out.splitlines()[0].split()
    assert "no room for " in narrow.err
    monkeypatch.setenv("COLUMNS", "50")
    assert isoflop("results", "--columns", "loss,lr").out.splitlines()[0].split() == ["loss", "lr"]
    assert isoflop("results", "--columns", "los").code == 2
    assert isoflop("results", "--columns", "width", "--format", "csv").out.splitlines()[0] == "width"
    for verb in (["status"], ["queue", "list", "--state", "done"]):
        assert all(len(line) <= 50 for line in isoflop(*verb).out.splitlines())


def test_the_best_and_means_over_seeds(isoflop, queue):
    isoflop("work", "--executor", "inline")
    errors = sorted(row["error"] for row in json.loads(isoflop("results", "--format", "json").out))
    best = json.loads(isoflop("results", "--best", "3", "--format", "json").out)
    assert [row["error"] for row in best] == errors[:3]
    assert len(json.loads(isoflop("results", "--best", "--format", "json").out)) == 4
    assert json.loads(isoflop("results", "--sort", "-error", "--format", "json").out)[0]["error"] == errors[-1]
    groups = json.loads(isoflop("results", "--group-by", "model", "--best", "1", "--format", "json").out)
    assert [row["n"] for row in groups] == [2]
    assert isoflop("results", "--history", "--best").code == 2
    assert isoflop("results", "--best", "0").code == 2


def test_a_run_is_shown_with_its_result_attempts_and_curve(isoflop, queue, monkeypatch):
    isoflop("work", "--executor", "inline")
    (run, *_) = ids(isoflop, "--state", "done")
    monkeypatch.setenv("COLUMNS", "80")
    lines = isoflop("show", run[:6]).out.splitlines()
    assert all(len(line) <= 80 for line in lines)
    words = [line.split()[0] for line in lines if line.strip()]
    assert words[:3] == ["run", "state", "sweeps"]
    assert {"result", "cost", "attempt"} <= set(words)
    assert any("against examples, log axes" in line for line in lines)
    details = orchestrator.show(run)
    assert details.row["state"] == "done"
    assert [one["outcome"] for one in details.attempts] == ["done"]
    assert details.records[-1]["step"] == details.row["steps"]


def test_what_differs_between_two_runs_and_between_two_sweeps(isoflop, queue, sweep):
    isoflop("queue", "add", sweep("other.yaml", sweep="other", width="[16, 32]", seeds="2", lr="3e-3"))
    isoflop("queue", "add", sweep("more.yaml", sweep="more", width="[16, 32]", seeds="3"))
    isoflop("work", "--executor", "inline")
    frame = orchestrator.results(sweep="small")
    a, b = frame["run_id"].iloc[:2]
    runs = orchestrator.diff(a[:8], b[:8])
    assert runs.settings == {"seed": ("0", "1")}
    assert runs.results["error"] == tuple(frame["error"].iloc[:2])
    sweeps = json.loads(isoflop("diff", "small", "other.yaml", "--json").out)
    assert sweeps["settings"] == {"lr": ["0.001", "0.003"]}
    assert sweeps["results"]["runs"] == [4, 4]
    shared, pairs = sweeps["notes"]
    assert shared == "0 runs in both, 4 only in A, 4 only in B"
    assert pairs.endswith("in 4 pairs of runs that differ only in lr")
    other = orchestrator.results(sweep="other")
    ratio = np.exp(np.mean(np.log(other["error"].to_numpy() / frame["error"].to_numpy())))
    assert f"geometric mean {ratio:.3g}, " in pairs
    assert orchestrator.diff("small", "more").notes == ("4 runs in both, 0 only in A, 2 only in B",)
    assert isoflop("diff", "small", a).err == f"small is a sweep, {a} is none; name two sweeps or two runs\n"
    assert isoflop("diff", "small", "small").out.splitlines()[3] == "no setting differs"
