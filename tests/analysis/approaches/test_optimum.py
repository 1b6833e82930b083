from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis import FitError, fit_surface
from analysis.approaches.optimum import CLOSED, Price, along, exponents, fit_price, growth, optimum, searched
from tests.analysis.planted_curves import isoflop
from tests.analysis.planted_curves import optimum as planted
from tests.analysis.planted_forms import EXACT, table

QUICK = settings(deadline=None, max_examples=15, derandomize=True)


def surface(resamples=0, **options):
    return fit_surface(isoflop(**options), y="error", resamples=resamples)


def test_optimum_of_a_planted_surface_is_recovered_beyond_its_range():
    fit = surface()
    for budget in (1e12, 1e18):
        at = optimum(fit, budget)
        assert (at.n.value, at.d.value) == pytest.approx(planted(budget), rel=1e-4)
        assert at.n.value * at.d.value * 6 == pytest.approx(budget)


@QUICK
@given(power=st.floats(0.7, 1.3), scale=st.floats(1.0, 50.0))
def test_no_neighbour_at_the_same_price_is_better(power, scale):
    fit, price = surface(), Price(scale, power)
    at = optimum(fit, 1e14, price)
    n = at.n.value * np.array([0.99, 1.0, 1.01])
    y = fit.predict(n, price.examples(1e14, n))["y"].to_numpy()
    assert y[1] == pytest.approx(at.y.value)
    assert y[1] < min(y[0], y[2])
    assert scale * at.n.value**power * at.d.value == pytest.approx(1e14)


@pytest.mark.parametrize("law", CLOSED)
def test_search_finds_what_the_closed_form_does(law):
    runs = table({"chinchilla": "additive"}.get(law, law), noise=0.01)
    fit, price = fit_surface(runs, y="error", law=law, resamples=40), Price(5.0, 1.1)
    theta = np.concatenate([fit.solution.theta[None], fit.solution.replicates])
    closed = along(fit, theta, np.log([1e13, 1e15]), price)
    for k, log_c in enumerate(np.log([1e13, 1e15])):
        assert searched(fit, theta, log_c, price) == pytest.approx(closed[:, :, k], abs=1e-5)


@pytest.mark.parametrize("form", EXACT)
def test_optimum_of_every_form_grows_with_the_exponent_that_is_told(form):
    fit = fit_surface(table(form), y="error", law=EXACT[form], resamples=0)
    price = Price(6.0, 0.9)
    told = float(growth({name: np.array([value]) for name, value in fit.estimates.items()}, price.power)[0])
    ends = np.log([1e20, 1e21])
    log_n = along(fit, fit.solution.theta[None], ends, price)[0, 0]
    if not np.all(np.isfinite(log_n)):  # beyond the sizes that are searched
        log_n = along(fit, fit.solution.theta[None], ends - np.log(1e6), price)[0, 0]
    assert np.diff(log_n)[0] / np.diff(ends)[0] == pytest.approx(told, rel=0.03)
    one = growth({name: np.array([value]) for name, value in fit.estimates.items()}, 1.0)
    assert one[0] == pytest.approx(fit["params_exponent"])


@QUICK
@given(alpha=st.floats(0.1, 1.0), beta=st.floats(0.1, 1.0), power=st.floats(0.7, 1.3))
def test_exponents_are_the_slopes_of_the_optimum(alpha, beta, power):
    told = exponents(alpha, beta, power)
    assert power * told["n"] + told["d"] == pytest.approx(1.0)
    assert told["y"] == pytest.approx(alpha * told["n"])
    assert told["y"] == pytest.approx(beta * told["d"])


def test_price_of_six_n_d_and_of_another_are_read_off_the_runs():
    table = isoflop()
    price = fit_price(table)
    assert (price.scale, price.power) == pytest.approx((6.0, 1.0))
    assert price.off < 1e-9
    other = fit_price(table.assign(flops=7 * table["params"] ** 0.9 * table["examples"]))
    assert (other.scale, other.power) == pytest.approx((7.0, 0.9))
    off = table["flops"].where(table.index != 3, 1.2 * table["flops"])
    assert fit_price(table.assign(flops=off)).off > 0.1


def test_intervals_widen_beyond_the_budgets_that_were_run():
    fit = surface(resamples=100, noise=0.01)
    near, far = optimum(fit, 1e13), optimum(fit, 1e18)
    assert near.n.low < near.n.value < near.n.high
    assert np.log(far.n.high / far.n.low) > 2 * np.log(near.n.high / near.n.low)


def test_what_has_no_optimum_is_refused():
    with pytest.raises(ValueError, match="budget is -1"):
        optimum(surface(), -1)
    table = isoflop()
    flat = table.assign(error=0.1 + (table["examples"] / 1e5) ** -0.3)
    with pytest.raises(FitError, match="no lowest point"):
        optimum(fit_surface(flat, y="error", resamples=0), 1e14, Price(6.0, 1.0))
