from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from analysis import FitError, fit_surface, suggest
from analysis.decisions.information import Mixture, gradients, inform, places
from tests.analysis.planted_curves import isoflop
from tests.analysis.planted_forms import table, truth, value


def first(**options):
    return isoflop(**{"noise": 0.01, "budgets": 4, "sizes": 5, "high": 6e13, **options})


def after(table, runs, noise, seed):
    """The table with the suggested runs made on the planted surface."""
    n, d = (np.repeat(runs[name].to_numpy(), runs["seeds"]) for name in ("params", "examples"))
    error = 0.05 + 0.2 * (n / 1e6) ** -0.34 + 0.2 * (d / 1e6) ** -0.3
    error *= np.exp(noise * np.random.default_rng(seed).normal(size=n.size))
    made = pd.DataFrame({"params": n, "examples": d, "error": error})
    return pd.concat([table[["params", "examples", "error"]], made], ignore_index=True)


def test_information_is_the_inverse_covariance_of_a_least_squares_fit():
    table = first(noise=0.0)
    truth = fit_surface(table, y="error", resamples=0)
    values = []
    for seed in range(80):
        luck = 0.003 * np.random.default_rng(seed).normal(size=len(table))
        noisy = table.assign(error=table["error"] * np.exp(luck))
        values.append(fit_surface(noisy, y="error", loss="squares", resamples=0)["params_exponent"])
    fit = fit_surface(table.assign(error=table["error"] * np.exp(luck)), y="error", loss="squares", resamples=0)

    def exponent(theta):
        alpha, beta = np.exp(theta[:, 0]), np.exp(theta[:, 2])
        return beta / (alpha + beta)

    found = inform(fit, exponent)
    sd = 0.003 / found.sigma * np.sqrt(found.variance()[0])
    assert sd == pytest.approx(np.std(values), rel=0.3)
    assert truth["params_exponent"] == pytest.approx(0.3 / 0.64, rel=1e-6)


def test_gain_of_a_run_is_the_drop_of_the_variance_and_taking_it_out_undoes_it():
    fit = fit_surface(first(), y="error", resamples=20)
    known = inform(fit, lambda theta: theta[:, 0])
    slopes = gradients(fit, places(fit), np.array([1e5, 1e7]), np.array([1e7, 1e5]))
    more = known.after(slopes[:, 1])
    drop = np.log(known.variance()) - np.log(more.variance())
    assert known.gains(slopes)[1] == pytest.approx(drop.mean(), rel=1e-6)
    assert more.after(slopes[:, 1], sign=-1.0).variance() == pytest.approx(known.variance(), rel=1e-6)


@pytest.mark.parametrize("target", ["exponent", "optimum", "error"])
def test_suggested_runs_keep_to_the_limits_and_promise_a_narrower_interval(target):
    table = first()
    told = suggest(table, 2e14, target, most=15, repeats=2)
    assert told.runs["flops"].mul(told.runs["seeds"]).sum() == pytest.approx(told.spent)
    assert told.spent <= 2e14
    assert told.runs["seeds"].max() <= 2
    assert told.runs["seeds"].sum() <= 15
    assert told.now.low < told.expected[0] < told.now.value < told.expected[1] < told.now.high
    assert told.narrows < 0.8
    assert np.all(told.runs["narrows"] < 1)
    json.dumps(told.to_dict(), allow_nan=False)


def test_more_flops_settle_more():
    widths = [suggest(first(), budget, most=60).narrows for budget in (1e13, 1e14, 1e15)]
    assert widths[0] > widths[1] > widths[2]


def test_what_is_promised_is_what_comes():
    ratios = []
    for seed in range(5):
        table = first(seed=seed)
        told = suggest(table, 1e15)
        fit = fit_surface(after(table, told.runs, 0.01, seed), y="error", resamples=200)
        low, high = fit.intervals["params_exponent"]
        ratios.append((high - low) / (told.expected[1] - told.expected[0]))
    assert 0.6 < np.median(ratios) < 1.5


@pytest.mark.slow
def test_suggested_runs_beat_random_ones_of_equal_cost():
    errors = {"suggested": [], "random": []}
    for seed in range(8):
        table, rng = first(seed=seed), np.random.default_rng(seed)
        told = suggest(table, 1e15).runs
        cheap = pd.DataFrame(
            np.exp(rng.uniform(np.log(2e4), np.log(2e8), (400, 2))), columns=["params", "examples"]
        )
        cheap = cheap[6 * cheap["params"] * cheap["examples"] <= 2e14].assign(seeds=1)
        cost = (6 * cheap["params"] * cheap["examples"]).cumsum()
        for name, runs in (("suggested", told), ("random", cheap[cost <= 1e15].head(24))):
            fit = fit_surface(after(table, runs, 0.01, seed), y="error", resamples=0)
            errors[name].append(fit["params_exponent"] - 0.3 / 0.64)
    assert np.sqrt(np.mean(np.square(errors["suggested"]))) < 0.8 * np.sqrt(np.mean(np.square(errors["random"])))


def test_candidates_that_can_be_run_keep_their_names():
    table = first()
    models = pd.DataFrame(
        {"model": ["small", "large", "dear"], "params": [1e5, 1e7, 1e7], "examples": [1e7, 1e6, 1e10]}
    )
    models["flops"] = 6 * models["params"] * models["examples"]
    told = suggest(table, 1e15, candidates=models)
    assert set(told.runs["model"]) <= {"small", "large"}
    assert "model small" in str(told) or "model large" in str(told)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": "slope"}, "target is 'slope'; expected 'error', 'exponent' or 'optimum'"),
        ({"budget": 0}, "budget is 0; expected a number > 0"),
        ({"budget": 1.0}, "no candidate costs at most 1 FLOPs"),
    ],
)
def test_senseless_questions_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        suggest(first(), **{"budget": 1e14, **options})


def test_runs_without_a_surface_have_nothing_to_learn_more_of():
    table = first()
    with pytest.raises(FitError, match=r"do not determine .* of the law"):
        suggest(table.assign(error=0.1 + (table["examples"] / 1e5) ** -0.3), 1e14)


def test_forms_that_are_not_ruled_out_are_averaged_and_none_that_is():
    told = suggest(table("additive", 0.01, seed=1), 1e17)
    assert {"chinchilla", "coupled"} <= set(told.forms)
    assert sum(told.forms.values()) == pytest.approx(1.0)
    assert "chinchilla (0." in str(told)
    sharp = suggest(table("sharp", 0.003, seed=1), 1e17)
    assert list(sharp.forms) == ["coupled"]
    assert sharp.now.covers(truth("sharp")["params_exponent"])


def test_a_form_without_a_ceiling_is_learnt_from_all_the_same():
    runs = table("overfitted", seed=1)
    p = truth("overfitted") | {"ceiling": 1e9}
    n, d = runs["params"] / 1e6, runs["examples"] / 1e7
    rising = 0.05 * n ** p["gamma"] * d ** -p["delta"]
    error = p["floor"] + 0.5 * n ** -p["alpha"] + 0.4 * d ** -p["beta"] + rising
    luck = np.exp(0.003 * np.random.default_rng(1).normal(size=len(runs)))
    told = suggest(runs.assign(error=error * luck), 1e17)
    assert next(iter(told.forms)) == "overfitted"
    assert 0 < told.narrows < 1


def test_a_mixture_gains_what_its_parts_gain_on_average():
    fit = fit_surface(first(), y="error", resamples=20)
    known = inform(fit, lambda theta: theta[:, 0])
    other = inform(fit, lambda theta: theta[:, 2])
    slopes = gradients(fit, places(fit), np.array([1e5, 1e7]), np.array([1e7, 1e5]))
    both = Mixture((known, other), (slopes, slopes), np.array([0.25, 0.75]))
    assert both.gains() == pytest.approx(0.25 * known.gains(slopes) + 0.75 * other.gains(slopes))
    more = both.after(1)
    assert both.spread() - more.spread() == pytest.approx(both.gains()[1], rel=1e-6)
    assert 0 < more.narrower(both) < 1
    assert more.after(1, sign=-1.0).spread() == pytest.approx(both.spread(), rel=1e-6)


@pytest.mark.slow
def test_suggested_runs_serve_a_coupled_surface_better_than_random_ones_of_equal_cost():
    errors = {"suggested": [], "random": []}
    for seed in range(10):
        runs, rng = table("coupled", 0.01, seed, levels=4, seeds=1), np.random.default_rng(seed)
        drawn = np.exp(rng.uniform(np.log(8e3), np.log(1e8), (400, 2))) * [1, 10]
        random = pd.DataFrame(drawn, columns=["params", "examples"]).assign(seeds=1)
        cost = 6 * random["params"] * random["examples"]
        random = random[cost <= 2e15].loc[lambda t: (6 * t["params"] * t["examples"]).cumsum() <= 1e16].head(24)
        for name, more in (("suggested", suggest(runs, 1e16).runs), ("random", random)):
            n, d = (np.repeat(more[column].to_numpy(), more["seeds"]) for column in ("params", "examples"))
            made = pd.DataFrame({"params": n, "examples": d, "error": value("coupled", n, d)})
            made["error"] *= np.exp(0.01 * rng.normal(size=len(made)))
            found = fit_surface(pd.concat([runs, made]), y="error", law="coupled", resamples=0)
            errors[name].append(found["params_exponent"] - truth("coupled")["params_exponent"])
    assert np.sqrt(np.mean(np.square(errors["suggested"]))) < np.sqrt(np.mean(np.square(errors["random"])))


@pytest.mark.parametrize("target", ["optimum", "error"])
def test_a_target_far_outside_the_runs_is_not_supported(target):
    table = first()
    near, far = suggest(table, 2e14, target), suggest(table, 2e14, target, at=1e20)
    assert near.supported
    assert not far.supported
    assert far.reasons[0].startswith("flops 1e20 lies 1.67e6 x above the largest of the fitted runs (6e11 to 6e13)")
    assert suggest(table, 2e14).supported


def test_a_surface_that_was_fitted_already_is_not_fitted_again(monkeypatch):
    runs = first()
    fit, asked = fit_surface(runs, y="error", resamples=200), suggest(runs, 2e14)
    monkeypatch.setattr("analysis.decisions.suggest.fit_surface", None)
    again = suggest(runs, 2e14, fitted=fit)
    assert (again.now.low, again.now.high) == (asked.now.low, asked.now.high)
    assert again.runs.equals(asked.runs)
