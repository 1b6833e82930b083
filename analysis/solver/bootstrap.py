"""The bootstrap: which rows a resample draws, how often, and intervals from the replicates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from analysis.laws import newton
from analysis.solver.quantiles import of_pairs, student
from analysis.table import seeds

if TYPE_CHECKING:
    from analysis.laws.newton import Problem
    from analysis.table.data import Data
    from analysis.table.options import Options

Array = NDArray[np.float64]
Groups = Sequence[tuple[NDArray[np.intp], int]]
"""Pairs: the group of each row [rows] from 0, and how many distinct groups a resample must have."""
_DRAWS = 50


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
        return draw_clusters(data.cluster, groups, options.resamples, rng), np.broadcast_to(same, even.shape)
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
    """Factor by which an interval must be wider than the percentiles.

    Student's quantiles replace Gaussian ones everywhere; for pairs see `quantiles.of_pairs`.
    """
    if options.by == "seed":
        return student(data.clusters - int(seeds.cell_index(data.points).max()) - 1, options.level)
    if options.bootstrap == "pairs":
        return of_pairs(data.clusters, data.distinct, len(data.x), parameters, options.level)
    return student(data.clusters - parameters, options.level)


def _redrawn(data: Data, options: Options, problem: Problem, theta: Array, rng: np.random.Generator) -> Array:
    """Log y [B, n] of the law with residuals of random sign ("wild") or drawn from a Gaussian."""
    log_law = problem.law.value(theta[None, :])[0]
    scaled = problem.residuals(log_law[None, :])[0]
    inflation = np.sqrt(data.clusters / max(data.clusters - problem.free.size, 1))
    if options.bootstrap == "wild":
        sign = rng.choice([-1.0, 1.0], size=(options.resamples, data.clusters))[:, data.cluster]
        noise = inflation * scaled * sign
    else:
        spread = newton.threshold(scaled, problem.free.size) / newton.TUNING
        noise = spread * rng.normal(size=(options.resamples, data.y.size))
    noise = noise / problem.precision
    if options.residuals == "log":
        return np.asarray(log_law + noise)
    return np.asarray(np.log(np.maximum(np.exp(log_law) + noise, 1e-3 * np.exp(data.log_y.min()))))


def required(data: Data, count: int, *, axes: Sequence[int] = ()) -> Groups:
    """What a resample must have to determine a law: `count` distinct points and 3 distinct values on each axis."""
    groups = [(np.unique(data.x[axis], return_inverse=True)[1], 3) for axis in axes]
    return [*groups, (np.unique(data.x, axis=1, return_inverse=True)[1].ravel(), count)]


def resample(cluster: NDArray[np.intp], x: Array, resamples: int, rng: np.random.Generator, least: int) -> Array:
    """Weights [resamples, rows] as from `draw_clusters`, each with at least `least` distinct x."""
    return draw_clusters(cluster, [(np.unique(x, return_inverse=True)[1], least)], resamples, rng)


def draw_clusters(
    cluster: NDArray[np.intp],
    groups: Groups,
    resamples: int,
    rng: np.random.Generator,
) -> Array:
    """Weights [resamples, rows]: how often each row was drawn when clusters are drawn with replacement.

    A resample with fewer distinct `groups` than required is drawn again, up to fifty times; then it is the data.
    """
    count = int(cluster.max()) + 1
    even = np.full(count, 1.0 / count)
    members = [((group[:, None] == np.arange(group.max() + 1)).astype(float), least) for group, least in groups]
    weights = np.ones((resamples, cluster.size))
    poor = np.arange(resamples)
    for _ in range(_DRAWS):
        drawn = rng.multinomial(count, even, size=poor.size).astype(float)[:, cluster]
        rich = np.ones(poor.size, dtype=bool)
        for member, least in members:
            rich &= (drawn @ member > 0).sum(axis=1) >= least
        weights[poor[rich]] = drawn[rich]
        poor = poor[~rich]
        if poor.size == 0:
            break
    return weights


def percentile(replicates: Array, estimate: Array | float, level: float, wider: float = 1.0) -> Array:
    """Percentile interval of replicates [B, ...], stretched about the estimate [...]: array [2, ...].

    The interval is extended to the estimate if need be: bootstrap replicates of a minimum are biased.
    """
    ends = np.quantile(replicates, [0.5 - level / 2, 0.5 + level / 2], axis=0)
    ends = estimate + wider * (ends - estimate)
    return np.stack([np.minimum(ends[0], estimate), np.maximum(ends[1], estimate)])
