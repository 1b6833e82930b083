"""Finished runs, each once, enter a fit; what is left out is said."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import analysis
from analysis.table.rows import measured

NAMES = ("params", "tokens", "loss")


def law(n, d):
    return 1.7 + 400 * n**-0.34 + 410 * d**-0.28


def grid(noise=0.01, seed=1):
    n, d = (axis.ravel() for axis in np.meshgrid(np.logspace(6, 8, 5), np.logspace(8, 10, 4)))
    luck = np.random.default_rng(seed).normal(0, noise, n.size)
    return pd.DataFrame({"params": n, "tokens": d, "loss": law(n, d) * np.exp(luck)})


def repeated(seeds=3, noise=0.005, first=0):
    return pd.concat([grid(noise, first + k).assign(seed=k) for k in range(seeds)], ignore_index=True)


def rows_of(table, names=NAMES, **options):
    return measured(table, names, **options)


# states


@pytest.mark.parametrize(
    ("column", "done", "others"),
    [
        ("state", "done", ["diverged", "failed", "pruned", "blocked"]),
        ("State", "finished", ["crashed", "running", "killed", "failed"]),  # Weights & Biases
        ("status", "FINISHED", ["FAILED", "RUNNING", "KILLED", "SCHEDULED"]),  # MLflow
        ("state", "COMPLETE", ["PRUNED", "FAIL", "WAITING", None]),  # Optuna
    ],
)
def test_rows_of_runs_that_are_not_done_are_left_out_and_counted(column, done, others):
    table = grid().assign(**{column: [*others, *[done] * 16]})
    table.loc[:3, "loss"] = 0.9
    rows = rows_of(table)
    pd.testing.assert_frame_equal(rows.table[list(NAMES)], grid()[4:].reset_index(drop=True))
    assert rows.notes[0].startswith("4 of 20 rows are of runs that are not done (")


@pytest.mark.parametrize("state", ["CA", 3, None])
def test_a_state_that_is_not_that_of_a_run_is_left_alone(state):
    rows = rows_of(grid().assign(state=state))
    assert len(rows.table) == 20
    assert rows.notes == ()


def test_a_table_without_a_finished_run_is_refused():
    with pytest.raises(ValueError, match=r"no run is done \(queued 20\)"):
        rows_of(grid().assign(state="queued"))


FITS = {
    "surface": lambda t: analysis.fit_surface(t, *NAMES, resamples=50).to_dict(),
    "power law": lambda t: analysis.fit_power_law(t, "tokens", "loss", resamples=50).to_dict(),
    "law": lambda t: analysis.fit_law(t, "tokens", "loss", law="power", resamples=50).to_dict(),
    "frontier": lambda t: analysis.fit_frontier(t, "tokens", "loss", kind="each", resamples=50).to_dict(),
    "laws": lambda t: {"evidence": analysis.fit_laws(t, "params", "loss", resamples=0).evidence},
    "isoflop": lambda t: analysis.fit_isoflop(t, y="loss", d="tokens", budget="flops", resamples=50).to_dict(),
    "average": lambda t: {"rows": analysis.average_seeds(t, "loss").drop(columns="loss_sd").to_dict("records")},
}


@pytest.mark.parametrize("fit", FITS)
def test_no_fit_looks_at_a_run_that_diverged(fit):
    done = grid().assign(state="done")
    done["flops"] = np.repeat(np.logspace(15, 17, 4), 5)
    diverged = done[::3].assign(state="diverged", loss=9.0)
    alone, beside = (FITS[fit](t) for t in (done, pd.concat([diverged, done], ignore_index=True)))
    assert beside.pop("warnings", None) != alone.pop("warnings", None) or fit in ("laws", "average")
    assert beside == alone


# copies


@pytest.mark.parametrize("name", ["run_id", "Run ID", "Name", "uid", "trial"])
@pytest.mark.parametrize("times", [2, 3])
def test_a_run_that_is_there_several_times_counts_once(name, times):
    once = grid().assign(**{name: [f"r{k}" for k in range(20)]})
    table = pd.concat([once.assign(sweep=f"s{k}", sweeps=[["s"]] * 20) for k in range(times)])
    rows = rows_of(table)
    pd.testing.assert_frame_equal(rows.table[list(NAMES)], once[list(NAMES)])
    copies = f"{20 * (times - 1)} of {20 * times} rows"
    assert rows.notes == (f"{copies} repeat a run that has a row already (a run of two sweeps, say): counted once",)


def test_runs_of_one_name_with_other_values_are_all_kept():
    table = pd.concat([grid(seed=k).assign(name=["a", "b"] * 10) for k in range(2)])
    assert len(rows_of(table).table) == 40


@pytest.mark.parametrize("times", [2, 3])
@pytest.mark.parametrize("single", [grid, lambda: repeated().drop(columns="seed")])
def test_a_table_that_was_exported_several_times_has_the_intervals_of_one_export(single, times):
    fits = [analysis.fit_surface(t, *NAMES, resamples=100) for t in (single(), pd.concat([single()] * times))]
    assert fits[0].intervals == fits[1].intervals
    assert any("are duplicates, equal in every column: counted once" in text for text in fits[1].warnings)


def test_a_part_that_was_exported_twice_counts_once():
    for single in (grid(), repeated().drop(columns="seed")):
        assert len(rows_of(pd.concat([single, single[5:15]])).table) == len(single)


@pytest.mark.parametrize("noise", [0.002, 0.005, 0.01])
def test_repeats_that_rounding_made_equal_are_kept(noise):
    for first in range(0, 50, 5):
        table = repeated(5, noise, first).drop(columns="seed").round({"loss": 2})
        equal = int(table.duplicated().sum())
        rows = rows_of(table)
        assert equal > 3
        assert len(rows.table) == len(table)
        assert any(f"{equal} of 100 rows are equal in every column, as often as" in text for text in rows.notes)
        assert len(rows_of(pd.concat([table, table])).table) == 100 - equal


def test_a_column_of_seeds_keeps_equal_repeats():
    table = pd.concat([grid().assign(seed=k) for k in range(3)])
    assert len(rows_of(table).table) == 60
    assert len(rows_of(table.drop(columns="seed")).table) == 20


# repeats that are all equal


def equal_repeats():
    table = pd.concat([grid().assign(seed=k) for k in range(3)], ignore_index=True)
    budget = np.tile(np.repeat(np.logspace(15, 17, 4), 5), 3)
    n = np.sqrt(budget / 120) * np.tile([0.25, 0.5, 1, 2, 4], 12)
    luck = np.tile(np.random.default_rng(0).normal(0, 0.002, 20), 3)
    return table.assign(params=n, tokens=budget / 6 / n, flops=budget, loss=law(n, budget / 6 / n) * np.exp(luck))


@pytest.mark.parametrize("method", ["akima", "parabola", "joint"])
def test_repeats_that_are_exactly_equal_tell_no_noise(method):
    fit = analysis.fit_isoflop(equal_repeats(), y="loss", d="tokens", budget="flops", method=method, resamples=100)
    assert not fit.supported
    assert "the noise of a run is not known, so there are no intervals" in fit.reasons
    assert any(text.startswith("repeats are exactly equal") for text in fit.warnings)
    assert not any("x as much as their noise" in text for text in fit.warnings)


def test_equal_repeats_of_a_surface_are_one_unit():
    fits = [analysis.fit_surface(t, *NAMES, resamples=100) for t in (equal_repeats()[:20], equal_repeats())]
    assert [fit.n_clusters for fit in fits] == [20, 20]
    low, high = fits[0].intervals["alpha"]
    assert fits[1].intervals["alpha"][1] - fits[1].intervals["alpha"][0] == pytest.approx(high - low, rel=0.2)
    assert any("repeats are exactly equal and count as one run" in text for text in fits[1].warnings)


def test_equal_repeats_cannot_be_resampled_by_seed():
    with pytest.raises(ValueError, match=r"by is 'seed' and the repeats of every cell have exactly equal 'loss'"):
        analysis.fit_surface(equal_repeats(), *NAMES, by="seed")
    some = equal_repeats()
    some.loc[0, "loss"] *= 1.01
    assert analysis.fit_surface(some, *NAMES, by="seed", resamples=50).n == 60


def test_the_rows_are_those_of_a_table_of_lists_and_of_a_dict():
    lists = grid().assign(tags=[["a", "b"]] * 20)
    assert len(rows_of(pd.concat([lists, lists])).table) == 20
    assert len(rows_of({name: grid()[name].tolist() * 2 for name in NAMES}).table) == 20


WITHOUT_HASH = {
    "dict": {"width": 64},
    "array": np.array(["a", "b"]),  # a list, read back from parquet
    "set": {"a"},
    "nested list": [["a"], {"width": 64}],
}


@pytest.mark.parametrize("fit", FITS)
def test_columns_of_any_objects_leave_every_fit_as_it_is(fit):
    plain = repeated().assign(flops=np.tile(np.repeat(np.logspace(15, 17, 4), 5), 3), run_id=range(60))
    others = {name: [value] * 60 for name, value in WITHOUT_HASH.items()}
    told = FITS[fit](plain.assign(**others))
    assert str(told) == str(FITS[fit](plain)) or fit == "average"


@pytest.mark.parametrize("fit", sorted({*FITS} - {"average"}))
@pytest.mark.parametrize("values", [np.nan, np.inf, None])
def test_a_table_without_a_finite_measurement_is_refused(fit, values):
    table = grid().assign(flops=np.repeat(np.logspace(15, 17, 4), 5), loss=values)
    with pytest.raises(ValueError, match="no row has a finite 'loss', of 20 rows"):
        FITS[fit](table)
    with pytest.raises(ValueError, match="no row has a finite 'loss', of 0 rows"):
        FITS[fit](table.iloc[:0])


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (pd.Series(pd.to_datetime(["2026-01-01"] * 20)), "has type datetime64"),
        (pd.Series(pd.to_timedelta(range(20), unit="s")), "has type timedelta64"),
        (np.full(20, 1 + 2j), "has type complex128"),
        (pd.Series([True, False] * 10, dtype="object"), "holds booleans"),
    ],
)
@pytest.mark.parametrize("name", ["params", "loss"])
def test_dates_complex_numbers_and_truth_values_are_not_numbers(name, values, kind):
    with pytest.raises(ValueError, match=f"column '{name}' {kind}.*; expected numbers"):
        rows_of(grid().assign(**{name: values}))


def test_a_run_whose_y_is_0_is_named_where_it_is_left_out():
    table = grid().assign(run_id=lambda t: "r" + t.index.astype(str))
    table.loc[4, "loss"] = 0.0
    (note,) = [text for text in measured(table, NAMES).notes if "is 0" in text]
    assert note.startswith("loss is 0 in 1 of 20 rows (run r4), which has no logarithm: left out")
