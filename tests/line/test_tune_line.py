"""Searches under schedulers of Ray Tune, through the real command; each starts Ray and a Tuner."""

import dataclasses
import json
import os
import signal
import subprocess

import pytest
import torch

import orchestrator
from orchestrator.store.table import Table
from tests import paced
from tests.commands import LIMIT, command
from tests.line.test_search_line import finish
from tests.polling import delivered, line_with, table_shows, until
from trainer import RunSpec, train

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

SWEEP = f"""\
sweep: tuned
data: {{dataset: digits, validation: 0.2}}
model: {{family: b-mlp, depth: 1, width: 16}}
train:
  optimizer: "{paced.ADAMW}"
  batch_size: 32
  lr: {{search: {{min: 1e-5, max: 1e-1, distribution: log_uniform}}}}
budget: {{epochs: 20}}
search: {{trials: 12, scheduler: asha}}
"""
LONG = SWEEP.replace("epochs: 20", "epochs: 5000000")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    paced.write_optimizer(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "s.yaml").write_text(SWEEP)
    population = SWEEP.replace("trials: 12, scheduler: asha", "trials: 4, scheduler: pbt").replace(
        "epochs: 20", "epochs: 5"
    )
    (tmp_path / "p.yaml").write_text(population)
    (tmp_path / "h.yaml").write_text(SWEEP.replace("asha", "hyperband"))
    return tmp_path


def searched(folder, name):
    answer = json.loads(finish(folder, name, "--store", "t.db", "--slots", "2", "--device", "cpu", "--json"))
    return answer["best"][0], orchestrator.results(folder / "t.db")


def check(best, frame, trials=12):
    """Asserts that each trial is a row and that finished ones have the numbers of runs trained alone."""
    assert sorted(frame["trial"]) == list(range(trials))
    assert set(frame["state"]) == {"done", "pruned"}
    pruned, done = (frame[frame["state"] == state] for state in ("pruned", "done"))
    assert (pruned["steps"] < done["steps"].max()).all()
    assert pruned["val_error"].notna().all()
    assert best["value"] == done["val_error"].min()
    torch.set_num_threads(1)
    spec = RunSpec(dataset="digits", validation=0.2, depth=1, width=16, batch_size=32, epochs=20)
    spec = dataclasses.replace(spec, optimizer=paced.ADAMW)
    for row in done.itertuples():
        alone = train(dataclasses.replace(spec, lr=row.lr), device="cpu")
        assert (row.run_id, row.val_error, row.val_loss, row.error) == (
            alone.run_id,
            alone.val_error,
            alone.val_loss,
            alone.error,
        )


def start(folder, name, slots="2"):
    return subprocess.Popen(
        command(
            "search", name, "--store", "t.db", "--slots", slots, "--device", "cpu", "--checkpoint-every", "0.5"
        ),
        cwd=folder,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def interrupt(process, times):
    """Sends Ctrl-C to the process group, as a terminal does, and waits for the end."""
    for _ in range(times):
        os.killpg(process.pid, signal.SIGINT)
        delivered(process, signal.SIGINT)
    output, _ = process.communicate(timeout=LIMIT)
    assert process.returncode == 130, output
    assert "interrupted; run the same command to resume" in output
    assert "Traceback" not in output


def test_trials_are_rows_and_a_killed_search_trains_no_finished_one_again(folder):
    (folder / "s.yaml").write_text(SWEEP.replace("trials: 12", "trials: 24"))
    paced.slow_down(folder, seconds=0.005)  # a trial takes four seconds
    process = start(folder, "s.yaml")
    over = ["done", "pruned"]
    table_shows(folder / "t.db", lambda table: (table.frame()["state"] == "done").any(), process)
    process.kill()
    process.wait()
    paced.speed_up(folder)
    before = orchestrator.results(folder / "t.db").set_index("run_id")
    before = before[before["state"].isin(over)]
    assert len(before)
    best, frame = searched(folder, "s.yaml")
    check(best, frame, trials=24)
    after = frame.set_index("run_id").loc[before.index]
    assert (after["attempt"] == before["attempt"]).all()
    assert (after["state"] == before["state"]).all()
    again, same = searched(folder, "s.yaml")
    assert again == best
    assert same.equals(frame)


def test_ctrl_c_leaves_at_once_and_the_same_command_goes_on_from_checkpoints(folder):
    """The end is days away: nothing may wait for it."""
    (folder / "long.yaml").write_text(LONG.replace("width: 16", "width: 768"))
    process = start(folder, "long.yaml")
    saved = folder / "t.db.checkpoints"
    until(lambda: len({file.parent for file in saved.glob("*/*.json")}) == 2, process)
    with Table(folder / "t.db") as table:
        before = table.frame("history")
    interrupt(process, 1)
    with Table(folder / "t.db") as table:
        assert table.counts() == {"queued": 12}
        assert set(table.frame("attempts")["outcome"]) == {"interrupted"}
        assert set(before["run_id"] + before["step"].astype(str)) <= set(
            table.frame("history")["run_id"] + table.frame("history")["step"].astype(str)
        )
    process = start(folder, "long.yaml")
    table_shows(folder / "t.db", lambda table: (table.frame("attempts")["resumed_step"] > 0).sum() == 2, process)
    interrupt(process, 2)
    with Table(folder / "t.db") as table:
        table.queue.recover()
        assert table.counts() == {"queued": 12}


def test_ctrl_c_before_a_population_has_done_a_part_leaves_in_a_line(folder):
    population = LONG.replace("trials: 12, scheduler: asha", "trials: 2, scheduler: pbt")
    (folder / "long.yaml").write_text(population.replace("width: 16", "width: 768"))
    process = start(folder, "long.yaml")
    line_with(process, "members")
    saved = folder / "t.db.checkpoints"  # a part is a row once it has ended
    until(lambda: len({file.parent for file in saved.glob("*/*.json")}) == 2, process)
    interrupt(process, 1)


def test_paused_trials_of_hyperband_go_on_to_the_last_bit(folder):
    best, frame = searched(folder, "h.yaml")
    check(best, frame)
    with Table(folder / "t.db") as table:
        assert (table.frame("attempts").groupby("run_id").size() == 1).all()
        history = table.frame("history")
    assert not history.duplicated(["run_id", "step"]).any()
    assert not list((folder / "t.db.checkpoints").glob("*"))  # also none of pruned trials


def test_a_killed_population_goes_on_from_its_last_common_part(folder):
    process = start(folder, "p.yaml")
    table_shows(folder / "t.db", lambda table: (table.frame()["stage"] == "part-3").sum() == 4, process)
    process.kill()
    process.wait()
    best, frame = searched(folder, "p.yaml")
    assert set(frame["state"]) <= {"done", "diverged"}
    assert set(frame["trial"]) == {0, 1, 2, 3}
    counts = frame["stage"].value_counts()
    assert set(counts.index) == {f"part-{i}" for i in range(1, 11)}
    assert all(counts[f"part-{i}"] == 4 for i in (1, 2, 3, 10))  # ended parts are not trained again
    assert (frame["attempt"] == 1).all()
    last = frame[(frame["stage"] == "part-10") & (frame["state"] == "done")]
    assert best["value"] == last["val_error"].min()
    rows = frame.set_index("run_id")
    assert all(rows.loc[run.parent, "stage"] == "part-9" for run in last.itertuples())
    again, same = searched(folder, "p.yaml")
    assert again == best
    assert same.equals(frame)
