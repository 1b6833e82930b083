from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from analysis import FitError, describe_law, fit_frontier, fit_law, fit_surface, profile
from analysis.figures.law import law_line


def table(a=-0.713, b=0.307, noise=0.05, sides=5, seed=0):
    rng = np.random.default_rng(seed)
    n, d = (g.ravel() for g in np.meshgrid(np.logspace(8, 10, sides), np.logspace(9, 11.5, sides)))
    return pd.DataFrame({"n": n, "d": d, "lr": 1.79 * n**a * d**b * np.exp(rng.normal(0, noise, n.size))})


@pytest.mark.parametrize("exponent", [-2.5, -0.713, 0.0, 0.383, 3.0])
@pytest.mark.parametrize("unit", [1.0, 1e-9])
def test_an_exact_exponent_of_either_sign_is_recovered_in_any_unit(exponent, unit):
    x = np.geomspace(1e8, 1e11, 9) * unit
    fit = fit_law({"x": x, "y": 0.9 * x**exponent}, "x", "y", law="growth", resamples=50)
    assert fit.exponent == pytest.approx(exponent, abs=1e-9)
    assert fit.coefficient == pytest.approx(0.9, rel=1e-6)
    assert fit.predict(1e12 * unit)["y"][0] == pytest.approx(0.9 * (1e12 * unit) ** exponent, rel=1e-6)


def test_both_exponents_of_a_product_are_recovered_and_drawn_in_the_formula():
    exact = fit_surface(table(noise=0), "n", "d", "lr", law="product", resamples=0)
    assert exact.estimates == pytest.approx({"a": -0.713, "b": 0.307, "coefficient": 1.79}, rel=1e-6)
    assert exact.formula() == "lr = 1.79 n^-0.713 d^0.307"
    assert exact.supported


@pytest.mark.parametrize("bootstrap", ["pairs", "wild", "parametric"])
def test_intervals_of_a_rising_law_cover_its_exponent(bootstrap):
    covered, widths = [], []
    for seed in range(30):
        rng = np.random.default_rng(seed)
        x = np.geomspace(1e8, 1e11, 30)
        y = 0.9 * x**0.383 * np.exp(rng.normal(0, 0.05, 30))
        fit = fit_law({"x": x, "y": y}, "x", "y", law="growth", bootstrap=bootstrap, resamples=100)
        low, high = fit.intervals["exponent"]
        covered.append(low <= 0.383 <= high)
        widths.append(high - low)
    assert np.mean(covered) > 0.85
    assert np.median(widths) < 0.04


def test_an_exponent_compatible_with_zero_is_stated_and_not_refused():
    fit = fit_surface(table(a=0.0, b=0.3), "n", "d", "lr", law="product")
    assert fit.supported
    assert "a compatible with 0: lr may not depend on it" in fit.warnings
    assert not any("compatible" in text for text in fit_surface(table(), "n", "d", "lr", law="product").warnings)


def test_a_wide_interval_of_a_signed_exponent_identifies_nothing():
    rng = np.random.default_rng(0)
    x = np.geomspace(1, 1e4, 12)
    fit = fit_law({"x": x, "y": np.exp(rng.normal(0, 4, 12))}, "x", "y", law="growth")
    assert fit.unidentified == ("exponent",)
    assert not fit.supported
    assert law_line(fit) == ()


def test_a_bend_and_a_short_range_are_told_of_a_rising_law_too():
    x = np.geomspace(1, 1e4, 20)
    bent = fit_law({"x": x, "y": 1 + x**0.5}, "x", "y", law="growth", resamples=50)
    assert any("bend" in text for text in bent.warnings)
    short = fit_law({"x": x[:5] ** 0.1, "y": x[:5]}, "x", "y", law="growth", resamples=50)
    assert not short.supported


def test_a_rising_law_is_drawn_profiled_and_constrained():
    points = table()
    points = points[points["n"] == points["n"].min()]
    fit = fit_law(points, "d", "lr", law="growth")
    assert profile(fit, "exponent").low < fit.exponent < profile(fit, "exponent").high
    chart = describe_law(points, fit, x="d", y="lr")
    line = chart.lines[-1]
    assert line.y[-1] > line.y[0]
    third = fit_surface(
        table(), "n", "d", "lr", law="product", fix={"b": 1 / 3}, bounds={"a": (-1, 0)}, resamples=50
    )
    assert third["b"] == 1 / 3


@pytest.mark.parametrize(
    ("rows", "message"),
    [(slice(0, 2), "found 2 distinct 'n' in 2 rows; 'growth' needs at least 3"), (slice(0, 1), "found 1 distinct")],
)
def test_too_few_distinct_values_are_refused(rows, message):
    with pytest.raises(ValueError, match=message):
        fit_law(table().iloc[rows], "n", "lr", law="growth")


def test_a_frontier_only_falls():
    with pytest.raises(FitError, match="does not fall"):
        fit_frontier(table(), "d", "lr", law="growth", kind="each", resamples=0)
    falling = fit_frontier(table(), "n", "lr", law="growth", kind="each", resamples=0)
    assert falling.exponent == pytest.approx(-0.713, abs=0.05)
