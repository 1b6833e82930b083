"""What the coordinator does when things go wrong, and when another terminal asks for something."""

import errno
import math
import os
import signal
import sqlite3
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.scheduling.failures import is_lost, signature
from orchestrator.scheduling.smoke_test import FEWEST, SHARE, STEPS, smoke_test_of
from orchestrator.store.requests import Request, inbox_of
from orchestrator.sweep.planner import run_flops
from orchestrator.workers.executor import Failed, Finished, Left, Lost, Recorded
from tests.orchestrator.fakes import Saved
from trainer.host.urls import RemoteError


def states(table):
    return dict(Counter(table.frame()["state"]))


# the same of several runs


def test_a_sweep_whose_runs_raise_the_same_is_paused_and_says_so(begin, table):
    seen = []
    scheduler, executor, made = begin(
        lambda specs: "raise",
        slots=1,
        width="[16, 32, 48, 64]",
        lr="[1e-3, 2e-3]",
        on_progress=lambda p: seen.append(p.message),
    )
    end = scheduler.drain()
    assert states(table)["failed"] == 3
    assert states(table)["queued"] == len(made.runs) - 3
    (row,) = table.sweeps()
    assert row["paused"] == "3 runs failed with the same error: ValueError: no such data"
    assert any("small is paused: 3 runs failed with the same error" in text for text in seen)
    assert end.failed == 3
    assert len(executor.submitted) < len(made.runs)


def test_three_runs_that_raise_different_things_pause_nothing(begin, table):
    scheduler, executor, _ = begin(lambda specs: "raise", slots=1, width="16", seeds=5)
    number = iter(range(100))
    executor.events = lambda stack, specs, fate: [
        Failed(stack, "ValueError: x", f'Traceback\n  File "loop.py", line {next(number)}, in f\nValueError: x')
    ]
    scheduler.drain()
    assert states(table) == {"failed": 5}
    assert table.sweeps()[0]["paused"] is None


def test_tracebacks_are_alike_by_their_places_and_class_and_not_by_what_they_say():
    def said(line, message):
        return f'Traceback (most recent call last):\n  File "loop.py", line {line}, in f\n    x()\n{message}'

    assert signature(said(3, "KeyError: 'a'")) == signature(said(3, "KeyError: 'b'"))
    assert signature(said(3, "KeyError: 'a'")) != signature(said(4, "KeyError: 'a'"))
    assert signature(said(3, "KeyError: 'a'")) != signature(said(3, "ValueError: 'a'"))
    assert signature("") == ("",)


# a loss above chance

CHANCE = math.log(10)


@pytest.mark.parametrize(
    ("losses", "lost"),
    [
        ([2.4, 3.0, 5.0, 9.0], True),  # it blew up
        ([2.4, 2.4, 2.4, 2.4], False),  # at chance, no worse than it began
        ([2.8, 2.7, 2.6, 2.5], False),  # slow, but falling
        ([2.4, 9.0, 9.0, 1.5], False),  # it came back
        ([2.0, 9.0, 9.0, 9.0], True),
        ([1.0, 2.0, 2.0, 2.0], False),  # worse than it was, and better than chance
        ([9.0, 9.1, 9.2], False),  # too early to tell
    ],
)
def test_a_run_is_lost_where_its_loss_stays_above_chance_and_above_what_it_began_with(losses, lost):
    records = [(25 * (i + 1), loss) for i, loss in enumerate(losses)]
    assert is_lost(records, 100, 10) is lost
    assert not is_lost(records, 100_000, 10)  # of a long run it is only the beginning


def test_a_run_whose_loss_stays_above_chance_leaves_its_stack_and_is_a_datum(begin, table, result_of):
    scheduler, executor, made = begin(
        lambda specs: "hang" if not executor.leaving else "done", slots=1, width="16", seeds=2, epochs="60"
    )
    bad = made.runs[0]
    history = [
        replace(result_of(bad).history[0], step=20 * (i + 1), train_loss=5.0 + i, flops=i + 1) for i in range(4)
    ]
    told = []

    def events(stack, specs, fate):
        end = Finished(
            stack, [result_of(s, "cancelled" if s.run_id in executor.leaving else "done") for s in specs]
        )
        return [end]

    def poll(timeout, usual=executor.poll):
        if not told:
            told.append(1)
            return [Recorded(0, record) for record in history]
        return usual(timeout)

    executor.events, executor.poll = events, poll
    end = scheduler.drain()
    assert executor.leaving == {bad.run_id}
    frame = table.frame().set_index("run_id")
    assert frame.loc[bad.run_id, "state"] == "diverged"
    assert frame.loc[bad.run_id, "reason"] == "its loss stayed above chance"
    assert frame.loc[bad.run_id, "train_loss"] == 1.0  # its last metrics are kept
    assert (end.done, end.diverged, end.failed) == (1, 1, 0)
    assert sum(map(len, executor.submitted)) == 2  # it is not tried again


# a table that cannot be written for now


@pytest.fixture
def pragma(table):
    """Says a PRAGMA to the table's connection."""

    def say(text):
        with table.engine.connect() as connection:
            return connection.connection.driver_connection.execute(f"PRAGMA {text}").fetchone()[0]

    return say


def test_a_table_that_somebody_locks_is_waited_for_and_nothing_is_lost(begin, table, clock, pragma):
    pragma("busy_timeout = 10")  # instead of half a minute
    said = []
    scheduler, executor, _ = begin(on_progress=lambda p: said.append(p.message))
    other = sqlite3.connect(table.store, isolation_level=None)
    locked = iter([True])

    def poll():
        if next(locked, None):
            other.execute("BEGIN IMMEDIATE")

    def sleep():
        if other.in_transaction:
            other.execute("ROLLBACK")

    executor.on_poll, clock.on_sleep = poll, sleep
    scheduler.drain()
    other.close()
    assert states(table) == {"done": 4}
    assert "the table is locked by another program: waiting, nothing is lost" in said
    assert "the table can be written again" in said


def test_checkpoints_that_cannot_be_listed_for_now_are_waited_for(begin, table, monkeypatch):
    said, fails, listed = [], iter([True, True]), Saved.begun

    def begun(files):
        if next(fails, None):
            raise RemoteError("ftp://there/ck: Connection refused")
        return listed(files)

    monkeypatch.setattr(Saved, "begun", begun)
    begin(on_progress=lambda p: said.append(p.message))[0].drain()
    assert states(table) == {"done": 4}
    assert said.count("ftp://there/ck: Connection refused: waiting, nothing is lost") == 2
    assert "it answers again" in said


@pytest.mark.parametrize("where", ["table", "answer"])
def test_a_request_that_cannot_be_obeyed_for_now_is_obeyed_in_the_end(
    begin, table, clock, pragma, monkeypatch, where
):
    """The table is locked, or the disk too full for the answer: the request stays, and so does the coordinator."""
    pragma("busy_timeout = 10")
    inbox, said, tries = inbox_of(table.store), [], iter([True])
    scheduler, executor, made = begin(on_progress=lambda p: said.append(p.message), inbox=inbox)
    other = sqlite3.connect(table.store, isolation_level=None)

    def full(path, target, usual=Path.replace):
        if target.suffix == ".answer" and where == "answer" and next(tries, None):
            raise OSError(errno.ENOSPC, "No space left on device")
        return usual(path, target)

    def poll():
        if not answers:
            answers.append(inbox.ask(Request("cancel", (made.runs[-1].run_id,))))
            if where == "table":
                other.execute("BEGIN IMMEDIATE")

    def sleep():
        if other.in_transaction:
            other.execute("ROLLBACK")

    answers = []
    monkeypatch.setattr(Path, "replace", full)
    executor.on_poll, clock.on_sleep = poll, sleep
    scheduler.drain()
    other.close()
    assert any("waiting, nothing is lost" in line for line in said)
    assert "now cancelled" in answers[0].read_text()
    assert states(table) == {"done": 3, "cancelled": 1}


def test_a_full_disk_is_waited_for_and_nothing_is_lost(begin, table, clock, pragma):
    """SQLite itself says so where a file may grow no further."""
    said = []
    scheduler, executor, made = begin(on_progress=lambda p: said.append(p.message), width="[16, 32]", seeds=2)

    full = pragma("page_count")
    pragma(f"max_page_count = {full}")

    def sleep():
        pragma("max_page_count = 1000000")

    executor.result_of = lambda *a, usual=executor.result_of: replace(r := usual(*a), history=grown(r))

    def grown(result):
        return tuple(replace(result.history[0], step=i + 1) for i in range(2000))

    clock.on_sleep = sleep
    scheduler.drain()
    assert "the disk is full: waiting, nothing is lost" in said
    assert states(table) == {"done": 4}
    assert len(table.frame("history")) == 2000 * len(made.runs)


def test_another_error_of_the_database_is_not_waited_for(begin, table):
    scheduler, executor, _ = begin(lambda specs: "hang")

    def drop():
        with sqlite3.connect(table.store) as other:
            other.execute("DROP TABLE history")

    executor.on_poll = drop
    executor.fate = lambda specs: "done"
    with pytest.raises(Exception, match="no such table"):
        scheduler.drain()


# what other terminals ask


@pytest.fixture
def live(begin, table):
    """A coordinator that obeys: it asks as its executor is polled for the nth time."""

    def begun(asks, fate=lambda specs: "done", **said):
        inbox = inbox_of(table.store)
        scheduler, executor, made = begin(fate, inbox=inbox, **said)
        polls = []

        def poll():
            polls.append(1)
            for request in asks.get(len(polls), ()):
                inbox.ask(request(made) if callable(request) else request)

        executor.on_poll = poll
        return scheduler, executor, made

    return begun


def test_what_is_cancelled_in_training_leaves_and_the_rest_of_its_stack_goes_on(live, table):
    scheduler, executor, made = live(
        {1: [lambda made: Request("cancel", (made.runs[0].run_id,))]},
        lambda specs: "done" if executor.leaving else "hang",
        slots=1,
        width="16",
        seeds=3,
    )
    end = scheduler.drain()
    assert executor.leaving == {made.runs[0].run_id}
    assert states(table) == {"done": 2, "cancelled": 1}
    assert (end.done, end.cancelled, end.ended) == (2, 1, 3)
    attempts = table.frame("attempts").set_index("run_id")
    assert attempts.loc[made.runs[0].run_id, "outcome"] == "cancelled"


def test_what_has_left_its_stack_has_ended_whatever_becomes_of_the_others(begin, table, result_of):
    """A run diverges and one is cancelled while two train on; then their worker dies."""
    inbox, files, seen = inbox_of(table.store), Saved(), []
    scheduler, executor, made = begin(
        lambda specs: "done" if len(specs) == 1 else "hang",
        slots=1,
        width="16",
        seeds=4,
        inbox=inbox,
        files=files,
    )
    bad, unwanted, *others = made.runs

    def poll(timeout, usual=executor.poll):
        seen.append(states(table))
        if len(seen) == 1:
            inbox.ask(Request("cancel", (unwanted.run_id,)))
            return []
        if len(seen) == 2:
            return [Left(0, result_of(bad, "diverged")), Left(0, result_of(unwanted, "cancelled"))]
        if len(seen) == 3:
            executor.running.clear()
            return [Lost(0, "its worker died")]
        return usual(timeout)

    executor.poll = poll
    end = scheduler.drain()
    assert seen[2] == {"diverged": 1, "cancelled": 1, "running": 2}
    assert states(table) == {"diverged": 1, "cancelled": 1, "done": 2}
    assert (end.done, end.diverged, end.cancelled) == (2, 1, 1)
    assert executor.submitted[1:] == [[run.run_id] for run in others]
    assert files.dropped == [bad.run_id]
    attempts = table.frame("attempts")
    assert Counter(attempts["outcome"]) == {"diverged": 1, "cancelled": 1, "lost": 2, "done": 2}


def test_a_run_that_is_to_leave_when_its_worker_dies_is_cancelled(live, table):
    ask = {1: [Request("cancel", ("small",))]}
    scheduler, executor, _ = live(ask, lambda specs: "die" if executor.leaving else "hang", slots=1, width="16")
    executor.ends = executor.fate
    scheduler.drain()
    assert states(table) == {"cancelled": 2}
    assert len(executor.submitted) == 1


def test_a_sweep_that_is_added_is_trained_by_the_coordinator_that_is_there(live, table, planned):
    from orchestrator.store.requests import add

    other = planned(sweep="other", width="[48, 64]")
    scheduler, _, made = live({1: [add(other)]})
    end = scheduler.drain()
    assert states(table) == {"done": len(made.runs) + len(other.runs)}
    assert end.runs == end.done == 8


def test_a_paused_sweep_starts_nothing_more_until_it_is_resumed(live, table, clock):
    scheduler, _, _ = live({1: [Request("pause")]}, slots=1, width="[16, 24, 40]", seeds=1)
    slept = []

    def sleep():
        slept.append(states(table))
        if len(slept) == 3:
            inbox_of(table.store).ask(Request("resume"))

    clock.on_sleep = sleep
    scheduler.drain()
    assert slept[:3] == [{"done": 1, "queued": 2}] * 3  # what was in training came to its end
    assert states(table) == {"done": 3}


def test_priority_that_is_given_in_the_middle_counts_from_then_on(live, table):
    ask = {1: [lambda made: Request("prioritise", (made.runs[-1].run_id,), 1)]}
    scheduler, executor, made = live(ask, slots=1, width="[16, 24, 40, 56]", seeds=1, epochs="[4]")
    scheduler.drain()
    order = [stack[0] for stack in executor.submitted]
    assert order.index(made.runs[-1].run_id) == 1


# the smoke test

LONG = {"epochs": "200", "width": "[16, 32]", "seeds": "4"}


def test_a_smoke_test_is_short_cheap_and_of_the_smallest_cell(planned):
    runs = planned(**LONG, lr="[1e-4, 1e-3]").runs
    smoke_test = smoke_test_of(runs)
    assert {run.width for run in smoke_test} == {16}
    assert {run.lr for run in smoke_test} == {1e-4, 1e-3}
    assert {run.seed for run in smoke_test} == {0}
    assert all(run.steps is not None and FEWEST <= run.steps <= STEPS for run in smoke_test)
    assert sum(map(run_flops, smoke_test)) <= SHARE * sum(map(run_flops, runs))
    assert not {run.run_id for run in smoke_test} & {run.run_id for run in runs}


def test_a_sweep_of_which_a_hundredth_is_next_to_nothing_has_no_smoke_test(planned):
    assert smoke_test_of(planned().runs) == []
    assert smoke_test_of([]) == []


@pytest.mark.parametrize(
    ("loss", "error", "passes"), [(5.0, 0.9, False), (2.29, 0.9, False), (2.2, 0.9, True), (5.0, 0.7, True)]
)
def test_a_sweep_begins_where_its_smoke_test_beats_chance(begin, table, result_of, loss, error, passes):
    scheduler, executor, made = begin(smoke_test=True, **LONG)
    usual, ids = executor.result_of, {run.run_id for run in made.runs}

    def results(spec, state, own):
        made = usual(spec, state, own)
        if spec.run_id in ids:
            return made
        return replace(made, history=tuple(replace(r, loss=loss, error=error) for r in made.history))

    executor.result_of = results
    end = scheduler.drain()
    assert set(executor.submitted[0]).isdisjoint(ids)
    (row,) = table.sweeps()
    if passes:
        assert states(table) == {"done": 8}
        assert row["paused"] is None
        assert end.done == end.runs == 8
    else:
        assert states(table) == {"queued": 8}
        assert row["paused"].startswith("the smoke test (1 recipe of the smallest cell, ")
        assert "--no-canary skips this test" in row["paused"]
        assert len(executor.submitted) == 1
        again, executor, _ = begin(**LONG)
        table.queue.tell("small", paused=None)
        again.drain()
        assert states(table) == {"done": 8}
    assert table.sweeps()[0]["charged_flops"] == made.flops  # the smoke test is not charged


def test_a_smoke_test_waits_for_the_first_worker_to_be_ready(begin, table, clock):
    """A worker is found ready as the executor is polled."""
    scheduler, executor, _ = begin(smoke_test=True, **LONG)
    polls, slots = [], executor.slots
    executor.slots = 0
    executor.on_poll = lambda: polls.append(1) or setattr(executor, "slots", slots if len(polls) > 2 else 0)
    clock.on_sleep = lambda: pytest.fail("it slept, and nobody looked for workers")
    scheduler.drain()
    assert states(table) == {"done": 8}


def test_a_smoke_test_that_raises_pauses_its_sweep_and_one_whose_worker_dies_is_sent_again(begin, table):
    scheduler, executor, _ = begin(smoke_test=True, **LONG)
    deaths = iter([True])
    usual = executor.events
    executor.events = lambda stack, specs, fate: (
        [Lost(stack, "it died")] if next(deaths, None) else usual(stack, specs, "raise")
    )
    scheduler.drain()
    assert len(executor.submitted) == 2
    assert table.sweeps()[0]["paused"].startswith("the smoke test failed: ValueError: no such data")
    assert states(table) == {"queued": 8}


def test_a_sweep_that_has_trained_before_needs_no_smoke_test(begin, table, result_of):
    scheduler, executor, made = begin(smoke_test=True, **LONG)
    table.queue.finish([result_of(made.runs[0])], table.queue.claim([made.runs[0].run_id]))
    scheduler.drain()
    assert {run_id for stack in executor.submitted for run_id in stack} == {run.run_id for run in made.runs[1:]}


def test_an_interrupt_while_the_smoke_test_trains_leaves_everything_queued(begin, table):
    scheduler, executor, _ = begin(lambda specs: "hang", smoke_test=True, **LONG)
    sent = []
    executor.on_poll = lambda: sent or (sent.append(1), os.kill(os.getpid(), signal.SIGINT))
    scheduler.drain()
    assert scheduler.interrupted
    assert states(table) == {"queued": 8}
    assert table.sweeps()[0]["paused"] is None
