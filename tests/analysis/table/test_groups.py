"""Populations of a table: found by structure, never pooled unless asked, and tested for a common law."""

import json

import numpy as np
import pandas as pd
import pytest

import analysis
from analysis.table import groups

SIZES = np.geomspace(1e3, 1e6, 10)


def curves(exponents, *, noise=0.01, floor=0.05, repeats=2, seed=0, **columns):
    """Rows of y = floor + 2 x^-exponent, one curve for each value of `Task`."""
    rng = np.random.default_rng(seed)
    x = np.repeat(SIZES, repeats)
    parts = [
        pd.DataFrame(
            {
                "examples": x,
                "error": (floor + 2 * x**-e) * np.exp(noise * rng.normal(size=x.size)),
                "Task": task,
                **columns,
            }
        )
        for task, e in exponents.items()
    ]
    return pd.concat(parts, ignore_index=True)


def sweep(rng, better=1.0, *, noise=0.01, budgets=5, sizes=7):
    """Runs of two families on the same isoFLOP grid; family b has `better` times the reducible error of a."""
    rows = []
    for family, factor in (("a", 1.0), ("b", better)):
        for c in np.geomspace(1e15, 1e18, budgets):
            for n in np.sqrt(c / 6) * np.geomspace(0.05, 20, sizes):
                d = c / (6 * n)
                y = 0.05 + factor * (20 * n**-0.35 + 30 * d**-0.35)
                rows.append((family, n, d, c, y * np.exp(noise * rng.normal())))
    return pd.DataFrame(rows, columns=["family", "params", "examples", "flops", "error"])


# which columns split a table


def test_domain_task_and_model_name_the_populations_of_a_published_file():
    frame = curves({"t1": 0.4, "t2": 0.3}).assign(Domain="vision")
    frame = pd.concat([frame.assign(Model=m, error=f * frame["error"]) for m, f in (("vit", 1), ("mix", 2))])
    assert groups.axes(frame, ["examples"], ["error"]) == ("Task", "Model")


@pytest.mark.parametrize(
    "column",
    [
        {"host": ["h1", "h2"]},
        {"Device": ["cpu", "cuda"]},
        {"run_id": ["r1", "r2"]},
        {"my_id": ["r1", "r2"]},
        {"finished_at": ["monday", "tuesday"]},
        {"state": ["done", "diverged"]},
        {"lr": [1e-3, 1e-2]},
    ],
)
def test_identifiers_hosts_times_and_numbers_are_no_populations(column):
    frame = curves({"t": 0.4})
    ((name, values),) = column.items()
    frame[name] = np.resize(values, len(frame))
    assert groups.axes(frame, ["examples"], ["error"]) == ()


def test_labels_of_what_is_fitted_are_no_populations():
    frame = sweep(np.random.default_rng(0)).drop(columns="family")
    frame["model"] = "S-6/Wi-" + frame["params"].round().astype(int).astype(str)
    frame["size"] = np.where(frame["params"] < frame["params"].median(), "small", "large")
    assert groups.axes(frame.drop(columns="size"), ["params", "examples"], ["error"]) == ()
    same = frame.assign(params=frame["params"].rank(method="dense") // 10 * 1e4 + 1e4)
    same["model"] = "S-6/Wi-" + same["params"].astype(int).astype(str)
    assert groups.axes(same.drop(columns="size"), ["flops"], ["error"]) == ()  # sizes compete on a frontier


def test_names_of_runs_with_a_column_of_steps_are_no_populations():
    frame = curves({"t1": 0.4, "t2": 0.4}, repeats=1)
    assert groups.axes(frame, ["examples"], ["error"]) == ("Task",)
    assert groups.axes(frame.assign(_step=frame["examples"]), ["examples"], ["error"]) == ()


def test_a_column_that_others_determine_is_named_once():
    frame = curves({"t1": 0.4, "t2": 0.3}).assign(activation=lambda t: t["Task"].map({"t1": "relu", "t2": "gelu"}))
    assert groups.axes(frame, ["examples"], ["error"]) == ("Task",)


# a fit of populations that differ


def test_curves_of_different_exponents_are_not_pooled():
    frame = curves({"a": 0.42, "b": 0.33, "c": 0.28})
    fit = analysis.fit_power_law(frame, "examples", resamples=200)
    assert not fit.supported
    assert "Task (a, b, c)" in fit.reasons[0]
    assert "fit_by" in fit.reasons[0]
    assert "pool=True" in fit.reasons[0]


def test_pooling_on_request_carries_the_test():
    frame = curves({"a": 0.42, "b": 0.33, "c": 0.28})
    fit = analysis.fit_power_law(frame, "examples", resamples=200, pool=True)
    assert not any("do not share" in text for text in fit.reasons)
    assert any("Task (a, b, c): their laws differ" in text for text in fit.warnings)
    same = analysis.fit_power_law(curves({"a": 0.4, "b": 0.4}), "examples", resamples=200, pool=True)
    assert any("no difference between their laws is seen" in text for text in same.warnings)
    assert same.supported


def test_populations_of_one_law_are_fitted_as_one():
    fit = analysis.fit_power_law(curves({"a": 0.4, "b": 0.4}), "examples", resamples=200)
    assert fit.supported
    assert not any("population" in text for text in fit.warnings)


@pytest.mark.parametrize(
    "fit",
    [
        lambda table, **o: analysis.fit_surface(table, y="error", **o),
        analysis.fit_isoflop,
        analysis.fit_frontier,
        lambda table, **o: analysis.verdict(table, **o).exponent,
    ],
    ids=["surface", "isoflop", "frontier", "verdict"],
)
def test_families_that_differ_are_pooled_by_no_approach(fit):
    table = sweep(np.random.default_rng(1), better=1.5)
    for options, expected in (({}, True), ({"pool": True}, False)):
        reasons = fit(table, resamples=100, **options).reasons
        assert any("family (a, b)" in text for text in reasons) is expected
    assert not any("family" in text for text in fit(table[table["family"] == "a"], resamples=100).reasons)


def test_no_budget_is_spent_by_a_law_of_populations_that_do_not_share_it():
    table = sweep(np.random.default_rng(1), better=1.5)
    for fit in (analysis.fit_surface(table, y="error", resamples=100), analysis.fit_isoflop(table, resamples=100)):
        with pytest.raises(analysis.FitError, match=r"family \(a, b\).* fit each .analysis.fit_by, --by."):
            analysis.allocate(fit, 1e17)
    with pytest.raises(analysis.FitError, match=r"family \(a, b\)"):
        analysis.suggest(table, 1e17)
    pooled = analysis.fit_surface(table, y="error", resamples=100, pool=True)
    assert any("their laws differ" in text for text in analysis.allocate(pooled, 1e17).warnings)


@pytest.mark.slow
@pytest.mark.parametrize("approach", ["surface", "isoflop", "frontier"])
def test_one_population_under_two_names_is_refused_in_at_most_5_percent(approach):
    rng, refused, sets = np.random.default_rng(2), 0, 150
    for _ in range(sets):
        table = sweep(rng, noise=0.02)
        fits = {
            "surface": lambda table=table: analysis.fit_surface(table, y="error", resamples=0),
            "isoflop": lambda table=table: analysis.fit_isoflop(table, resamples=0),
            "frontier": lambda table=table: analysis.fit_frontier(table, resamples=0),
        }
        refused += any("do not share" in text for text in fits[approach]().reasons)
    assert refused <= 0.05 * sets


def test_the_test_of_a_common_law_is_calibrated():
    rng = np.random.default_rng(3)
    x = np.log(np.repeat(SIZES, 3))
    basis, group = np.stack([np.ones(x.size), x, x**2]), np.arange(x.size) % 2
    cluster = np.arange(x.size)
    p = np.array([groups.share_law(rng.normal(size=x.size), basis, group, cluster) for _ in range(300)])
    assert 0.0 < np.mean(p < 0.05) <= 0.06
    assert 0.4 <= np.median(p) <= 0.6
    told = [groups.share_law(rng.normal(size=x.size) + 3 * group, basis, group, cluster) for _ in range(20)]
    assert np.max(told) < 0.01


def test_records_of_a_run_count_once_in_the_test():
    rng, x = np.random.default_rng(4), np.log(np.tile(SIZES, 12))
    run, basis = np.repeat(np.arange(12), SIZES.size), np.stack([np.ones(x.size), x])
    group = run % 2
    shared = [rng.normal(size=12)[run] + 0.1 * rng.normal(size=x.size) for _ in range(100)]
    by_run = np.mean([groups.share_law(r, basis, group, run) < 0.05 for r in shared])
    by_row = np.mean([groups.share_law(r, basis, group, np.arange(x.size)) < 0.05 for r in shared])
    assert by_run <= 0.12
    assert by_row >= 0.4  # what counting every record would give


# a law for each population


def test_fit_by_gives_each_curve_its_own_law():
    frame = curves({"a": 0.42, "b": 0.33, "c": 0.28})
    fits = analysis.fit_by(analysis.fit_power_law, frame, x="examples", resamples=300)
    for task, planted in (("a", 0.42), ("b", 0.33), ("c", 0.28)):
        low, high = fits[task].intervals["exponent"]
        assert low - 0.003 <= planted <= high + 0.003
        assert high - low < 0.05
    assert fits.columns == ("Task",)
    assert fits.exponents["exponent"] < 1e-6
    assert {(("a",), ("b",)), (("b",), ("c",))} <= set(fits.apart["exponent"])
    assert "the groups do not share exponent" in fits.summary()
    entries = json.loads(json.dumps(fits.to_dict()))["groups"]
    assert [entry["values"] for entry in entries] == [{"Task": "a"}, {"Task": "b"}, {"Task": "c"}]
    assert "Task a" in fits._repr_html_()


def test_a_group_without_a_law_says_why_and_the_others_stay():
    frame = pd.concat([curves({"a": 0.4}), curves({"few": 0.4}).iloc[:2]])
    fits = analysis.fit_by(analysis.fit_power_law, frame, "Task", x="examples", resamples=100)
    assert set(fits.results) == {("a",)}
    assert "distinct" in fits.why_not["few",]
    assert "few (2 rows)\n  no answer: found" in fits.summary()
    with pytest.raises(KeyError, match="found 1 distinct"):
        fits["few"]
    with pytest.raises(KeyError, match="no group b; the groups are"):
        fits["b"]


@pytest.mark.parametrize("form", [list, tuple, np.array])
def test_a_column_of_lists_names_groups_as_text(form):
    frame = pd.concat([curves({"a": 0.4}), curves({"b": 0.3})], ignore_index=True)
    frame["sweeps"] = [form(["one", "two"]) if task == "a" else form(["two"]) for task in frame["Task"]]
    fits = analysis.fit_by(analysis.fit_power_law, frame, "sweeps", x="examples", resamples=50)
    assert set(fits.results) == {("one, two",), ("two",)}
    two = analysis.compare(frame, "sweeps", "examples", resamples=50)
    assert two.names == ("one, two", "two")
    assert two.fits[0].exponent == pytest.approx(0.4, rel=0.1)


@pytest.mark.parametrize("groups", [None, "Task"])
def test_no_rows_are_one_group_without_a_law_or_no_group(groups):
    none = curves({"a": 0.4}).iloc[:0]
    if groups:
        assert analysis.fit_by(analysis.fit_power_law, none, groups, x="examples").rows == {}
        return
    with pytest.raises(ValueError, match="no row has a finite 'error', of 0 rows"):
        analysis.fit_by(analysis.fit_power_law, none, x="examples")


def test_a_mistake_in_every_group_is_raised():
    with pytest.raises(ValueError, match="no column 'Tsk'; did you mean 'Task'"):
        analysis.fit_by(analysis.fit_law, curves({"a": 0.4}), "Tsk")
    with pytest.raises(TypeError, match="unknown option 'lss'"):
        analysis.fit_by(analysis.fit_law, curves({"a": 0.4}), "Task", lss="huber")
    with pytest.raises(ValueError, match="level is 2"):
        analysis.fit_by(analysis.fit_law, curves({"a": 0.4, "b": 0.4}), level=2)


def test_a_table_of_one_population_is_one_group():
    fits = analysis.fit_by(analysis.fit_power_law, curves({"a": 0.4}), x="examples", resamples=100)
    assert fits.columns == ()
    assert fits.exponents == {}
    assert fits[()].supported


def test_fit_by_serves_isoflop_minima_and_verdicts():
    table = sweep(np.random.default_rng(5), better=1.5)
    minima = analysis.fit_by(analysis.fit_isoflop, table, resamples=100)
    assert set(minima.exponents) == {"n_exponent", "d_exponent"}
    assert minima.exponents["n_exponent"] > 0.01  # the same planted exponents
    claims = analysis.fit_by(analysis.verdict, table, resamples=50)
    assert {group: claim.exponent.name for group, claim in claims.results.items()} == {
        ("a",): "exponent",
        ("b",): "exponent",
    }


@pytest.mark.slow
def test_equal_exponents_are_told_apart_in_about_5_percent():
    p = [
        analysis.fit_by(
            analysis.fit_power_law,
            curves({"a": 0.33, "b": 0.33, "c": 0.33}, seed=k),
            x="examples",
            resamples=200,
        ).exponents.get("exponent", np.nan)
        for k in range(200)
    ]
    assert np.nanmean(np.array(p) < 0.05) <= 0.08
    different = [
        analysis.fit_by(
            analysis.fit_power_law, curves({"a": 0.42, "b": 0.33, "c": 0.28}, seed=k), x="examples", resamples=200
        ).exponents["exponent"]
        for k in range(20)
    ]
    assert np.max(different) < 0.05
