"""`isoflop search` through the real command: Ray, kill -9, its output."""

import json

import pandas as pd
import pytest

import orchestrator
from orchestrator.store.table import Table
from tests import paced
from tests.commands import Started, isoflop, on_ray
from tests.polling import table_shows

SWEEP = f"""\
sweep: searched
data: {{dataset: digits, validation: 0.2}}
model: {{family: b-mlp, depth: 1, width: [16, 32]}}
train:
  optimizer: "{paced.ADAMW}"
  batch_size: 32
  lr: {{search: {{min: 1e-4, max: 3e-2, distribution: log_uniform}}}}
budget: {{epochs: 10}}
search: {{trials: 8, batch: 4}}
"""
WIDE = 10_000
"""Parameters that only models of width 32 have."""

NUMBERS = ["search_cell", "trial", "state", "lr", "error", "val_error", "val_loss", "steps", "flops"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("search")
    paced.write_optimizer(folder)
    (folder / "s.yaml").write_text(SWEEP)
    (folder / "p.yaml").write_text(
        SWEEP.replace("trials: 8, batch: 4", "trials: 12, batch: 6, pruner: median")
        .replace("searched", "pruned")
        .replace("epochs: 10", "epochs: 60")
    )
    return folder


def finish(folder, *arguments):
    run = isoflop if "inline" in arguments else on_ray
    ended = run("search", *arguments, folder=folder)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def rows(folder, store):
    frame = orchestrator.results(folder / store).sort_values(["search_cell", "trial"])
    return frame[NUMBERS].reset_index(drop=True)


def in_the_middle(table):
    """The number of trials that are done, once others are in training."""
    counts = table.counts()
    return counts.get("running") and counts.get("done")


def test_a_killed_search_comes_to_the_trials_and_numbers_of_an_undisturbed_one(folder):
    answer = json.loads(finish(folder, "s.yaml", "--store", "whole.db", "--executor", "inline", "--json"))
    assert [(one["cell"], one["trials"], one["states"]) for one in answer["best"]] == [
        ({"width": width}, 8, {"done": 8}) for width in (16, 32)
    ]
    paced.slow_down(folder, parameters=WIDE)
    with Started("search", "s.yaml", "--store", "killed.db", "--executor", "inline", folder=folder) as process:
        done = table_shows(folder / "killed.db", in_the_middle, process)
        process.kill()
    paced.speed_up(folder)
    assert done >= 4
    finish(folder, "s.yaml", "--store", "killed.db", "--executor", "inline")
    pd.testing.assert_frame_equal(rows(folder, "killed.db"), rows(folder, "whole.db"))
    with Table(folder / "killed.db") as table:
        ends = table.frame("attempts").groupby("run_id")["outcome"].apply(list)
    assert len(ends) == 16
    assert all(outcomes.count("done") == 1 for outcomes in ends)
    assert sum(len(outcomes) == 1 for outcomes in ends) >= done  # finished trials are not trained again


@pytest.mark.slow
def test_a_pruner_stops_runs_on_their_workers(folder):
    paced.slow_down(folder, seconds=0.004)  # a trial that is not pruned takes nine seconds
    answer = json.loads(finish(folder, "p.yaml", "--store", "pruned.db", "--slots", "2", "--json"))
    paced.speed_up(folder)
    assert all(one["states"].get("pruned", 0) > 0 for one in answer["best"])
    frame = orchestrator.results(folder / "pruned.db")
    assert set(frame["state"]) == {"done", "pruned"}
    pruned = frame[frame["state"] == "pruned"]
    assert (pruned["steps"] < frame[frame["state"] == "done"]["steps"].max()).all()
    decided = pruned["reason"].str.extract(r"the search's pruner, at step (\d+)", expand=False).astype(int)
    assert (pruned["steps"] >= decided).all()
    with Table(folder / "pruned.db") as table:
        best = table.frame("runs").set_index("run_id")["val_error"].min()
    assert min(one["value"] for one in answer["best"]) == best
