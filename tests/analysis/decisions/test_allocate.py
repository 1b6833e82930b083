from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis import FitError, allocate, fit_forms, fit_isoflop, fit_surface, optimum
from analysis.decisions.reach import SAME, too_far
from analysis.numbers import short
from tests.analysis.planted_curves import isoflop
from tests.analysis.planted_curves import optimum as planted
from tests.analysis.planted_forms import table

WIDTHS = np.array([16, 32, 64, 128, 256, 512, 1024, 2048])


def family():
    body = 50 * WIDTHS**2
    params = 3072 * WIDTHS + body
    names = [f"B-6/Wi-{width}" for width in WIDTHS]
    frame = {"model": names, "params": params, "params_body": body, "flops_per_example": 6.0 * params}
    return pd.DataFrame(frame)


def surface(resamples=100, **options):
    return fit_surface(isoflop(**options), y="error", resamples=resamples)


def test_optimum_of_a_planted_surface_is_what_is_allocated():
    spent = allocate(surface(resamples=0), 1e15)
    assert (spent.params.value, spent.examples.value) == pytest.approx(planted(1e15), rel=1e-4)
    assert spent.counts["exponent"][0] == pytest.approx(0.3 / 0.64, abs=1e-4)
    assert spent.lowest.value == pytest.approx(surface(resamples=0).predict(*planted(1e15))["y"][0], rel=1e-6)


@pytest.mark.slow
def test_intervals_cover_the_planted_optimum():
    params, examples = planted(3e15)
    found = [allocate(surface(noise=0.01, seed=k), 3e15) for k in range(16)]
    assert np.mean([a.params.covers(params) and a.examples.covers(examples) for a in found]) >= 0.85


def test_the_best_model_that_can_be_built_is_named_first_and_costs_the_budget():
    fit, models = surface(noise=0.01), family()
    spent = allocate(fit, 1e14, candidates=models)
    best = spent.models.iloc[0]
    assert best["params"] * 6 * best["examples"] == pytest.approx(1e14)
    y = fit.predict(models["params"].to_numpy(), 1e14 / models["flops_per_example"].to_numpy())["y"]
    assert best["model"] == models["model"][y.argmin()]
    assert spent.models["y"].is_monotonic_increasing
    assert spent.models["share"].sum() <= 1 + 1e-9
    assert best["model"] in str(spent)


def test_body_params_are_converted_and_seem_to_grow_faster():
    spent = allocate(surface(noise=0.01), 1e14, candidates=family())
    counts = spent.counts.set_index("count")
    near = np.interp(spent.params.value, family()["params"], family()["params_body"])
    assert counts.loc["params_body", "value"] == pytest.approx(near, rel=0.1)
    assert counts["exponent"]["params_body"] > 1.1 * counts["exponent"]["params"]
    assert counts["low"]["params_body"] < counts["value"]["params_body"] < counts["high"]["params_body"]


def test_fitted_rows_serve_for_counts_where_there_are_no_candidates():
    table = isoflop().assign(params_body=lambda t: 0.1 * t["params"] ** 1.1)
    counts = allocate(fit_surface(table, y="error", resamples=0), 1e14).counts.set_index("count")
    assert counts.loc["params_body", "value"] == pytest.approx(0.1 * counts.loc["params", "value"] ** 1.1)
    assert counts.loc["params_body", "exponent"] == pytest.approx(1.1 * counts.loc["params", "exponent"])


def test_an_isoflop_fit_allocates_along_its_lines():
    fit = fit_isoflop(isoflop(noise=0.003, seeds=2, sizes=12), resamples=100)
    spent = allocate(fit, 1e14, candidates=family())
    line = fit.predict(1e14).iloc[0]
    assert (spent.params.value, spent.examples.value) == pytest.approx((line["n"], line["d"]))
    assert (spent.params.low, spent.params.high) == pytest.approx((line["n_low"], line["n_high"]))
    assert abs(np.log(spent.models["params"][0] / line["n"])) == pytest.approx(
        np.abs(np.log(family()["params"] / line["n"])).min()
    )
    json.dumps(spent.to_dict(), allow_nan=False)


def test_extrapolation_and_assumptions_are_said():
    table = isoflop(noise=0.003)
    far = allocate(fit_surface(table, y="error", resamples=50), 6e17)
    assert far.reach == pytest.approx(1e3)
    assert any("extrapolates to 1000 x the largest fitted compute" in text for text in far.warnings)
    assert any("lies outside the fitted range" in text for text in far.warnings)
    bare = allocate(fit_surface(table.drop(columns="flops"), y="error", resamples=0), 1e14)
    assert "no column 'flops': FLOPs per example are taken as 6 params" in bare.warnings
    assert json.loads(json.dumps(far.to_dict(), allow_nan=False))["reach"] == pytest.approx(1e3)


def test_what_cannot_be_allocated_is_refused():
    with pytest.raises(ValueError, match="budget is 0; expected a number > 0"):
        allocate(surface(0), 0)
    with pytest.raises(ValueError, match="no column 'flops_per_example'"):
        allocate(surface(0), 1e14, candidates=family().drop(columns="flops_per_example"))
    table = isoflop()
    flat = fit_surface(table.assign(error=0.1 + (table["examples"] / 1e5) ** -0.3), y="error", resamples=0)
    with pytest.raises(FitError, match="no lowest point"):
        allocate(flat, 1e14)
    with pytest.raises(FitError, match="no optimum: 2 of 2 budgets have a minimum"):
        allocate(fit_isoflop(isoflop(budgets=2), resamples=20), 1e14)
    with pytest.raises(ValueError, match="a larger size must cost more"):
        allocate(fit_surface(table.assign(flops=table["examples"]), y="error", resamples=0), 1e14)


def test_few_distinct_examples_are_worth_a_larger_model_and_a_law_must_know_of_them():
    rng, rows = np.random.default_rng(0), []
    for n in np.geomspace(1e5, 1e7, 6):
        for unique in np.geomspace(1e5, 1e7, 4):
            for epochs in (1, 3, 10, 40):
                worth = unique * (1 + 6 * -np.expm1(-(epochs - 1) / 6))
                error = 0.05 + 0.2 * (n / 1e6) ** -0.34 + 0.2 * (worth / 1e6) ** -0.3
                rows.append({"params": n, "dataset_size": unique, "examples": unique * epochs, "error": error})
    table = pd.DataFrame(rows)
    table["error"] *= np.exp(0.002 * rng.normal(size=len(table)))
    fit = fit_surface(table, y="error", law="repeated-examples", resamples=30)
    plenty, few = (allocate(fit, 1e14, dataset_size=size) for size in (1e12, 1e6))
    assert plenty.params.value == pytest.approx(planted(1e14)[0], rel=0.1)
    assert few.params.value > 1.3 * plenty.params.value
    assert few.lowest.value > plenty.lowest.value
    assert few.params.value * few.examples.value * 6 == pytest.approx(1e14)
    with pytest.raises(ValueError, match="'repeated-examples' needs a dataset_size"):
        allocate(fit, 1e14)
    with pytest.raises(ValueError, match="'chinchilla' has no input dataset_size"):
        allocate(surface(0), 1e14, dataset_size=1e6)


def test_any_surface_of_params_and_examples_can_be_allocated():
    spent = allocate(fit_surface(isoflop(floor=0.0), y="error", law="kaplan", resamples=20), 1e14)
    n = spent.params.value
    assert spent.params.low <= n <= spent.params.high
    assert n * spent.examples.value * 6 == pytest.approx(1e14)


def test_forms_that_are_not_ruled_out_share_the_interval_and_one_that_is_gives_way():
    runs = table("additive", noise=0.01, seed=1)
    fit = fit_surface(runs, y="error", resamples=100)
    spent, parts = allocate(fit, 1e17), [optimum(form, 1e17) for form in fit.alternatives.values()]
    assert len(parts) > 1
    assert spent.params.value == parts[0].n.value
    assert spent.params.low == min(part.n.low for part in parts)
    assert spent.params.high == max(part.n.high for part in parts)
    assert allocate(fit_forms(runs, y="error", resamples=100), 1e17).params.low == spent.params.low
    sharp = table("sharp", noise=0.003, seed=1)
    additive, coupled = (fit_surface(sharp, y="error", law=law, resamples=100) for law in ("chinchilla", "coupled"))
    told = allocate(additive, 1e17)
    assert told.params.value == pytest.approx(allocate(coupled, 1e17).params.value)
    assert not told.reasons
    assert "the form 'chinchilla' is ruled out: 'coupled' takes its place" in told.warnings


# out of reach


@pytest.mark.parametrize(("budget", "side"), [(1.0, "below the smallest"), (1e300, "above the largest")])
@pytest.mark.parametrize("by", ["surface", "isoflop"])
def test_no_budget_far_outside_the_fitted_runs_is_allocated(budget, side, by):
    table = isoflop(noise=0.003, seeds=2, sizes=12)
    fit = fit_surface(table, y="error", resamples=50) if by == "surface" else fit_isoflop(table, resamples=50)
    assert fit.supported
    spent = allocate(fit, budget)
    assert not spent.supported
    assert side in spent.reasons[0]
    assert "(6e11 to 6e14)" in spent.reasons[0]
    assert f"not supported: FLOPs {short(budget)} lies" in str(spent)
    json.dumps(spent.to_dict(), allow_nan=False)


@pytest.mark.parametrize("sign", [1, -1])
@given(low=st.floats(1e-3, 1e20), span=st.floats(3.0, 1e9), share=st.floats(0.0, 3.0))
def test_a_claim_reaches_as_far_as_the_root_of_the_range_and_the_runs_it_needs_bring_it_within(
    low, span, share, sign
):
    values = low * np.array([1.0, span])
    at = (values[1] if sign > 0 else values[0]) * span ** (sign * share)
    reasons = too_far("flops", at, values)
    assert bool(reasons) == (share * np.log(span) > np.log(SAME) + 0.5 * np.log(span))
    if reasons:
        needed = float(reasons[0].rpartition(" ")[2])
        assert not too_far("flops", at, np.append(values, needed))
        assert too_far("flops", at, np.append(values, needed / 1.5**sign))
    assert not too_far("flops", low * span**0.5, values)


def test_an_optimum_far_outside_the_fitted_sizes_is_not_claimed_within_the_fitted_compute():
    small = isoflop(noise=0.003, off=0.003, decades=1.0)
    fit = fit_surface(small, y="error", resamples=50)
    spent = allocate(fit, 1e14)
    assert spent.reach < 1
    assert any(text.startswith("params ") and "above the largest" in text for text in spent.reasons)


def test_distinct_examples_that_nobody_trained_on_are_out_of_reach_only_where_they_are_repeated():
    rng, rows = np.random.default_rng(0), []
    for n in np.geomspace(1e5, 1e7, 5):
        for unique in np.geomspace(1e5, 1e7, 4):
            rows += [(n, unique, unique * epochs) for epochs in (1, 4, 16)]
    table = pd.DataFrame(rows, columns=["params", "dataset_size", "examples"])
    worth = table["dataset_size"] * (1 + 6 * -np.expm1(-(table["examples"] / table["dataset_size"] - 1) / 6))
    table["error"] = 0.05 + 0.2 * (table["params"] / 1e6) ** -0.34 + 0.2 * (worth / 1e6) ** -0.3
    table["error"] *= np.exp(0.002 * rng.normal(size=len(table)))
    fit = fit_surface(table, y="error", law="repeated-examples", resamples=20)
    assert not [text for text in allocate(fit, 1e14, dataset_size=1e12).reasons if text.startswith("dataset_size")]
    assert [text for text in allocate(fit, 1e14, dataset_size=1e3).reasons if text.startswith("dataset_size 1000")]
