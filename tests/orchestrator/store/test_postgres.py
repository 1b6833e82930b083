"""Several coordinators on one table: a real PostgreSQL server, made in a temporary folder by its own programs."""

import contextlib
import itertools
import random
import re
import subprocess
import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from functools import partial
from typing import NamedTuple

import pandas as pd
import pytest
import sqlalchemy as sa

import orchestrator
from orchestrator.host.speed import Speed
from orchestrator.scheduling.options import SchedulerOptions
from orchestrator.scheduling.scheduler import Scheduler
from orchestrator.scheduling.write_buffer import WriteBuffer
from orchestrator.store import schema
from orchestrator.store.engine import TableError
from orchestrator.store.requests import BY_HAND, Changes, Request, add, ask
from orchestrator.store.retry import Retry
from orchestrator.store.schema import attempts, runs
from orchestrator.store.table import End, Table
from orchestrator.sweep.planner import Plan
from orchestrator.workers.executor import Finished, Place
from orchestrator.workers.inline import InlineExecutor
from tests import paced
from tests.commands import LIMIT
from tests.polling import until

psycopg = pytest.importorskip("psycopg", reason="psycopg is missing: ./run add postgres")
ONE_EACH = Speed("cpu", layer=0.0, value=0.0, weight=0.0, flop=1e-9, spread=0.0)
"""With which no stack gains anything."""


@pytest.fixture
def store(database):
    return database


@pytest.fixture
def two(store):
    """Two coordinators' tables on one database."""
    with Table(store, writable=True) as one, Table(store, writable=True) as other:
        yield one, other


def waits_for_a_lock(task, table):
    """Wait until a task, in a thread, waits for a lock of the database."""
    waiting = sa.text("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")

    def waits():
        with table.engine.connect() as connection:
            return connection.execute(waiting).scalar()

    until(lambda: task.done() or waits())
    return not task.done()


def test_a_sweep_is_trained_and_read_as_on_sqlite(store, planned, tmp_path):
    made = planned(epochs="2")
    frames = []
    for where in (store, str(tmp_path / "t.db")):
        with Table(where, writable=True) as table:
            assert table.queue.enqueue(made) == len(made.runs)
            assert table.queue.enqueue(made) == 0
            Scheduler(table, InlineExecutor("cpu"), [made.sweep]).drain()
            assert table.counts() == {"done": 4}
            (row,) = table.sweeps()
            assert row["done"] == 4
        frames.append(orchestrator.results(where).drop(columns=["seconds", "eval_seconds"]))
        assert len(orchestrator.history(where)) > 4
    pd.testing.assert_frame_equal(frames[0], frames[1], check_exact=True)


def test_every_run_is_claimed_exactly_once(store, planned):
    made = planned(seeds="40")
    ids = [run.run_id for run in made.runs]
    with Table(store, writable=True) as table:
        table.queue.enqueue(made)

    def coordinator(number):
        claimed = []
        with Table(store, writable=True) as table:
            for i in range(number, len(ids) + number):
                claimed += table.queue.claim([ids[i % len(ids)], ids[(i + 1) % len(ids)]])
        return claimed

    with ThreadPoolExecutor(4) as four:
        claims = [run_id for claimed in four.map(coordinator, range(0, 80, 20)) for run_id in claimed]
    assert Counter(claims) == Counter(ids)
    with Table(store) as table:
        assert set(table.frame("attempts")["attempt"]) == {1}


def test_a_claim_does_not_wait_for_what_another_has_locked(two, planned):
    made, (one, other) = planned(), two
    ids = [run.run_id for run in made.runs]
    one.queue.enqueue(made)
    with one.transaction():
        assert set(one.queue.claim(ids[:2])) == set(ids[:2])
        assert set(other.queue.claim(ids)) == set(ids[2:])  # at once: nothing is committed yet


def test_only_the_attempt_that_holds_a_run_ends_it(two, planned, result_of):
    made, (one, other) = planned(seeds="1", width="16"), two
    (run,) = made.runs
    one.queue.enqueue(made)
    late = one.queue.claim([run.run_id])
    with one.engine.begin() as connection:
        connection.execute(attempts.update().values(lease=0.0))
    assert other.queue.recover() == 1
    mine = other.queue.claim([run.run_id])
    one.queue.finish([result_of(run, error=0.9)], late)
    assert other.frame()["state"].item() == "running"
    other.queue.finish([result_of(run, error=0.1)], mine)
    one.queue.finish([result_of(run, error=0.9)], late)
    assert other.frame()["error"].item() == 0.1


def test_what_ends_twice_at_once_ends_once(two, planned, result_of):
    """Both look, and both would write: the second waits for the first and finds that the attempt is over."""
    made, (one, other) = planned(seeds="1", width="16"), two
    (run,) = made.runs
    one.queue.enqueue(made)
    mine = one.queue.claim([run.run_id])
    with ThreadPoolExecutor(1) as aside:
        with one.transaction():
            one.queue.finish([result_of(run, error=0.1)], mine)
            later = aside.submit(other.queue.release, mine, "lost", "its lease ran out")
            assert waits_for_a_lock(later, one)
        later.result(30)
    assert one.frame()["state"].item() == "done"
    assert list(one.frame("attempts")["outcome"]) == ["done"]


def test_a_living_coordinator_keeps_its_runs_and_a_dead_one_loses_them_at_once(store, planned):
    made = planned()
    with Table(store, writable=True) as table:
        table.queue.enqueue(made)
        ids = [run.run_id for run in made.runs]
        text = f"""
from orchestrator.store.table import Table
with Table({store!r}, writable=True) as table:
    table.queue.claim({ids[:2]!r})
"""
        subprocess.run([sys.executable, "-c", text], check=True)
        table.queue.claim(ids[2:])
        assert table.queue.recover() == 2
        assert table.states(made.sweep) == {run_id: "queued" if run_id in ids[:2] else "running" for run_id in ids}


def test_two_coordinators_drain_one_sweep_together(store, planned):
    made = planned(seeds="8", lr="1e-3", epochs="3")
    with Table(store, writable=True) as table:
        table.queue.enqueue(made)

    def drain(_):
        with Table(store, writable=True) as table:
            return Scheduler(table, InlineExecutor("cpu"), [made.sweep]).drain()

    with ThreadPoolExecutor(2) as both:
        list(both.map(drain, range(2)))
    with Table(store) as table:
        assert table.counts() == {"done": 16}
        assert set(table.frame()["attempt"]) == {1}
        history = table.frame("history")
    assert not history.duplicated(["run_id", "step"]).any()


class Endless:
    """Two places in which runs train until they are asked to leave, or `ending` is set; `left` is who was asked."""

    slots, gpus, places = 2, 0, (Place("here", "cpu", 2**40),)

    def __init__(self, result_of):
        self._result_of, self._going, self._leaving = result_of, {}, set()
        self.left, self.ending = [], threading.Event()

    @property
    def open(self):
        return ["here"] * (self.slots - len(self._going))

    def submit(self, stack, specs, keep=(), place=None):
        self._going[stack] = specs

    def leave(self, stack, run_ids):
        self.left += sorted(set(run_ids) - self._leaving)
        self._leaving |= set(run_ids)

    def poll(self, timeout):
        for stack, specs in self._going.items():
            if self.ending.is_set() or all(run.run_id in self._leaving for run in specs):
                state = {run.run_id: "cancelled" if run.run_id in self._leaving else "done" for run in specs}
                del self._going[stack]
                return [Finished(stack, [self._result_of(run, state[run.run_id]) for run in specs])]
        self.ending.wait(timeout)
        return []

    def stop(self):
        self.ending.set()


class Counted(Changes):
    """Looks for changes at every turn, and counts the turns."""

    def __init__(self, table):
        super().__init__(table, clock=itertools.count().__next__)
        self.turns = 0

    def pending(self, table):
        self.turns += 1
        return super().pending(table)


class Coordinator:
    """A coordinator in a thread; `said` are the messages of its progress."""

    def __init__(self, store, sweep, executor, pool):
        self.executor, self.said = executor, []
        self._store, self._sweep, self._ready = store, sweep, threading.Event()
        self.drained = pool.submit(self._drain)
        assert self._ready.wait(240)

    def _drain(self):
        with Table(self._store, writable=True) as table:
            self.inbox = Counted(table)
            self._ready.set()
            options, say = SchedulerOptions(speed=ONE_EACH), lambda progress: self.said.append(progress.message)
            Scheduler(table, self.executor, [self._sweep], options, on_progress=say, inbox=self.inbox).drain()


class AtWork(NamedTuple):
    """Coordinators at work on one sweep."""

    table: Table
    made: Plan
    both: list[Coordinator]

    def obeyed(self):
        """Return when each has obeyed all that was asked: the turn that began before, and a whole one."""
        least = [(one, one.inbox.turns + 3) for one in self.both]
        until(lambda: all(one.inbox.turns >= turns for one, turns in least))

    def end(self):
        """Let all runs in training come to their end, and later ones at once."""
        for one in self.both:
            one.executor.ending.set()

    @property
    def left(self):
        return [run_id for one in self.both for run_id in one.executor.left]


@pytest.fixture
def at_work(store, planned, result_of):
    """Two coordinators at work on a sweep of eight runs, each alone in its stack, four of them in training."""
    made = planned(seeds="4", epochs="3", lr="[1e-3]")
    with Table(store, writable=True) as table:
        table.queue.enqueue(made)
    with Table(store) as table, ThreadPoolExecutor(2) as pool:
        at_work = AtWork(table, made, [Coordinator(store, made.sweep, Endless(result_of), pool) for _ in range(2)])
        try:
            until(lambda: table.counts().get("running") == 4)
            yield at_work
        finally:
            ask(store, Request("resume"))
            at_work.end()
            for one in at_work.both:
                one.drained.result(240)


def test_cancel_reaches_runs_that_other_coordinators_train(store, at_work):
    table, made, _ = at_work
    running = sorted(row["run_id"] for row in table.running())
    one = running[0]
    assert ask(store, Request("cancel", (one,))) == "0 of 1 run now cancelled; 1 in training will stop"
    until(lambda: table.states(made.sweep)[one] == "cancelled")
    assert at_work.left == [one]
    ask(store, Request("cancel", (made.sweep,)))
    until(lambda: table.counts() == {"cancelled": 8})
    left = at_work.left
    assert len(left) == len(set(left)), "each is asked by its own coordinator alone"
    assert set(running) <= set(left)
    attempts = table.frame("attempts")
    assert (attempts["outcome"] == "cancelled").all()
    assert len(attempts) == len(left)


def is_cancelled(table, run_id):
    return table.states("small")[run_id] == "cancelled"


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_cancel_stops_what_two_commands_train_each_on_its_own_ray(store, sweep, tmp_path):
    file = sweep(width="[64, 128]", seeds="3", epochs="5000000")
    words = [sys.executable, "-c", "from orchestrator.cli.main import main; main()"]
    how = ["--slots", "1", "--no-canary", "--store", store]
    with Table(store, writable=True) as table:
        table.speed = asdict(ONE_EACH)  # or each would first measure the machine
        both = [subprocess.Popen([*words, "run", file, *how], cwd=tmp_path) for _ in range(2)]
        try:
            until(lambda: table.frame("attempts")["coordinator"].nunique() == 2)
            for _ in range(6):
                until(lambda: any(row["step"] for row in table.running()))
                one = next(row["run_id"] for row in table.running() if row["step"])
                ask(store, Request("cancel", (one,)))
                until(partial(is_cancelled, table, one))
            assert [one.wait(LIMIT) for one in both] == [0, 0]
            assert list(table.frame("attempts")["outcome"]) == ["cancelled"] * 6
        finally:
            for one in both:
                one.kill()
                one.wait()


def test_a_pause_by_hand_holds_every_coordinator_until_it_is_resumed(store, at_work):
    table, made, _ = at_work
    ask(store, Request("pause", (made.sweep,)))
    at_work.obeyed()
    at_work.end()
    until(lambda: table.counts() == {"done": 4, "queued": 4})
    at_work.obeyed()
    assert table.counts() == {"done": 4, "queued": 4}
    assert table.sweeps()[0]["paused"] == BY_HAND
    ask(store, Request("resume", (made.sweep,)))
    until(lambda: table.counts() == {"done": 8})


def test_what_is_added_retried_and_put_first_is_seen_at_once(store, at_work, planned):
    table, made, _ = at_work
    waiting = [run.run_id for run in table.queued(made.sweep)]
    first = waiting[-1]
    ask(store, Request("prioritise", (first,), 5))
    ask(store, add(planned(sweep="further", width="48", seeds="1")))
    ask(store, Request("cancel", (waiting[0],)))
    ask(store, Request("retry", (waiting[0],)))
    at_work.obeyed()
    ask(store, Request("cancel", tuple(row["run_id"] for row in table.running())[:1]))
    until(lambda: table.states(made.sweep)[first] == "running")
    at_work.end()
    until(lambda: set(table.counts()) == {"done", "cancelled"})
    assert table.counts() == {"done": 8, "cancelled": 1}


def test_what_is_asked_about_other_sweeps_draws_no_coordinator_into_them(store, at_work, planned):
    """Their data may be on other machines."""
    other = planned(sweep="other", width="64", seeds="2", epochs="5")
    with Table(store, writable=True) as elsewhere:
        elsewhere.queue.enqueue(other)  # as its own coordinator does
    for verb in ("cancel", "retry", "prioritise", "pause", "resume"):
        ask(store, Request(verb, ("other",)))
    at_work.obeyed()
    at_work.end()
    for one in at_work.both:
        one.drained.result(240)
    assert at_work.table.counts(at_work.made.sweep) == {"done": 8}
    assert at_work.table.counts("other") == {"queued": 2}


def test_coordinators_outlive_a_restart_of_the_server(at_work, postgres):
    table, waits = at_work.table, "the database does not answer: waiting, nothing is lost"
    postgres.stop()
    until(lambda: all(waits in one.said for one in at_work.both))
    at_work.end()
    postgres.start()
    until(lambda: table.counts() == {"done": 8})
    assert set(table.frame()["attempt"]) == {1}


def test_a_transaction_whose_commit_was_not_answered_is_written_once(two, planned, result_of, monkeypatch):
    """The server commits and the connection breaks: what is tried again finds all of it there."""
    made, (table, _) = planned(seeds="2", width="16"), two
    first, _ = made.runs
    table.queue.enqueue(made)
    tokens, results = table.queue.claim([run.run_id for run in made.runs]), [result_of(run) for run in made.runs]
    buffer = WriteBuffer(tokens=tokens, records=list(results[1].history))
    buffer.ends = [End(first.run_id, tokens[first.run_id], "done", "done", result=results[0])]
    commit, cuts = table.engine.dialect.do_commit, [True]

    def commits_and_breaks(connection):
        commit(connection)
        if cuts and cuts.pop():
            raise psycopg.OperationalError("server closed the connection unexpectedly")

    monkeypatch.setattr(table.engine.dialect, "do_commit", commits_and_breaks)
    said = []
    Retry(said.append, lambda _: None, lambda: False)(lambda: buffer.write(table, []))
    assert said == ["the database does not answer: waiting, nothing is lost", "the table can be written again"]
    assert table.counts() == {"done": 1, "running": 1}
    assert len(table.frame("history")) == sum(len(result.history) for result in results)
    assert table.frame()["charged_flops"].dropna().tolist() == [results[0].flops]


def is_at_work(process, table):
    """Whether a coordinator has runs in training, or has ended."""
    attempts = table.frame("attempts")
    at_work = {int(name.split("/")[2]) for name in attempts[attempts["ended"].isna()]["coordinator"]}
    return process.pid in at_work or process.poll() is not None


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_kills_of_coordinators_that_share_a_table_lose_no_finished_run_and_change_no_number(store, sweep, tmp_path):
    file, dice, done = sweep(width="[8, 16, 24, 32]", seeds="40", epochs="16"), random.Random(3), set()
    recipe = tmp_path / file
    recipe.write_text(recipe.read_text().replace("train: {", f'train: {{optimizer: "{paced.ADAMW}", '))
    paced.write_optimizer(tmp_path)
    paced.slow_down(tmp_path, seconds=0.01)  # every run takes a second
    text = "from orchestrator.cli.main import main; main()"
    how = [
        "--executor",
        "inline",
        "--no-canary",
        "--checkpoints",
        str(tmp_path / "saved"),
        "--checkpoint-every",
        "0.1",
    ]

    def work(store):
        words = [sys.executable, "-c", text, "run", file, *how, "--store", store]
        return subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    with Table(store, writable=True) as table:
        table.speed = asdict(ONE_EACH)
        both, kills = [work(store), work(store)], 0
        while kills < 15 and table.counts().get("queued", 1):
            one = dice.randrange(2)
            until(partial(is_at_work, both[one], table))
            with contextlib.suppress(subprocess.TimeoutExpired):
                both[one].wait(dice.expovariate(1.0))
            both[one].kill()
            both[one].wait()
            now = {row["run_id"] for row in table.listed(None, ["done"])}
            assert done <= now
            done, kills, both[one] = now, kills + 1, work(store)
        paced.speed_up(tmp_path)
        assert [process.wait(LIMIT) for process in both] == [0, 0]
        assert work(store).wait(LIMIT) == 0  # what the last to die had in training
        attempts, killed = table.frame("attempts"), table.frame().set_index("run_id")
    assert kills == 15
    assert done
    assert (attempts[attempts["outcome"] == "done"]["run_id"].value_counts() == 1).all()
    assert work(str(tmp_path / "quiet.db")).wait(LIMIT) == 0
    quiet = orchestrator.results(tmp_path / "quiet.db").set_index("run_id")
    assert (killed["state"] == "done").all()
    for name in ("error", "loss", "train_loss", "steps", "flops"):
        assert killed[name].equals(quiet.loc[killed.index, name])


def test_commands_that_meet_coordinators_in_the_same_rows_get_through(store, planned, result_of):
    """Four terminals cancel and retry everything while two coordinators claim and finish: none fails."""
    made = planned(seeds="20")
    ids = [run.run_id for run in made.runs]
    with Table(store, writable=True) as table:
        table.queue.enqueue(made)

    def terminal(number):
        return [ask(store, Request("cancel" if i % 2 else "retry", (made.sweep,))) for i in range(4)]

    def coordinator(number):
        with Table(store, writable=True) as table:
            for i in range(60):
                with table.transaction():
                    mine = table.queue.claim(ids[(7 * i + number) % 30 :][:8])
                table.queue.finish([result_of(run) for run in made.runs if run.run_id in mine][::-1], mine)

    with ThreadPoolExecutor(6) as pool:
        at_work = [pool.submit(coordinator, n) for n in range(2)] + [pool.submit(terminal, n) for n in range(4)]
        for one in at_work:
            one.result(60)
    with Table(store) as table:
        assert sum(table.counts().values()) == 40
        done = table.frame("attempts")["run_id"]
        assert not done.duplicated().any()


@pytest.mark.parametrize("verb", ["cancel", "prioritise", "move"])
def test_who_waits_for_a_row_holds_none_that_another_may_want_next(store, planned, verb, monkeypatch):
    """Rows are locked in the order of their ids, whatever order they are named in: nobody waits in a circle."""
    monkeypatch.setattr("orchestrator.store.queue.IDS_AT_ONCE", 7)
    first, *rest = sorted(run.run_id for run in planned(seeds="20").runs)
    free = sa.select(runs.c.run_id).where(runs.c.run_id.in_(rest)).with_for_update(nowait=True)
    with Table(store, writable=True) as table, Table(store, writable=True) as other, ThreadPoolExecutor(1) as one:
        table.queue.enqueue(planned(seeds="20"))
        said = {"cancel": (), "prioritise": (3,), "move": ("failed",)}[verb]
        of = {"of": ("queued",)} if verb == "move" else {}
        with table.engine.begin() as mine:
            mine.execute(sa.select(runs.c.run_id).where(runs.c.run_id == first).with_for_update())
            asked = one.submit(getattr(other.queue, verb), [*reversed(rest), first], *said, **of)
            assert waits_for_a_lock(asked, table)
            assert len(mine.execute(free).all()) == len(rest)
        asked.result(60)


def test_a_table_of_the_version_before_is_upgraded_once_by_whoever_comes_first(store, planned):
    with Table(store, writable=True) as table:
        table.queue.enqueue(planned())
        with table.engine.begin() as connection:
            connection.exec_driver_sql("ALTER TABLE runs DROP COLUMN asked")
            connection.exec_driver_sql("ALTER TABLE sweeps DROP COLUMN changed, DROP COLUMN added")
            connection.execute(schema.meta.update().values(version=6))

    def come(_):
        with Table(store, writable=True) as table:
            return table.queue.cancel([run.run_id for run in planned().runs[:1]])[0]

    with ThreadPoolExecutor(4) as four:
        assert sorted(four.map(come, range(4))) == [0, 0, 0, 1]


@pytest.mark.parametrize("url", ["mysql://u@h/d", "http://x", "://", "postgresql://"])
def test_another_database_is_refused_in_a_line(url, monkeypatch):
    monkeypatch.setenv("PGHOST", "/nowhere")
    with pytest.raises(TableError) as caught, Table(url, writable=True):
        pass
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        *("postgresql://u:s3cret@/gone?host=/nowhere", "postgresql://u@/gone?host=/nowhere&password=s3cret"),
        *("postgresql://u:pass@s3cret@/gone", "postgresql://u:s3/cret@h:x/gone", "postgresql://:s3cret@h:1/gone"),
        *("mysql://u:s3cret@h/d", "post gres://u:s3cret@h/d", "postgresql://u:a s3cret@/gone?host=/nowhere"),
    ],
)
def test_a_password_is_not_said_in_any_complaint(isoflop, url):
    for words in [("status",), ("results",), ("queue", "pause"), ("queue", "show", "abcd"), ("work",), ("report",)]:
        ended = isoflop(*words, "--store", url)
        assert ended.code == 2
        assert len(ended.err.splitlines()) == 1
        assert not re.search("s3|cret", ended.out + ended.err)


def test_no_command_says_the_password_nor_writes_it_down(isoflop, store, sweep, tmp_path):
    """The server takes any; a second sweep makes commands complain that one is to be named."""
    secret = store.replace("isoflop@", "isoflop:s3cret@")
    make = ("--executor", "inline", "--store", secret)
    first, second = sweep(epochs="2", seeds="4", width="[8, 16, 32]"), sweep("b.yaml", sweep="second", epochs="1")
    said = [isoflop("run", first, *make), isoflop("run", second, *make, "--json")]
    assert [ended.code for ended in said] == [0, 0]
    assert '"done": 4' in said[1].out
    words = "status --json|watch --once|results|results small --format csv|queue list|queue show f|queue cancel x"
    words += "|queue pause|queue resume|work|fit|fit small|verdict small|report small --out page.html"
    words += "|plot small --out plots"
    said += [isoflop(*one.split(), "--store", secret) for one in words.split("|")]
    written = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert any(b"isoflop:***@" in content for content in written), "the page says where its table is"
    assert not any(b"s3cret" in content for content in written)
    assert not any("s3cret" in ended.out + ended.err for ended in said)
