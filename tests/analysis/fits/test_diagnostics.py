from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from analysis import fit_frontier, fit_power_law
from tests.analysis.planted import law, sweep


def told(fit, words):
    return any(words in text for text in fit.warnings)


def test_clean_wide_data_carry_no_warning_and_support_their_exponent():
    fits = [fit_power_law(law(n=40, noise=0.01, seed=seed), resamples=300) for seed in range(5)]
    assert all(fit.supported for fit in fits)
    assert sum(len(fit.warnings) for fit in fits) <= 1
    assert "not identified" not in fits[0].summary()


def test_failed_runs_are_left_out_and_counted():
    table = law(noise=0.01)
    table.loc[[2, 5], "error"] = [np.nan, np.inf]
    fit = fit_power_law(table, resamples=50)
    assert fit.n == 18
    assert told(fit, "2 rows without a finite error")


def test_few_distinct_x_are_no_claim():
    table = law(n=4, noise=0.01)
    fit = fit_power_law(table, resamples=100)
    assert not fit.supported
    assert told(fit, "4 distinct flops for 3 parameters; a claim needs 5")
    plain = fit_power_law(law(n=4, floor=0, noise=0.01), floor=False, resamples=100)
    assert plain.supported
    assert told(plain, "only 4 distinct flops")


@pytest.mark.parametrize(("high", "words"), [(2e9, "spans only a factor of 2"), (6e9, "less than a decade")])
def test_short_ranges_are_told(high, words):
    fit = fit_power_law(law(high=high, floor=0, noise=1e-4), floor=False, resamples=100)
    assert told(fit, words)
    assert fit.supported == (high > 3e9)


def test_noise_that_hides_the_exponent_forbids_a_claim():
    fit = fit_power_law(law(n=10, high=1e10, noise=0.3, seed=3), resamples=200)
    assert not fit.supported
    assert told(fit, "the interval of the exponent spans a factor of")
    text = fit.summary()
    low, high = fit.intervals["exponent"]
    assert f"exponent not identified (95 % interval {low:.2g} to {high:.2g}" in text
    assert f"^-{fit.exponent:.2f}" not in text


def test_absent_floor_is_reported_at_its_bound_or_not_needed():
    fit = fit_power_law(law(n=30, floor=0, noise=0.02), resamples=200)
    assert told(fit, "floor is at its bound 0") or told(fit, "without a floor describes the points as well")
    assert fit.intervals["floor"][0] == 0


def test_missed_floor_is_told_with_the_exponent_it_would_give():
    fit = fit_power_law(law(n=30, noise=0.005), floor=False, resamples=200)
    assert told(fit, "a floor describes the points better")
    assert fit.compatible["exponent"][1] > 0.28


def test_floor_that_trades_against_the_exponent_is_told():
    fit = fit_power_law(law(n=14, high=2e10, floor=1.0, noise=0.01), resamples=300)
    assert told(fit, "floor and exponent trade")


def with_seeds(last=1.0, seeds=5):
    """Six distinct x with five repeats, error at the largest multiplied by `last`."""
    table = pd.concat([law(n=6, floor=0, noise=0.01, seed=seed) for seed in range(seeds)])
    table.loc[table["flops"] > 9e12, "error"] *= last
    return table


def test_exponent_that_depends_on_the_range_is_told():
    bent, straight = (fit_power_law(with_seeds(last), floor=False, resamples=300) for last in (2.0, 1.0))
    assert told(bent, "without the largest flops it is 0.30")
    assert not told(straight, "fitted range")
    assert bent.compatible["exponent"][1] >= 0.3


def test_a_clearly_better_law_with_another_exponent_forbids_the_claim():
    assert not fit_power_law(with_seeds(2.0), floor=False, resamples=300).supported
    assert fit_power_law(with_seeds(), floor=False, resamples=300).supported


def test_a_bend_is_told_and_scatter_is_not():
    table = law(n=14, floor=0, noise=0.003)
    bent = table.assign(error=0.9 / (1 + (table["flops"] / 1e10) ** 0.5))
    fit = fit_power_law(bent, floor=False, resamples=100)
    assert told(fit, "bend about the law")
    assert told(fit, "a shift describes the points better")
    fits = [
        fit_power_law(law(n=14, floor=0, noise=0.02, seed=seed), floor=False, resamples=0) for seed in range(10)
    ]
    assert not any(told(fit, "bend about the law") for fit in fits)


def test_points_that_leave_the_law_more_than_their_repeats_are_told():
    table = sweep(seeds=3, noise=0.005)
    assert told(fit_power_law(table, resamples=100), "what repeats explain")  # nine widths at one flops
    one_width = table[table["width"] == 32]
    bumpy = one_width.assign(error=one_width["error"] * np.exp(0.1 * np.sin(2 * np.log(one_width["flops"]))))
    assert told(fit_power_law(bumpy, resamples=100), "what repeats explain")
    straight = one_width.assign(error=law(n=10, noise=0)["error"].repeat(3).to_numpy())
    straight["error"] *= np.exp(0.01 * np.random.default_rng(0).normal(size=30))
    assert not told(fit_power_law(straight, resamples=100), "what repeats")


def test_one_run_a_cell_is_told_on_a_frontier():
    alone = sweep(seeds=1)
    assert told(fit_frontier(alone, floor=False, resamples=50), "taken from the scatter about the curves")
    assert told(fit_frontier(alone.drop(columns="params"), floor=False, resamples=50), "one run a cell")
    assert not told(fit_frontier(sweep(seeds=3), floor=False, resamples=50), "one run a cell")


def test_compatible_range_holds_interval_and_estimate():
    fit = fit_power_law(law(n=10, noise=0.02), resamples=200)
    low, high = fit.intervals["exponent"]
    least, most = fit.compatible["exponent"]
    assert least <= low <= fit.exponent <= high <= most


@pytest.mark.parametrize("resamples", [0, 200])
def test_a_better_rival_law_refuses_the_exponent_with_and_without_intervals(resamples):
    x = np.geomspace(1e9, 1e13, 30)
    y = 3 * (1 + x / 1e11) ** -0.4 * np.exp(0.005 * np.random.default_rng(0).normal(size=x.size))
    fit = fit_power_law({"flops": x, "error": y}, floor=False, resamples=resamples)
    assert not fit.supported
    assert any("a shift describes the points better" in reason for reason in fit.reasons)
