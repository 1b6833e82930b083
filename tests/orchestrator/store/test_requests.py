"""What other terminals ask of a queue: obeyed once, by whoever holds the table, whoever dies when."""

import contextlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from orchestrator.store.engine import TableBusyError, TableError
from orchestrator.store.requests import BY_HAND, Inbox, Request, add, ask, inbox_of, obey
from orchestrator.store.table import Table


@pytest.fixture
def store(tmp_path):
    return str(tmp_path / "t.db")


@pytest.fixture
def table(store):
    with Table(store, writable=True) as made:
        yield made


def state_of(table, run):
    return table.standing()[run.run_id].state


def test_a_plan_goes_through_a_request_unchanged(table, planned):
    made = planned(more="limits: {total_flops: 1e12, hours: 2}")
    done = obey(table, add(made))
    assert (done.said, done.sweeps) == ("small: 4 runs, 4 new", ("small",))
    assert table.queued("small") == list(made.runs)
    assert table.limits("small") == made.limits
    assert obey(table, add(made)).said == "small: 4 runs, 0 new"


def test_runs_are_named_by_their_sweep_or_by_the_beginning_of_their_id(table, planned):
    made = planned()
    table.queue.enqueue(made)
    one = made.runs[1]
    assert obey(table, Request("cancel", (one.run_id[:8],))).said == "1 of 1 run now cancelled"
    assert state_of(table, one) == "cancelled"
    assert obey(table, Request("retry", ("small",))).said == "1 of 4 runs now queued"
    obey(table, Request("prioritise", (one.run_id, made.runs[2].run_id), 3))
    assert [row["priority"] for row in table.listed("small", ["queued"])] == [0, 3, 3, 0]


@pytest.mark.parametrize(
    ("verb", "wanted"),
    [("cancel", ()), ("retry", ("small",)), ("pause", ()), ("resume", ("small",)), ("prioritise", ())],
)
def test_only_what_asks_for_training_has_a_coordinator_take_a_sweep_on(table, planned, verb, wanted):
    table.queue.enqueue(planned())
    done = obey(table, Request(verb, ("small",)))
    assert (done.sweeps, done.wanted) == (("small",), wanted)
    assert obey(table, add(planned())).wanted == ("small",)


@pytest.mark.parametrize(
    ("request_", "complaint"),
    [
        (Request("cancel", ("smal",)), "no sweep and no run 'smal' in "),
        (Request("cancel", ("abc",)), "no sweep and no run 'abc' in "),
        (Request("retry", ("%",)), "no sweep and no run '%' in "),
        (Request("pause", ("other",)), "no sweep 'other' in .*; it holds small"),
    ],
)
def test_what_is_not_there_is_said(table, planned, request_, complaint):
    table.queue.enqueue(planned())
    with pytest.raises(TableError, match=complaint):
        obey(table, request_)


def test_a_run_in_training_is_left_to_the_coordinator(table, planned):
    made = planned()
    table.queue.enqueue(made)
    table.queue.claim([made.runs[0].run_id])
    assert table.leaving() == []
    done = obey(table, Request("cancel", ("small",)))
    assert done.said == "3 of 4 runs now cancelled; 1 in training will stop"
    assert table.leaving() == [made.runs[0].run_id]
    assert state_of(table, made.runs[0]) == "running"


def test_what_is_asked_of_a_run_outlives_its_coordinator_and_is_of_that_attempt_alone(store, planned):
    (run,) = (made := planned(width="16", seeds="1")).runs
    with Table(store, writable=True) as table:
        table.queue.enqueue(made)
        table.queue.claim([run.run_id])
        obey(table, Request("cancel", ("small",)))  # and here it is killed
    with Table(store, writable=True) as table:
        assert table.queue.recover() == 1
        assert table.shown(run.run_id)["state"] == "cancelled"
        obey(table, Request("retry", ("small",)))
        assert table.queue.claim([run.run_id]) == {run.run_id: 2}
        assert table.leaving() == []
        table.queue.release({run.run_id: 2}, "lost", "its worker died")
        assert table.counts() == {"queued": 1}


def test_a_run_that_ends_before_it_leaves_is_done(table, planned, result_of):
    (run,) = (made := planned(width="16", seeds="1")).runs
    table.queue.enqueue(made)
    tokens = table.queue.claim([run.run_id])
    obey(table, Request("cancel", ("small",)))
    table.queue.finish([result_of(run)], tokens)
    assert (table.counts(), table.leaving()) == ({"done": 1}, [])


def test_where_nobody_works_on_the_table_the_command_acts_itself(store, planned):
    assert ask(store, add(planned())) == "small: 4 runs, 4 new"
    assert ask(store, Request("pause")) == "paused: small"
    with Table(store) as table:
        assert table.sweeps()[0]["paused"] == BY_HAND
    with pytest.raises(TableError, match="no sweep 'x'"):
        ask(store, Request("pause", ("x",)))
    assert not Path(f"{store}.requests").exists()


def test_where_somebody_does_they_obey_and_answer(store, table, planned):
    """The coordinator looks while the command waits."""
    inbox = inbox_of(store)

    def obeyed(_):
        inbox.obey(table)

    assert ask(store, add(planned()), wait=obeyed) == "small: 4 runs, 4 new"
    with pytest.raises(TableError, match="no sweep 'x'"):
        ask(store, Request("resume", ("x",)), wait=obeyed)
    assert table.counts() == {"queued": 4}
    assert list(Path(f"{store}.requests").iterdir()) == []


def test_a_request_outlives_the_coordinator_that_did_not_see_it(store, planned):
    table = Table(store, writable=True)
    table.queue.enqueue(planned())
    waits = []

    def then_it_dies(_):
        waits.append(1)
        if len(waits) == 3:
            table.close()

    assert ask(store, Request("pause"), wait=then_it_dies) == "paused: small"
    assert len(waits) >= 3
    with Table(store) as after:
        assert after.sweeps()[0]["paused"] == BY_HAND
    assert list(Path(f"{store}.requests").iterdir()) == []


def test_requests_are_obeyed_in_the_order_asked_and_once(store, table, planned):
    table.queue.enqueue(planned())
    inbox = inbox_of(store)
    for verb in ("pause", "resume", "pause"):
        inbox.ask(Request(verb))
    assert inbox.pending(table)
    assert [done.said for done in inbox.obey(table)] == ["paused: small", "resumed: small", "paused: small"]
    assert not inbox.pending(table)
    assert inbox.obey(table) == []
    assert table.sweeps()[0]["paused"] == BY_HAND


@pytest.mark.parametrize("text", ["{", "[]", '{"verb": "cancel"}', '{"verb": "add", "what": [], "plan": {}}'])
def test_a_request_that_cannot_be_read_is_put_away(store, table, planned, text):
    table.queue.enqueue(planned())
    folder = Path(f"{store}.requests")
    folder.mkdir()
    (folder / "1.json").write_text(text)
    inbox = Inbox(folder)
    assert inbox.obey(table) == []
    assert not inbox.pending(table)
    assert table.counts() == {"queued": 4}


def test_of_eight_coordinators_that_race_each_run_is_claimed_once_and_none_sees_a_lock_error(store, planned):
    """Threads stand for processes: a lock is of an open file (benchmarks/bench_table.py does it with processes)."""
    made = planned(width="[16, 32]", seeds=12)
    with Table(store, writable=True) as table:
        table.queue.enqueue(made)

    def race(number):
        mine = []
        while True:
            with contextlib.suppress(TableBusyError), Table(store, writable=True) as table:
                queued = table.queued("small")
                if not queued:
                    return mine
                mine += table.queue.claim([run.run_id for run in queued[: 1 + number % 3]])

    with ThreadPoolExecutor(8) as pool:
        claimed = [run_id for mine in pool.map(race, range(8)) for run_id in mine]
    assert sorted(claimed) == sorted(run.run_id for run in made.runs)
    with Table(store) as table:
        assert set(table.frame()["attempt"]) == {1}
