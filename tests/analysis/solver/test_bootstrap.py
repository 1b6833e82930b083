from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtri, stdtrit

from analysis.laws.power import PowerFloor
from analysis.solver import bootstrap, fitting, quantiles
from analysis.table.data import read
from analysis.table.options import Options
from tests.analysis.planted import law, surface

QUICK = settings(deadline=None, max_examples=20, derandomize=True)


def in_cells(sizes):
    """Data of one cell for each number of runs, at distinct x."""
    cells = np.repeat(np.arange(len(sizes)), sizes)
    table = pd.DataFrame({"flops": 10.0 ** (9 + cells), "cell_id": cells, "run_id": np.arange(cells.size)})
    error = np.exp(0.1 * np.random.default_rng(0).normal(size=cells.size))
    return read(table.assign(error=error), ("flops",), "error", Options(by="seed"))


@QUICK
@given(st.lists(st.integers(1, 6), min_size=1, max_size=5), st.integers(0, 1000))
def test_weights_inside_a_cell_sum_to_its_runs_and_a_single_run_keeps_its_weight(sizes, seed):
    data = in_cells(sizes)
    weights = bootstrap.within_cells(data, 30, np.random.default_rng(seed))
    starts = np.cumsum([0, *sizes[:-1]])
    assert np.add.reduceat(weights, starts, axis=1) == pytest.approx(np.tile(sizes, (30, 1)).astype(float))
    alone = np.flatnonzero(np.array(sizes) == 1)
    assert np.all(weights[:, starts[alone]] == 1)


def test_means_inside_cells_scatter_as_means_of_that_many_runs_do():
    data = in_cells([2, 3, 8])
    weights = bootstrap.within_cells(data, 40_000, np.random.default_rng(0))
    for rows in (slice(0, 2), slice(2, 5), slice(5, 13)):
        y = data.y[rows]
        means = weights[:, rows] @ y / y.size
        assert means.std() == pytest.approx(y.std(ddof=1) / np.sqrt(y.size), rel=0.02)
        assert means.mean() == pytest.approx(y.mean(), rel=0.01)


@QUICK
@given(count=st.integers(4, 8), seed=st.integers(0, 1000))
def test_resamples_that_hold_too_little_are_drawn_again(count, seed):
    cluster, halves = np.arange(count), np.arange(count) % 2
    groups = [(np.arange(count), count - 1), (halves, 2)]
    weights = bootstrap.draw_clusters(cluster, groups, 40, np.random.default_rng(seed))
    assert np.all(weights.sum(axis=1) == count)
    assert np.all((weights > 0).sum(axis=1) >= count - 1)
    assert np.any((weights > 0).sum(axis=1) == count - 1)


def test_a_resample_that_can_never_hold_enough_is_the_data_themselves():
    weights = bootstrap.draw_clusters(np.arange(3), [(np.zeros(3, int), 2)], 5, np.random.default_rng(0))
    assert np.array_equal(weights, np.ones((5, 3)))


def test_a_surface_needs_three_values_of_each_input_and_a_point_a_parameter():
    table = surface(n=12).assign(params=lambda t: np.resize([1e4, 2e4, 4e4], len(t)))
    data = read(table, ("params", "examples"), "loss", Options())
    groups = bootstrap.required(data, 5, axes=[0, 1])
    assert [int(group.max()) + 1 for group, _ in groups] == [3, 12, 12]
    assert [least for _, least in groups] == [3, 3, 5]
    weights = bootstrap.draw_clusters(data.cluster, groups, 200, np.random.default_rng(0))
    assert all(np.unique(data.x[0, row > 0]).size == 3 for row in weights)


@pytest.fixture(scope="module")
def uneven():
    """A law whose noise is five times larger at every third point, as its column `error_sd` says."""
    table = law(n=30, noise=0.0)
    sd = 0.01 * np.where(np.arange(30) % 3 == 0, 5.0, 1.0)
    table["error"] *= np.exp(sd * np.random.default_rng(2).normal(size=30))
    return table.assign(error_sd=sd * table["error"])


def drawn(table, kind):
    """Log y of the resamples, log of the law, and the residuals; [B, n], [n], [n]."""
    options = Options(sd="error_sd", bootstrap=kind, resamples=3000)
    data = read(table, ("flops",), "error", options)
    placed = PowerFloor(data.logs, data.centre_x)
    minimum = fitting.minimise(placed, data, options)
    problem = fitting.pose(placed, data, minimum.loss)
    weights, log_y = bootstrap.draw(data, options, problem, minimum.theta, bootstrap.required(data, 3))
    assert np.all(weights == 1)
    log_law = placed.value(minimum.theta[None])[0]
    return log_y, log_law, data.log_y - log_law


def test_wild_resamples_turn_the_residuals_whatever_their_precision(uneven):
    log_y, log_law, residuals = drawn(uneven, "wild")
    size = np.abs(residuals) * np.sqrt(30 / 27)
    assert np.abs(log_y - log_law) == pytest.approx(np.tile(size, (3000, 1)), rel=1e-9)
    assert np.sign(log_y - log_law).mean(axis=0) == pytest.approx(np.zeros(30), abs=0.08)


def test_parametric_resamples_are_noisy_where_the_data_are(uneven):
    log_y, log_law, _ = drawn(uneven, "parametric")
    noise = (log_y - log_law).std(axis=0)
    assert noise[::3].mean() / noise[1::3].mean() == pytest.approx(5.0, rel=0.03)
    assert noise[1::3].mean() == pytest.approx(0.01, rel=0.2)


def test_factors_of_few_clusters_are_those_of_student():
    assert quantiles.student(10, 0.95) == pytest.approx(2.2281 / 1.9600, rel=1e-4)
    assert quantiles.widening(12, 2, 0.95) == pytest.approx(2.2281 / 1.9600 * np.sqrt(12 / 10), rel=1e-4)
    assert quantiles.widening(1000, 2, 0.95) == pytest.approx(1.0, abs=0.003)
    assert quantiles.widening(2, 2, 0.95) == quantiles.student(-1, 0.95) == 4.0
    assert quantiles.gauss(0.95) == pytest.approx(1.95996, rel=1e-5)


@pytest.mark.parametrize("spare", [1, 2, 3, 4, 7, 30, 299, 300, 5000])
def test_quantiles_of_student_are_those_of_scipy(spare):
    for level in (0.5, 0.95, 0.999):
        exact = min(stdtrit(spare, 0.5 + level / 2) / ndtri(0.5 + level / 2), 4.0)
        assert quantiles.student(spare, level) == pytest.approx(exact, rel=1e-8)


@QUICK
@given(st.lists(st.floats(-1e3, 1e3), min_size=20, max_size=60), st.floats(-1e3, 1e3), st.floats(1.0, 4.0))
def test_an_interval_holds_its_estimate_and_grows_with_its_factor(replicates, estimate, wider):
    narrow, wide = (bootstrap.percentile(np.array(replicates), estimate, 0.9, factor) for factor in (1.0, wider))
    assert wide[0] <= narrow[0] <= estimate <= narrow[1] <= wide[1]
