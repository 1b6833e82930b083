"""The data sets of the bootstrap: which rows are drawn how often, or what is measured anew at the same places."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from analysis.laws import newton
from analysis.solver import intervals
from analysis.table import seeds

if TYPE_CHECKING:
    from analysis.laws.newton import Problem
    from analysis.solver.intervals import Groups
    from analysis.table.data import Data
    from analysis.table.options import Options

Array = NDArray[np.float64]


def draw(data: Data, options: Options, problem: Problem, theta: Array, groups: Groups) -> tuple[Array, Array]:
    """Weights and scaled log y of every resample, [B, n] each.

    `problem` is that of the data with the estimate `theta` [P]; `groups` are what a resample by pairs must hold,
    pairs (group of each row, how many distinct ones).
    """
    rng = np.random.default_rng(options.seed)
    even, same = np.ones((options.resamples, data.y.size)), data.log_y
    if options.by == "seed":
        return within_cells(data, options.resamples, rng), np.broadcast_to(same, even.shape)
    if options.bootstrap == "pairs":
        return intervals.draw(data.cluster, groups, options.resamples, rng), np.broadcast_to(same, even.shape)
    return even, _redrawn(data, options, problem, theta, rng)


def within_cells(data: Data, resamples: int, rng: np.random.Generator) -> Array:
    """Weights [B, n] when n - 1 of the n runs of each cell are drawn with replacement, each n / (n - 1) times.

    The scatter of a cell's mean is then that of its runs, not (n - 1) / n of it (Rao and Wu 1988). A cell of one
    run stays as it is.
    """
    cell = seeds.cell_index(data.points)
    weights = np.ones((resamples, data.y.size))
    for k in range(int(cell.max()) + 1):
        rows = np.flatnonzero(cell == k)
        runs = np.unique(data.cluster[rows], return_inverse=True)[1]
        count = int(runs.max()) + 1
        if count > 1:
            drawn = rng.multinomial(count - 1, np.full(count, 1 / count), size=resamples)
            weights[:, rows] = count / (count - 1) * drawn[:, runs]
    return weights


def stretch(data: Data, options: Options, parameters: int) -> float:
    """How much wider than the percentiles an interval must be.

    Student's quantiles are due everywhere. Pairs also draw residuals that are too small, which needs undoing along
    one input; with two the design that each resample draws scatters enough to make up for it: the full factor
    covered up to 1.00 of 200 planted surfaces of 20 points, Student's alone 0.94 to 0.99.
    """
    if options.by == "seed":
        return intervals.student(data.clusters - int(seeds.cell_index(data.points).max()) - 1, options.level)
    if options.bootstrap == "pairs" and len(data.x) == 1:
        return intervals.stretch(data.clusters, parameters, options.level)
    return intervals.student(data.clusters - parameters, options.level)


def _redrawn(data: Data, options: Options, problem: Problem, theta: Array, rng: np.random.Generator) -> Array:
    """Log y [B, n] of the law with its residuals turned about ("wild") or drawn from a Gaussian."""
    log_law = problem.law.value(theta[None, :])[0]
    scaled = problem.residuals(log_law[None, :])[0]
    lost = np.sqrt(data.clusters / max(data.clusters - problem.free.size, 1))
    if options.bootstrap == "wild":
        sign = rng.choice([-1.0, 1.0], size=(options.resamples, data.clusters))[:, data.cluster]
        noise = lost * scaled * sign
    else:
        spread = newton.threshold(scaled, problem.free.size) / newton.TUNING
        noise = spread * rng.normal(size=(options.resamples, data.y.size))
    noise = noise / problem.precision
    if options.residuals == "log":
        return np.asarray(log_law + noise)
    return np.asarray(np.log(np.maximum(np.exp(log_law) + noise, 1e-3 * np.exp(data.log_y.min()))))
