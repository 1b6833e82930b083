"""`isoflop watch`: before there is a table, beside a process that dies, at any width, without a terminal."""

import os
import pty
import re
import select
import subprocess
from contextlib import closing, suppress

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.cli import watch
from orchestrator.store import queue
from orchestrator.store.engine import NoTableError, TableError
from orchestrator.store.table import Table
from tests import paced
from tests.commands import Started, command
from tests.polling import says, table_shows, until

SWEEP = f"""\
sweep: watched
data: {{dataset: digits}}
model: {{family: b-mlp, depth: 1, width: 16}}
train: {{optimizer: "{paced.ADAMW}", lr: 2e-3, batch_size: 32}}
budget: {{epochs: 20}}
seeds: 2
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "watched.yaml").write_text(SWEEP)
    paced.write_optimizer(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_it_waits_for_a_table_and_ends_when_the_process_that_trains_is_killed(folder):
    paced.slow_down(folder)
    with Started("watch", "--every", "0.1", folder=folder) as watching:
        says(watching, "waiting: no results table at isoflop.db")
        run = ("run", "watched.yaml", "--executor", "inline", "--device", "cpu", "--no-canary")
        with Started(*run, folder=folder) as training:
            says(watching, "watched  ....")
            table_shows(folder / "isoflop.db", lambda table: any(row["step"] for row in table.running()), training)
            training.kill()
        said = watching.ended()
    assert watching.returncode == 0
    last = "no process trains this table; `isoflop work` starts one; 2 runs of a process that has ended will go on"
    assert said.splitlines()[-1] == last


def test_it_ends_with_the_sweep_where_there_is_no_terminal(folder):
    run = ("run", "watched.yaml", "--executor", "inline", "--device", "cpu")
    with Started("watch", "--every", "0.1", folder=folder) as watching, Started(*run, folder=folder) as training:
        training.ended()
        said = watching.ended()
    assert (watching.returncode, training.returncode) == (0, 0)
    assert "watched  2/2 runs  100% of " in said
    assert "\x1b" not in said


def test_once_does_not_wait(isoflop, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ended = isoflop("watch", "--once")
    assert ended.code == 2
    assert "no results table at isoflop.db" in ended.err


def test_a_table_that_is_being_made_is_waited_for_and_another_file_is_not(tmp_path):
    with Table(tmp_path / "t.db", writable=True) as table:
        table.engine.raw_connection().executescript("DROP TABLE meta")
        with pytest.raises(NoTableError):
            Table(tmp_path / "t.db")
    with pytest.raises(TableError) as other:
        Table(tmp_path / "t.db")
    assert not isinstance(other.value, NoTableError)


@pytest.fixture
def table(planned, tmp_path):
    with Table(tmp_path / "t.db", writable=True) as made:
        made.queue.enqueue(planned(seeds="4"))
        yield made


def claimed(table):
    """Claims two runs of the table's first sweep."""
    (sweep, *_) = [row["sweep"] for row in table.sweeps()]
    return table.queue.claim([run.run_id for run in table.queued(sweep)[:2]])


def test_a_coordinator_that_hangs_is_known_by_its_lease(table, monkeypatch):
    tokens = claimed(table)
    assert "no sign of life" not in watch.screen(*watch.look(table))
    monkeypatch.setattr(queue, "LEASE", -30.0)
    table.queue.renew(tokens)
    table.queue.tell(table.sweeps()[0]["sweep"], seconds_left=90.0)
    said = watch.screen(*watch.look(table))
    assert re.match(rf"\S+:{os.getpid()} gave no sign of life for 1 min 3\d s and has 2 runs in training; ", said)
    assert " left" not in said
    monkeypatch.undo()
    table.queue.renew(tokens)
    assert "no sign of life" not in watch.screen(*watch.look(table))
    assert "1 min 30 s left" in watch.screen(*watch.look(table))


WIDTHS = st.integers(40, 200)


@settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(width=WIDTHS, name=st.text("abc-", min_size=1, max_size=60), message=st.text("ab ;", max_size=200))
def test_no_line_is_longer_than_the_terminal_is_wide(table, width, name, message):
    if not table.running():
        claimed(table)
    rows, running, _ = watch.look(table)
    rows = [{**row, "sweep": name, "message": message, "paused": "by hand", "seconds_left": 5.0} for row in rows]
    for held in (True, False):
        said = watch.screen(rows, running, held, width)
        assert max(map(len, said.splitlines())) <= width
        assert name in said.replace("\n    ", "")
        assert running[0]["run_id"][:8] in said


@pytest.mark.parametrize("columns", [80, 120])
def test_in_a_terminal_it_fills_the_width_and_leaves_on_ctrl_c(table, columns, tmp_path):
    claimed(table)
    ours, theirs = pty.openpty()
    with closing(os.fdopen(ours, "rb", buffering=0)) as screen:
        environment = os.environ | {"COLUMNS": str(columns), "LINES": "24", "TERM": "xterm"}
        words = command("watch", "--store", "t.db", "--every", "0.1")
        process = subprocess.Popen(words, cwd=tmp_path, stdin=theirs, stdout=theirs, stderr=theirs, env=environment)
        os.close(theirs)
        said = bytearray()

        def drawn(times=2):
            with suppress(OSError):  # the terminal of a process that has ended
                said.extend(screen.read(4096) if select.select([screen], [], [], 0)[0] else b"")
            return said.count(b"queued, 2 running") >= times

        until(drawn, process, seconds=120)
        process.send_signal(2)
        until(lambda: drawn(0) and process.poll() is not None)  # it waits while nobody reads its terminal
        assert process.returncode == 0
    plain = re.sub(rb"\x1b\[[0-9;?]*[A-Za-z]", b"", bytes(said)).decode()
    assert max(len(line.rstrip()) for line in re.split(r"[\r\n]+", plain)) <= columns
    assert "stack" in plain
