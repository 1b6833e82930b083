"""Whether the residuals of a fit are scatter: tests against repeats, against a flexible law, and of their order.

Each test returns the probability that residuals about the true law are as far from scatter as these; 1 where the
table does not allow the test. None needs resamples.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations_with_replacement
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.special import fdtrc, ndtr

from analysis.fits.thresholds import FEW_REPEATS
from analysis.table import columns, seeds

if TYPE_CHECKING:
    from analysis.laws.newton import Problem
    from analysis.table.data import Data

Array = NDArray[np.float64]

EXACT = 1e-8
"""Residuals of log y below this are rounding errors."""
_CUBIC_FROM = 12
"""Distinct points per input from which the flexible law is cubic (quartic with one input); else a degree less."""
_NEIGHBOURS = 2


@dataclass(frozen=True)
class Scatter:
    """What the residuals of a fit show.

    `rms` is that of the residuals of log y, `noise` the standard deviation of log y of one run from `spare` degrees
    of freedom of repeats (NaN, 0 without repeats). The probabilities that chance explains: `unexplained`, the
    scatter beyond that of repeats, by the factor `excess`; `bent`, what polynomials in the logarithms of the inputs
    add to the law; `ordered`, that residuals of neighbouring points are alike.
    """

    rms: float
    noise: float = np.nan
    spare: int = 0
    excess: float = 1.0
    unexplained: float = 1.0
    bent: float = 1.0
    ordered: float = 1.0


def scatter(data: Data, problem: Problem, theta: Array) -> Scatter:
    """The evidence of the residuals at theta [P], the minimum of the problem of one data set."""
    logs = data.log_y - problem.law.value(theta[None, :])[0]
    rms = float(np.sqrt(np.mean(logs**2)))
    pull, jacobian, scale = _scores(problem, theta)
    known = jacobian / np.maximum(np.linalg.norm(jacobian, axis=1, keepdims=True), 1e-300)
    if rms < EXACT:
        return Scatter(rms)
    independent = data.clusters == data.y.size
    noise, spare, excess, unexplained = (
        _repeats(data, logs, len(jacobian)) if independent else (np.nan, 0, 1.0, 1.0)
    )
    bent = flexible(pull, known.T, polynomials(data.logs) * scale[:, None], data.cluster)
    ordered = neighbours(pull, data.logs) if independent else 1.0
    return Scatter(rms, noise, spare, excess, unexplained, bent, ordered)


def _scores(problem: Problem, theta: Array) -> tuple[Array, Array, Array]:
    """Residuals as the loss sees them [n], derivatives by the free parameters [P, n] and by log y [n]."""
    residuals = problem.objective(theta[None, :])[0][0]
    root = np.sqrt(problem.weights[0])
    scale = root * problem.precision
    if problem.loss.residuals == "raw":
        scale = scale * np.exp(problem.law.value(theta[None, :])[0])
    return root * problem.loss.pull(residuals), root * problem.jacobian(theta[None, :])[0], scale


def _repeats(data: Data, residuals: Array, parameters: int) -> tuple[float, int, float, float]:
    """F test of the scatter of cells about the law against that of repeats in cells: noise, spare, excess, p."""
    cell = _cells(data)
    count = np.bincount(cell)
    within, between = residuals.size - count.size, count.size - parameters
    if within < FEW_REPEATS:
        return np.nan, 0, 1.0, 1.0
    mean = np.bincount(cell, residuals) / count
    noise = float(np.sqrt(np.sum((residuals - mean[cell]) ** 2) / within))
    if between < 1 or not noise > EXACT:
        return noise, within, 1.0, 1.0
    ratio = float(np.sum(count * mean**2) / between) / noise**2
    return noise, within, float(np.sqrt(ratio)), float(fdtrc(between, within, ratio))


def _cells(data: Data) -> NDArray[np.intp]:
    """The cell of each row: its `cell_id` where the table has some, and otherwise its inputs."""
    if columns.CELL in data.points:
        return seeds.cell_index(data.points)
    return np.unique(data.x, axis=1, return_inverse=True)[1].ravel()


def polynomials(logs: Array) -> Array:
    """Products of Chebyshev polynomials in the logarithms of the inputs [k, n], of degree 2 to 4 in all: [n, q]."""
    inputs, distinct = len(logs), np.unique(logs, axis=1).shape[1]
    degree = (4 if inputs == 1 else 3) - (distinct < _CUBIC_FROM * inputs)
    half = np.maximum(np.ptp(logs, axis=1, keepdims=True) / 2, 1e-12)
    u = (logs - logs.min(axis=1, keepdims=True)) / half - 1.0
    axes = np.stack([np.cos(k * np.arccos(np.clip(u, -1, 1))) for k in range(degree + 1)])
    terms = {
        tuple(chosen.count(axis) for axis in range(inputs))
        for total in range(degree + 1)
        for chosen in combinations_with_replacement(range(inputs), total)
    }
    return np.stack([np.prod([axes[d, i] for i, d in enumerate(term)], axis=0) for term in sorted(terms)], axis=1)


def flexible(residuals: Array, known: Array, more: Array, cluster: NDArray[np.intp]) -> float:
    """Probability that chance explains what the columns `more` [n, q] add to `known` [n, P] (Rao's score test).

    An F test where every row is a cluster; else Hotelling's T2 of the scores of the clusters, which may be
    correlated inside.
    """
    basis = _orthonormal(known)
    added = _orthonormal(more - basis @ (basis.T @ more), np.linalg.norm(more, axis=0).max())
    free = residuals - basis @ (basis.T @ residuals)
    count, q = int(cluster.max()) + 1, added.shape[1]
    left = count - basis.shape[1] - q
    if q == 0 or left < 1:
        return 1.0
    projected = added.T @ free
    if count == residuals.size:
        rest = max(float(free @ free - projected @ projected), 1e-300)
        return float(fdtrc(q, left, (projected @ projected) / q / (rest / left)))
    if left < 2 * q:
        return 1.0
    scores = np.stack([np.bincount(cluster, added[:, k] * free) for k in range(q)])
    square = float(projected @ np.linalg.pinv(scores @ scores.T) @ projected)
    return float(fdtrc(q, left, left * square / q / max(count - square, 1e-12)))


def neighbours(residuals: Array, logs: Array) -> float:
    """Probability that chance makes the residuals [n] at the nearest points as alike as they are (Moran 1950).

    Points at one place count once, with their mean. With one input the neighbours are those in its order.
    """
    at, place = np.unique(logs, axis=1, return_inverse=True)
    mean = np.bincount(place.ravel(), residuals) / np.bincount(place.ravel())
    n = mean.size
    if n < 8:
        return 1.0
    u = at / np.maximum(np.std(at, axis=1, keepdims=True), 1e-12)
    if len(u) == 1:
        near = np.abs(np.subtract.outer(np.arange(n), np.arange(n))) == 1
    else:
        apart = np.sum((u[:, :, None] - u[:, None, :]) ** 2, axis=0)
        np.fill_diagonal(apart, np.inf)
        near = apart <= np.partition(apart, _NEIGHBOURS - 1, axis=1)[:, [_NEIGHBOURS - 1]]
    w = (near | near.T).astype(float)
    total, mean = w.sum(), mean - mean.mean()
    s1, s2 = 2 * np.sum(w**2), np.sum((2 * w.sum(axis=1)) ** 2)
    expected = -1.0 / (n - 1)
    variance = (n**2 * s1 - n * s2 + 3 * total**2) / ((n**2 - 1) * total**2) - expected**2
    alike = n / total * (mean @ w @ mean) / max(mean @ mean, 1e-300)
    return float(ndtr(-(alike - expected) / np.sqrt(variance)))


def _orthonormal(columns: Array, size: float | None = None) -> Array:
    """An orthonormal basis of the columns [n, q], without directions that are rounding errors of `size`."""
    left, singular, _ = np.linalg.svd(columns, full_matrices=False)
    return np.asarray(left[:, singular > 1e-6 * (size or singular.max(initial=0.0))])
