"""Histories and repeats are known by structure, and tables of runs are not taken for histories."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

import analysis
from analysis.table.rows import measured
from tests.analysis.table.test_rows import NAMES, grid, law, repeated


def history(name: str | None = "Name", step: str | None = "_step", *, runs=6, records=10, text=True, seed=0):
    """Records of runs under the columns `name` and `step`, each run with luck of its own."""
    rng, rows = np.random.default_rng(seed), []
    for run, n in enumerate(np.logspace(6, 8.5, runs)):
        luck = rng.normal(0, 0.01)
        for k, d in enumerate(np.logspace(8, 10.5, records)):
            row = {"params": n, "tokens": d, "loss": law(n, d) * np.exp(luck + rng.normal(0, 0.002)), "lr": 1e-3}
            row |= {"val_loss": rng.random(), "_runtime": k + rng.random()}
            row |= {name: f"run {run}" if text else run} if name else {}
            rows.append(row | ({step: 100 * k} if step else {}))
    return pd.DataFrame(rows)


def runs_in(table, names=NAMES, **options):
    clean = measured(table, names, **options).table
    return clean["run_id"].nunique() if "run_id" in clean else None


@pytest.mark.parametrize(
    ("name", "step", "text"),
    [
        ("Name", "_step", True),
        ("run", "iteration", False),
        ("Run ID", "Step", True),
        ("trial", "epoch", False),
        ("run_name", "trainer/global_step", True),
        ("config", "training_iteration", True),  # a text that is no name of a run
        (None, "step", True),  # the design alone tells runs apart
        ("Name", None, True),
        ("run", None, False),
    ],
)
def test_a_history_is_known_under_any_names(name, step, text):
    table = history(name, step, text=text)
    known = table.assign(run_id=np.repeat(np.arange(6), 10))
    assert runs_in(table) == 6
    fits = [analysis.fit_surface(t, *NAMES, resamples=100) for t in (table, known)]
    assert fits[0].n_clusters == 6
    assert fits[0].intervals == fits[1].intervals
    assert any(text.startswith("the rows are records of 6 runs") for text in fits[0].warnings)
    assert any("taken as records of one run; if each is a run that ended" in text for text in fits[0].warnings)


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t.sample(frac=1, random_state=0),
        lambda t: pd.concat([t, t]),
        lambda t: t[t["tokens"] > 2e8],
        lambda t: t.assign(family=np.where(t["params"] > 1e7, "a", "b")),
        lambda t: t.drop(index=t.index[10:19]),  # one run with one record
    ],
)
def test_a_history_is_known_in_any_order_and_beside_other_columns(change):
    assert runs_in(change(history())) == 6
    assert runs_in(change(history(None))) == 6
    assert runs_in(history().assign(id=np.arange(60))) == 6


def test_seeds_of_one_size_are_runs_of_their_own_and_repeats():
    parts = [history(runs=4, seed=k).assign(seed=k, Name=lambda t, k=k: t["Name"] + f" {k}") for k in range(3)]
    table = pd.concat(parts, ignore_index=True)
    for known in (table, table.drop(columns="Name")):
        clean = measured(known, NAMES).table
        assert clean["run_id"].nunique() == 12
        assert clean["cell_id"].nunique() == 4
        assert analysis.average_seeds(known, "loss")["seeds"].tolist() == [3] * 40


def test_intervals_of_a_history_cover_the_exponent():
    fits = [analysis.fit_surface(history(records=12, seed=seed), *NAMES, resamples=100) for seed in range(12)]
    covered = [fit.intervals["alpha"][0] <= 0.34 <= fit.intervals["alpha"][1] for fit in fits]
    assert np.sum(covered) >= 10  # all; resampled by row, three


def test_a_single_learning_curve_is_resampled_by_row_with_a_caution():
    curve = history(runs=1, records=25).assign(run_id="a")
    fit = analysis.fit_power_law(curve, "tokens", "loss", resamples=100)
    assert fit.n_clusters == 25
    assert fit.intervals["exponent"][1] > fit.intervals["exponent"][0]
    assert any("records of one run are resampled as if they were independent" in text for text in fit.warnings)


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t,
        lambda t: t.assign(Name=[f"r{k}" for k in range(20)]),
        lambda t: t.assign(steps=t["tokens"] / 1e5, epochs=t["tokens"] / 1e8),
        lambda t: t.assign(Name=[f"r{k}" for k in range(20)], _step=t["tokens"] / 1e5),
        lambda t: t.assign(family=np.where(t["params"] > 1e7, "a", "b")),
        lambda t: t.assign(name=np.where(t["params"] > 1e7, "a", "b")),
        lambda t: t.assign(experiment="scaling"),
        lambda t: t.assign(id=np.arange(20)),
        lambda t: pd.concat([t.assign(lr=k, loss=t["loss"] * (1 + k)) for k in (0.1, 0.2)]),
    ],
)
def test_a_table_of_runs_is_no_history(change):
    rows = measured(change(grid()), NAMES)
    assert runs_in(change(grid())) in (None, len(rows.table))
    assert rows.notes == ()


@pytest.mark.parametrize("name", ["model", "size"])
def test_a_text_within_which_an_input_rises_is_asked_for(name):
    table = history(name, None)
    assert runs_in(table) is None
    notes = (f"tokens rises within each {name!r}: if those are records of one run, say run={name!r}",)
    assert measured(table, NAMES).notes == notes
    assert runs_in(table, run=name) == 6


def test_a_step_without_a_name_of_the_run_is_a_caution():
    table = history(runs=2, records=6).drop(columns=["Name", "lr"]).assign(params=1e6)
    assert any("several '_step' and no 'run_id'" in text for text in measured(table, ("tokens", "loss")).notes)


@pytest.mark.parametrize("option", ["run", "cell"])
def test_a_column_that_is_not_there_is_named(option):
    options: dict[str, Any] = {option: "Nmae"}
    with pytest.raises(ValueError, match="no column 'Nmae'; did you mean 'Name'"):
        measured(history(), NAMES, **options)


@pytest.mark.parametrize("fit", [analysis.fit_surface, analysis.fit_power_law, analysis.fit_frontier])
def test_every_fit_takes_the_column_of_runs(fit):
    table = history("who", None, text=False)
    names = NAMES if fit is analysis.fit_surface else NAMES[1:]
    assert any("records of 6 runs" in text for text in fit(table, *names, run="who", resamples=50).warnings)


def test_one_input_alone_makes_no_repeats():
    """Rows of one size may differ in examples, and the best of them counts."""
    table = repeated().drop(columns="seed")
    assert cells_in(table[["params", "loss"]], ("params", "loss")) is None
    assert cells_in(repeated()[["params", "loss", "seed"]], ("params", "loss")) is None
    best = analysis.frontier(table[["params", "loss"]], "params", "loss")
    assert best["loss"].tolist() == table.groupby("params")["loss"].min().tolist()


@pytest.mark.parametrize("name", ["Name", "run_id"])
def test_a_frontier_of_records_claims_nothing(name):
    table = history(name, runs=12)
    found = analysis.fit_frontier(table, "tokens", "loss", resamples=100)
    assert not found.supported
    assert any("a frontier of records follows the luckiest run" in text for text in found.reasons)
    last = table.loc[table.groupby(name)["tokens"].idxmax()]
    assert not any("records" in t for t in analysis.fit_frontier(last, "params", "loss", resamples=100).warnings)
    one = table[table[name] == "run 3"]
    assert not any("luckiest" in t for t in analysis.fit_frontier(one, "tokens", "loss", resamples=100).warnings)


# repeats


def cells_in(table, names=NAMES, **options):
    clean = measured(table, names, **options).table
    return clean["cell_id"].nunique() if "cell_id" in clean else None


@pytest.mark.parametrize(
    ("change", "cells"),
    [
        (lambda t: t, 20),
        (lambda t: t.rename(columns={"seed": "random_seed"}), 20),
        (lambda t: t.rename(columns={"seed": "replicate"}), 20),
        (lambda t: t.rename(columns={"seed": "trial"}), 20),
        (lambda t: t.assign(Name=[f"r{k}" for k in range(60)]), 20),
        (
            lambda t: t.assign(
                val_accuracy=np.arange(60.0), runtime=np.arange(60.0), host=[f"h{k}" for k in range(60)]
            ),
            20,
        ),
        (lambda t: t.assign(commit=[f"c{k}" for k in range(60)]), 20),
        (lambda t: pd.concat([t.assign(lr=k, loss=t["loss"] * (1 + k)) for k in (0.1, 0.2)]), 40),
        (lambda t: t.assign(family=np.tile(np.repeat(["a", "b"], 10), 3)), 20),
        (lambda t: t[t["seed"] == 0], None),
        (lambda t: t.drop(columns="seed"), 20),
        (lambda t: t.drop(columns="seed").assign(lr=np.repeat([0.1, 0.2, 0.3], 20)), None),
        (lambda t: t.assign(sparsity=np.arange(60.0)), None),  # may have been chosen
        (lambda t: pd.concat([t, t.assign(loss=1.1 * t["loss"])]), None),  # each seed twice: more was varied
    ],
)
def test_runs_that_differ_in_their_seed_alone_are_repeats(change, cells):
    assert cells_in(change(repeated())) == cells


def test_seeds_that_are_not_taken_as_repeats_are_a_caution_and_can_be_named():
    table = repeated().assign(sparsity=np.arange(60.0), design=np.tile(np.arange(20), 3))
    assert cells_in(table) is None
    assert "are not taken as repeats, as more may differ" in measured(table, NAMES).notes[0]
    assert cells_in(table, cell="design") == 20
    assert measured(table, NAMES, cell="design").notes == ()


def test_seeds_without_cells_give_the_noise_of_a_run():
    table = repeated(3, 0.01).assign(flops=np.tile(np.repeat(np.logspace(15, 17, 4), 5), 3))
    options: dict[str, Any] = {"y": "loss", "d": "tokens", "budget": "flops", "resamples": 50}
    found = analysis.fit_isoflop(table, **options)
    assert found.noise == pytest.approx(0.01, rel=0.3)
    assert (
        found.to_dict()
        == analysis.fit_isoflop(table.assign(cell_id=np.tile(np.arange(20), 3)), **options).to_dict()
    )
    assert analysis.average_seeds(table, "loss")["seeds"].tolist() == [3] * 20
