"""Several coordinators on one table: a real PostgreSQL server, made in a temporary folder by its own programs."""

import os
import pwd
import shutil
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy as sa

import orchestrator
from orchestrator.database import TableError
from orchestrator.executors import InlineExecutor
from orchestrator.scheduler import Scheduler
from orchestrator.schema import attempts
from orchestrator.table import Table


def program(name):
    """initdb and postgres lie outside PATH on Debian."""
    found = [shutil.which(name), *map(str, Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))]
    return next((path for path in reversed(found) if path), None)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server that listens on a socket in its folder and nowhere else; PostgreSQL refuses to run as root."""
    pytest.importorskip("psycopg", reason="psycopg is missing: pip install 'isoflop[postgres]'")
    if program("initdb") is None:
        pytest.skip("PostgreSQL is missing: apt install postgresql")
    root = Path("/tmp") / f"isoflop-postgres-{os.getpid()}"  # a socket's path is at most 107 bytes long
    root.mkdir(mode=0o700)
    as_user = []
    if os.geteuid() == 0:
        try:
            pwd.getpwnam("postgres")
        except KeyError:
            pytest.skip("PostgreSQL does not run as root, and there is no user postgres")
        shutil.chown(root, "postgres")
        root.chmod(0o755)
        as_user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
    data = str(root / "data")
    initdb = [program("initdb"), "-D", data, "-U", "isoflop", "-A", "trust", "--no-sync", "-E", "UTF8"]
    subprocess.run([*as_user, *initdb], check=True, stdout=subprocess.DEVNULL, cwd=root)
    options = ["-c", "listen_addresses=", "-c", f"unix_socket_directories={root}", "-c", "fsync=off"]
    process = subprocess.Popen(
        [*as_user, program("postgres"), "-D", data, *options], cwd=root, stderr=subprocess.DEVNULL
    )
    try:
        for _ in range(300):
            if (root / ".s.PGSQL.5432").exists():
                break
            time.sleep(0.05)
        yield f"postgresql://isoflop@/postgres?host={root}"
    finally:
        process.terminate()
        process.wait(20)
        shutil.rmtree(root)


@pytest.fixture
def store(server, request):
    """A database of the test's own."""
    name = f"t{abs(hash(request.node.name))}"
    engine = sa.create_engine(server.replace("postgresql", "postgresql+psycopg", 1), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    engine.dispose()
    return server.replace("/postgres?", f"/{name}?")


@pytest.fixture
def two(store):
    """Two coordinators' tables on one database."""
    with Table(store, writable=True) as one, Table(store, writable=True) as other:
        yield one, other


def test_a_sweep_is_trained_and_read_as_on_sqlite(store, planned, tmp_path):
    made = planned(epochs="2")
    frames = []
    for where in (store, str(tmp_path / "t.db")):
        with Table(where, writable=True) as table:
            assert table.enqueue(made) == len(made.runs)
            assert table.enqueue(made) == 0
            Scheduler(table, InlineExecutor("cpu"), [made.sweep]).drain()
            assert table.counts() == {"done": 4}
            (row,) = table.sweeps()
            assert row["done"] == 4
        frames.append(orchestrator.results(where).drop(columns=["seconds"]))
        assert len(orchestrator.history(where)) > 4
    assert frames[0].equals(frames[1])


def test_every_run_is_claimed_exactly_once(store, planned):
    made = planned(seeds="40")
    ids = [run.run_id for run in made.runs]
    with Table(store, writable=True) as table:
        table.enqueue(made)

    def coordinator(number):
        claimed = []
        with Table(store, writable=True) as table:
            for i in range(number, len(ids) + number):
                claimed += table.claim([ids[i % len(ids)], ids[(i + 1) % len(ids)]])
        return claimed

    with ThreadPoolExecutor(4) as four:
        claims = [run_id for claimed in four.map(coordinator, range(0, 80, 20)) for run_id in claimed]
    assert Counter(claims) == Counter(ids)
    with Table(store) as table:
        assert set(table.frame("attempts")["attempt"]) == {1}


def test_a_claim_does_not_wait_for_what_another_has_locked(two, planned):
    made, (one, other) = planned(), two
    ids = [run.run_id for run in made.runs]
    one.enqueue(made)
    with one.together():
        assert set(one.claim(ids[:2])) == set(ids[:2])
        assert set(other.claim(ids)) == set(ids[2:])  # at once: nothing is committed yet


def test_only_the_attempt_that_holds_a_run_ends_it(two, planned, result_of):
    made, (one, other) = planned(seeds="1", width="16"), two
    (run,) = made.runs
    one.enqueue(made)
    late = one.claim([run.run_id])
    with one.engine.begin() as connection:
        connection.execute(attempts.update().values(lease=0.0))
    assert other.recover() == 1
    mine = other.claim([run.run_id])
    one.finish([result_of(run, error=0.9)], late)
    assert other.frame()["state"].item() == "running"
    other.finish([result_of(run, error=0.1)], mine)
    one.finish([result_of(run, error=0.9)], late)
    assert other.frame()["error"].item() == 0.1


def test_what_ends_twice_at_once_ends_once(two, planned, result_of):
    """Both look, and both would write: the second waits for the first and finds that the attempt is over."""
    made, (one, other) = planned(seeds="1", width="16"), two
    (run,) = made.runs
    one.enqueue(made)
    mine = one.claim([run.run_id])
    with ThreadPoolExecutor(1) as aside:
        with one.together():
            one.finish([result_of(run, error=0.1)], mine)
            later = aside.submit(other.release, mine, "lost", "its lease ran out")
            time.sleep(0.3)
            assert not later.done()
        later.result(30)
    assert one.frame()["state"].item() == "done"
    assert list(one.frame("attempts")["outcome"]) == ["done"]


def test_a_living_coordinator_keeps_its_runs_and_a_dead_one_loses_them_at_once(store, planned):
    made = planned()
    with Table(store, writable=True) as table:
        table.enqueue(made)
        ids = [run.run_id for run in made.runs]
        text = f"""
from orchestrator.table import Table
with Table({store!r}, writable=True) as table:
    table.claim({ids[:2]!r})
"""
        subprocess.run([sys.executable, "-c", text], check=True)
        table.claim(ids[2:])
        assert table.recover() == 2
        assert table.states(made.sweep) == {run_id: "queued" if run_id in ids[:2] else "running" for run_id in ids}


def test_two_coordinators_drain_one_sweep_together(store, planned):
    made = planned(seeds="8", lr="1e-3", epochs="3")
    with Table(store, writable=True) as table:
        table.enqueue(made)

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


@pytest.mark.parametrize("url", ["mysql://u@h/d", "http://x", "://", "postgresql://"])
def test_another_database_is_refused_in_a_line(url, monkeypatch):
    monkeypatch.setenv("PGHOST", "/nowhere")
    with pytest.raises(TableError) as caught, Table(url, writable=True):
        pass
    assert "\n" not in str(caught.value)


def test_passwords_are_not_said(server):
    pytest.importorskip("psycopg")
    with pytest.raises(TableError) as caught, Table("postgresql://u:secret@/gone?host=/nowhere"):
        pass
    assert "secret" not in str(caught.value)
