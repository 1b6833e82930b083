"""Tables on which the tool once said something wrong, each with what is right."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import analysis

BUDGETS = (1e18, 2.15e18, 4.64e18, 1e19, 2.15e19)


def isoflop(seed=5):
    """One run each of nine sizes at five budgets, 0.4 % noise."""
    rng, rows = np.random.default_rng(seed), []
    for budget in BUDGETS:
        for k in range(9):
            n = (budget / 120) ** 0.5 * 2 ** ((k - 4) / 2)
            name = f"{budget:g}-{k}"
            row = {"run_id": name, "cell_id": name, "params": n, "examples": budget / 6 / n, "budget": budget}
            rows.append(row | {"loss": law(n, budget / 6 / n) * np.exp(rng.normal(0, 0.004))})
    return pd.DataFrame(rows)


def law(n, d):
    return 1.69 + 406 * n**-0.34 + 411 * d**-0.28


def two_sweeps(table):
    return pd.concat([table.assign(sweep="first"), table.assign(sweep="second")], ignore_index=True)


def histories():
    """Twenty-five records of each of six runs, under W&B's names."""
    rng, rows = np.random.default_rng(1), []
    for run, n in enumerate((1e6, 3e6, 1e7, 3e7, 1e8, 3e8)):
        luck = rng.normal(0, 0.01)
        for step, d in enumerate(np.logspace(8, 10.5, 25)):
            loss = law(n, d) * np.exp(luck + rng.normal(0, 0.002))
            rows.append({"Name": f"run-{run}", "_step": step * 100, "params": n, "tokens": d, "loss": loss})
    return pd.DataFrame(rows)


@pytest.mark.parametrize("method", ["akima", "parabola", "joint"])
def test_a_run_of_two_sweeps_counts_once_in_isoflop_minima(method):
    once, twice = (analysis.fit_isoflop(t, y="loss", method=method) for t in (isoflop(), two_sweeps(isoflop())))
    assert once.supported
    assert twice.n_exponent.high - twice.n_exponent.low > 0.01
    assert twice.to_dict() | {"warnings": ()} == once.to_dict() | {"warnings": ()}


def test_a_run_of_two_sweeps_is_one_seed():
    averaged = analysis.average_seeds(two_sweeps(isoflop()), y="loss")
    assert averaged["seeds"].tolist() == [1] * 45


def test_a_run_of_two_sweeps_does_not_change_the_verdict():
    once, twice = (
        analysis.verdict(t, ("params", "examples"), "loss", order="budget", resamples=30)
        for t in (isoflop(), two_sweeps(isoflop()))
    )
    assert once.exponent.supported
    assert (twice.exponent, twice.floor, twice.extrapolation) == (once.exponent, once.floor, once.extrapolation)


def test_records_of_runs_under_other_names_are_resampled_by_run():
    table = histories()
    foreign = analysis.fit_surface(table, "params", "tokens", "loss")
    known = analysis.fit_surface(
        table.rename(columns={"Name": "run_id", "_step": "step"}), "params", "tokens", "loss"
    )
    assert foreign.n_clusters == 6
    assert foreign.intervals == known.intervals
    assert not foreign.supported
    assert not analysis.verdict(table, ("params", "tokens"), "loss", resamples=100).exponent.supported


@pytest.mark.parametrize("floor", [1.6, "no", None])
def test_a_floor_that_is_neither_wanted_nor_unwanted_is_an_error(floor):
    with pytest.raises((TypeError, ValueError), match="floor"):
        analysis.fit_power_law({"flops": BUDGETS, "error": BUDGETS}, floor=floor)


def test_a_fixed_floor_leaves_the_law_of_what_lies_above_it():
    flops = np.logspace(18, 20.5, 5)
    luck = np.exp(np.random.default_rng(0).normal(0, 0.001, 5))
    table = pd.DataFrame({"flops": flops, "loss": (1.6 + 95.18 * flops**-0.0941) * luck})
    fit = analysis.fit_power_law(table, y="loss", fix={"floor": 1.6})
    assert fit.floor == 1.6
    assert fit.exponent == pytest.approx(0.0941, abs=0.002)
    assert fit.law.free.size == 2


def test_rows_exported_twice_count_once():
    rng = np.random.default_rng(1)
    n, d = (axis.ravel() for axis in np.meshgrid([1e6, 3e6, 1e7, 3e7, 1e8], [1e7, 1e8, 1e9, 1e10]))
    once = pd.DataFrame({"params": n, "tokens": d, "loss": law(n, d) * np.exp(rng.normal(0, 0.01, 20))})
    fits = [analysis.fit_surface(t, "params", "tokens", "loss") for t in (once, pd.concat([once, once]))]
    assert fits[1].intervals == fits[0].intervals
    assert any("duplicate" in text for text in fits[1].warnings)


def test_a_growing_power_law_is_fitted():
    rng = np.random.default_rng(0)
    tokens = np.logspace(8.5, 11, 8)
    table = pd.DataFrame({"tokens": tokens, "batch": 0.9 * tokens**0.383 * np.exp(rng.normal(0, 0.05, 8))})
    fit = analysis.fit_law(table, "tokens", "batch", law="growth")
    low, high = fit.intervals["exponent"]
    assert fit.supported
    assert low < 0.383 < high < 1.2 * low
    with pytest.raises(analysis.FitError, match="fit law 'growth'"):
        analysis.fit_power_law(table, "tokens", "batch", floor=False)


def test_the_best_learning_rate_is_a_product_of_powers():
    rng = np.random.default_rng(0)
    n, d = (axis.ravel() for axis in np.meshgrid(np.logspace(8, 10, 5), np.logspace(9, 11.5, 5)))
    table = pd.DataFrame({"n": n, "d": d, "lr": 1.79 * n**-0.713 * d**0.307 * np.exp(rng.normal(0, 0.05, 25))})
    fit = analysis.fit_surface(table, "n", "d", "lr", law="product")
    assert fit.supported
    for name, exponent in {"a": -0.713, "b": 0.307}.items():
        low, high = fit.intervals[name]
        assert low < exponent < high < low + 0.05


def test_one_error_of_zero_leaves_the_laws_of_the_others():
    table = isoflop().rename(columns={"loss": "error", "budget": "flops"})
    others = table.drop(index=[7])
    zero = table.assign(error=table["error"].where(table.index != 7, 0.0))
    for fit in (analysis.fit_surface, analysis.fit_isoflop):
        found, expected = (fit(t, y="error", resamples=100) for t in (zero, others))
        assert found.supported
        assert str(found).startswith(str(expected).splitlines()[0])
        assert any("error is 0 in 1 of 45 rows" in text for text in found.warnings)


def test_many_errors_of_zero_refuse_the_law_and_name_another_measure():
    table = isoflop().rename(columns={"loss": "error", "budget": "flops"})
    zeros = table.assign(error=table["error"].where(table.index > 5, 0.0))
    for fit in (analysis.fit_surface, analysis.fit_isoflop):
        found = fit(zeros, y="error", resamples=50)
        assert not found.supported
        assert any("6 of 45 rows" in text and "loss" in text for text in found.reasons)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_smooth_maximum_of_the_terms_has_no_false_floor(seed):
    rng, rows = np.random.default_rng(seed), []
    for budget in (1e18, 3e18, 1e19, 3e19, 1e20, 3e20):
        n = (budget / 120) ** 0.5 * 2 ** (np.arange(-6, 7) / 2)
        d = budget / 6 / n
        loss = 1.7 + ((406 * n**-0.34) ** 1.6 + (411 * d**-0.28) ** 1.6) ** (1 / 1.6)
        loss *= np.exp(rng.normal(0, 0.002, n.size))
        rows.append(pd.DataFrame({"params": n, "tokens": d, "budget": budget, "loss": loss}))
    found = analysis.verdict(pd.concat(rows), ("params", "tokens"), "loss", order="budget", resamples=30)
    low, high = found.fit.intervals["floor"]
    assert not found.floor.supported or low <= 1.7 <= high
