"""Power cuts under the results table: what it has said to be written is there, and its file is whole."""

import contextlib
import random
import sqlite3
from collections import Counter

import pytest

from orchestrator import Table
from tests.power.disk import Disk, recorded

PROGRAM = """
import ctypes, sys
from pathlib import Path
from orchestrator.scheduling.write_buffer import WriteBuffer
from orchestrator.sweep.planner import plan
from orchestrator.sweep.reader import read_sweep
from orchestrator.store.table import End, Table
from tests.orchestrator.conftest import digits_text, made_result

acknowledge = ctypes.CDLL(None).acknowledge
folder, *levels = sys.argv[1:]
planned = plan(read_sweep(digits_text(seeds="30")))


def train(table, stacks):
    "A coordinator's turns: what has ended and been recorded, and the next claims, in one transaction each."
    claimed, before = {}, []
    for stack in [*stacks, []]:
        buffer, results = WriteBuffer(), [made_result(run) for run in before]
        if results:
            table.queue.record([result.history[0] for result in results[:-1]], claimed)
            acknowledge(f"recorded {' '.join(r.run_id for r in results[:-1])}".encode())
        buffer.ends = [End(r.run_id, claimed[r.run_id], "done", "done", result=r) for r in results]
        claimed, before = buffer.write(table, [stack] if stack else []), stack
        acknowledge(f"done {' '.join(r.run_id for r in results)}".encode())


for level in levels:
    acknowledge(f"level {level}".encode())
    stacks = [planned.runs[i : i + 3] for i in range(0, len(planned.runs), 3)]
    for part in (stacks[:8], stacks[8:]):
        with Table(Path(folder, level, "new", "t.db"), writable=True) as table:
            with table.engine.connect() as connection:  # the one that it writes with
                raw = connection.connection.driver_connection
                assert raw.execute("PRAGMA synchronous").fetchone() == (2,)
                raw.execute(f"PRAGMA synchronous={level}")
                raw.execute("PRAGMA wal_autocheckpoint=40")  # pages: so that it comes often
            table.queue.enqueue(planned)
            table.queue.recover()
            train(table, part)
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """By level of `synchronous`: the entries of what was done to its folder."""
    folder, aside = tmp_path_factory.mktemp("disk"), tmp_path_factory.mktemp("recorder")
    found, level = {}, ""
    for entry in recorded(PROGRAM, folder, aside, "FULL", "NORMAL", "OFF"):
        if entry[0] == "a" and entry[3].startswith(b"level"):
            level = entry[3].decode().split()[1]
            found[level] = []
        found[level].append(entry)
    return folder, found


def cuts(runs, level, many, into, seed=0):
    """Cut the power at so many moments; the table that is left each time, and what had been promised by then."""
    folder, entries = runs
    dice, disk = random.Random(seed), Disk(folder)
    moments = Counter(dice.randrange(len(entries[level])) for _ in range(many))
    for i, entry in enumerate(entries[level]):
        disk.take(*entry)
        for _ in range(moments[i]):
            disk.cut(dice, into)
            yield into / level / "new" / "t.db", promised(disk, "done"), promised(disk, "recorded")


def promised(disk, what):
    return {run_id for line in disk.promised if line.startswith(what) for run_id in line.split()[1:]}


def verdict(store, done, noted):
    """What is wrong with a table that a power cut has left: nothing, torn, or something promised is lost."""
    if not store.exists():
        return "lost" if done else "nothing"
    with contextlib.closing(sqlite3.connect(store)) as left:
        try:
            left.execute("PRAGMA synchronous=OFF")  # of the look itself
            if left.execute("PRAGMA integrity_check").fetchone() != ("ok",):
                return "torn"
            if not left.execute("SELECT 1 FROM sqlite_master WHERE name = 'history'").fetchone():
                return "lost" if done else "nothing"
            ended = left.execute(
                "SELECT run_id FROM runs JOIN attempts USING (run_id) WHERE state = 'done' AND outcome = 'done'"
            ).fetchall()
            records = Counter(run_id for (run_id,) in left.execute("SELECT run_id FROM history"))
        except sqlite3.DatabaseError:
            return "torn"
    whole = len(ended) == len(set(ended)) and all(records[run_id] == 2 for (run_id,) in ended)
    return "nothing" if whole and done <= {r for (r,) in ended} and noted <= records.keys() else "lost"


def test_the_recorder_misses_nothing(runs):
    """Replayed to the end, every file is to the byte what the program left; of `-shm` SQLite maps the memory."""
    folder, entries = runs
    for level in entries:
        disk = Disk(folder)
        for entry in entries[level]:
            disk.take(*entry)
        real = {str(path): path.read_bytes() for path in (folder / level / "new").iterdir()}
        assert disk.now() == real
        assert len(promised(disk, "done")) == 60


def test_after_a_power_cut_every_run_that_was_finished_is_there(runs, tmp_path):
    found = Counter(verdict(*left) for left in cuts(runs, "FULL", 1000, tmp_path / "left"))
    assert found == {"nothing": 1000}


@pytest.mark.slow
def test_after_thousands_of_power_cuts_every_run_that_was_finished_is_there(runs, tmp_path):
    found = Counter(verdict(*left) for left in cuts(runs, "FULL", 5000, tmp_path / "left", seed=1))
    assert found == {"nothing": 5000}


@pytest.mark.parametrize(("level", "wrong"), [("NORMAL", "lost"), ("OFF", "torn")])
def test_with_less_care_it_would_not_be(runs, tmp_path, level, wrong):
    """The control: these power cuts do find what is wrong, where something is."""
    found = Counter(verdict(*left) for left in cuts(runs, level, 100, tmp_path / "left"))
    assert found[wrong] > 10


def test_a_coordinator_goes_on_with_what_a_power_cut_has_left(runs, tmp_path):
    for store, done, _ in cuts(runs, "FULL", 20, tmp_path / "left", seed=2):
        with Table(store, writable=True) as table:
            table.queue.recover()
            assert set(table.counts()) <= {"done", "queued"}
            assert done <= {row["run_id"] for row in table.listed(None, ["done"])}
