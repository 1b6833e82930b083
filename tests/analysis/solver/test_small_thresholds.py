"""Nearly absolute losses, symmetric and not, against linear programs and many starts."""

from __future__ import annotations

import time

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import linprog

from analysis import fit_law, fit_surface
from analysis.laws import newton
from analysis.solver import fitting

TILTED = (0.5, 0.1, 0.02, 0.9)


def quantile_regression(log_x, log_y, quantile):
    """Slope and least sum of tilted absolute residuals of a line, by linear programming."""
    n = log_x.size
    cost = np.concatenate([np.zeros(2), np.full(n, 2 * quantile), np.full(n, 2 * (1 - quantile))])
    design = np.hstack([np.ones((n, 1)), log_x[:, None], np.eye(n), -np.eye(n)])
    found = linprog(cost, A_eq=design, b_eq=log_y, bounds=[(None, None)] * 2 + [(0, None)] * (2 * n))
    return found.x[1], found.fun


def surface(seed, n=80):
    rng = np.random.default_rng(seed)
    size, examples = np.exp(rng.uniform(np.log(1e5), np.log(1e9), (2, n)))
    luck = np.exp(np.abs(rng.normal(0, 0.05, n)) + rng.normal(0, 0.005, n))
    loss = (1.7 + 400 * size**-0.34 + 2000 * examples**-0.36) * luck
    return pd.DataFrame({"params": size, "examples": examples, "loss": loss})


@pytest.mark.parametrize("quantile", TILTED)
@pytest.mark.parametrize("delta", [1e-9, 1e-6])
def test_an_absolute_loss_ends_at_the_optimum_of_the_linear_program(quantile, delta):
    rng = np.random.default_rng(3)
    x = np.geomspace(1, 1e4, 41)
    y = 2 * x**0.3 * np.exp(np.abs(rng.normal(0, 0.3, 41)))
    fit = fit_law({"x": x, "y": y}, "x", "y", law="growth", quantile=quantile, delta=delta, resamples=0)
    slope, least = quantile_regression(np.log(x), np.log(y), quantile)
    assert fit.converged
    assert fit.objective / delta == pytest.approx(least, rel=10 * delta)
    if quantile in (0.1, 0.9):  # the optimum of the others is an edge
        assert fit.exponent == pytest.approx(slope, abs=10 * delta)


def test_resamples_of_an_absolute_loss_end_at_their_optima_too():
    rng = np.random.default_rng(4)
    x = np.geomspace(1, 1e4, 30)
    y = 2 * x**0.3 * np.exp(np.abs(rng.normal(0, 0.3, 30)))
    fit = fit_law({"x": x, "y": y}, "x", "y", law="growth", quantile=0.1, delta=1e-9, resamples=40)
    rows = np.random.default_rng(0).multinomial(30, np.full(30, 1 / 30), size=40)
    for weights, exponent in list(zip(rows, fit.replicates["exponent"], strict=True))[:10]:
        drawn = np.repeat(np.arange(30), weights)
        assert exponent == pytest.approx(quantile_regression(np.log(x[drawn]), np.log(y[drawn]), 0.1)[0], abs=1e-3)


@pytest.mark.parametrize("quantile", TILTED)
def test_eight_starts_of_a_surface_end_at_one_optimum(quantile):
    fit = fit_surface(surface(0), quantile=quantile, delta=1e-9, resamples=0)
    problem = fitting.pose(fit.law, fit.data, fit.solution.loss)
    starts = fit.law.starts(problem, 8)[0] + np.random.default_rng(0).normal(0, 0.05, (8, 5)) * [1, 1, 1, 1, 0]
    began = time.process_time()
    _, ends, converged = newton.refine(problem.rows(np.zeros(8, dtype=np.intp)), starts)
    assert time.process_time() - began < 3.0
    assert converged.all()
    assert ends == pytest.approx(fit.objective, rel=1e-8)


def test_a_threshold_near_the_residuals_is_reached_directly():
    fit = fit_surface(surface(1), delta=1e-3, resamples=0)
    problem = fitting.pose(fit.law, fit.data, fit.solution.loss)
    theta = fit.solution.theta[None, :]
    direct = newton.refine(problem, theta)
    assert direct[0] == pytest.approx(theta, abs=1e-9)
    assert direct[1][0] <= fit.objective * (1 + 1e-12)
