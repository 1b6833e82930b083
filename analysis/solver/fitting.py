"""From data and a law to an estimate and its replicates: the loss, the starting points, the resamples."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from analysis.laws import newton
from analysis.laws.constrained import Constrained
from analysis.laws.newton import Loss, Problem
from analysis.solver import bootstrap

if TYPE_CHECKING:
    from analysis.laws.base import Law
    from analysis.solver.bootstrap import Groups
    from analysis.table.data import Data
    from analysis.table.options import Options

Array = NDArray[np.float64]
STARTS = 8
"""Starting points of a fit."""
_CHUNK, _KEPT = 256, 3
_ROUNDS, _SETTLED = 4, 0.01


class FitError(RuntimeError):
    """The data are well formed, and no law fits them."""


class Minimum(NamedTuple):
    """One fit, scaled: theta [P], the loss and its value there, and whether the solver converged."""

    theta: Array
    objective: float
    converged: bool
    loss: Loss


@dataclass(frozen=True)
class Solution:
    """A fit and its replicates, scaled.

    `theta` [P], `objective`, `converged` and `loss` are those of the minimum; `condition` and `weakest` as from
    `condition`; `replicates` [B, P], and whether each converged.
    """

    theta: Array
    objective: float
    converged: bool
    loss: Loss
    condition: float
    weakest: Array
    replicates: Array
    replicates_converged: NDArray[np.bool_]


def solve(law: Law, data: Data, options: Options, groups: Groups, minimum: Minimum | None = None) -> Solution:
    """Fit a law, unless `minimum` is given, and its resamples; `groups` as in `draw_clusters`."""
    minimum = minimum or minimise(law, data, options)
    problem = pose(law, data, minimum.loss)
    weights, log_y = bootstrap.draw(data, options, problem, minimum.theta, groups)
    return with_replicates(problem, minimum, *refit(law, problem, weights * data.weights, log_y, minimum.theta))


def with_replicates(
    problem: Problem, minimum: Minimum, replicates: Array, replicates_converged: NDArray[np.bool_]
) -> Solution:
    """The minimum with its replicates, and how well the data determine it."""
    number, weakest = condition(problem, minimum.theta)
    return Solution(*minimum, number, weakest, replicates, replicates_converged)


def refit(law: Law, problem: Problem, weights: Array, log_y: Array, warm: Array) -> tuple[Array, NDArray[np.bool_]]:
    """Fit every row of `weights` and `log_y` [B, n]: theta [B, P] and whether each converged."""
    chunks = [slice(at, at + _CHUNK) for at in range(0, len(weights), _CHUNK)]
    parts = [newton.search(law, replace(problem, weights=weights[c], log_y=log_y[c]), warm) for c in chunks]
    if not parts:
        return np.empty((0, warm.size)), np.empty(0, dtype=bool)
    return np.concatenate([part[0] for part in parts]), np.concatenate([part[2] for part in parts])


def pose(law: Law, data: Data, loss: Loss, weights: Array | None = None) -> Problem:
    """The problem of the data under their own weights, or under each row of `weights` [B, n]."""
    weights = data.weights[None, :] if weights is None else weights
    return Problem(law, np.broadcast_to(data.log_y, weights.shape), weights, data.precision, loss)


def condition(problem: Problem, theta: Array) -> tuple[float, Array]:
    """How well the data determine theta [P], every column of the Jacobian scaled to length 1.

    Returns the condition number and the weakest direction, squared components [P] that sum to 1.
    """
    jacobian = problem.jacobian(theta[None, :])[0] * np.sqrt(problem.weights[0])
    length = np.linalg.norm(jacobian, axis=1, keepdims=True)
    directions, singular, _ = np.linalg.svd(jacobian / np.maximum(length, 1e-300), full_matrices=False)
    return float(singular[0] / max(singular[-1], 1e-300)), directions[:, -1] ** 2


def minimise(law: Law, data: Data, options: Options) -> Minimum:
    """The fit of a law. A threshold from the data is computed until it settles: an outlier moves the pilot.

    A law under constraints that the law without them meets has exactly the fit of the latter.
    """
    loose = minimise(law.base, data, options) if isinstance(law, Constrained) else None
    if isinstance(law, Constrained) and loose and law.holds(loose.theta[None, :]):
        return loose._replace(theta=law.nearest(loose.theta[None, :])[0])
    scale = np.exp(data.centre_y) if options.residuals == "raw" else 1.0
    delta = np.inf if options.delta is None else options.delta / scale
    problem = pose(law, data, Loss(options.residuals, delta, options.quantile))
    theta = law.starts(problem, STARTS)[0]
    if isinstance(law, Constrained) and loose:
        theta = np.concatenate([theta, law.nearest(loose.theta[None, :])])
    if options.loss == "huber" and options.delta is None:
        problem, theta = _adapt(problem, theta)
    theta, objective, converged = newton.refine(_repeat(problem, len(theta)), theta)
    best = int(objective.argmin())
    return Minimum(theta[best], float(objective[best]), bool(converged[best]), problem.loss)


def _adapt(problem: Problem, theta: Array) -> tuple[Problem, Array]:
    """The problem with a threshold from the residuals, and the best few starts on the way to its minimum."""
    for _ in range(_ROUNDS):
        theta, objective, _ = newton.refine(_repeat(problem, len(theta)), theta, rough=True)
        theta, before = theta[np.argsort(objective)[:_KEPT]], problem.loss.delta
        problem = adapted(problem, theta[0])
        if abs(problem.loss.delta - before) < _SETTLED * before or problem.loss.delta <= newton.MIN_THRESHOLD:
            break
    return problem, theta


def adapted(problem: Problem, theta: Array) -> Problem:
    """The problem of one data set with Huber's threshold from its residuals at theta [P]."""
    residuals = problem.residuals(problem.law.value(theta[None, :]))[0]
    return replace(problem, loss=replace(problem.loss, delta=newton.threshold(residuals, problem.free.size)))


def _repeat(problem: Problem, count: int) -> Problem:
    """The one data set of the problem, `count` times."""
    return problem.rows(np.zeros(count, dtype=np.intp))


def aicc(law: Law, data: Data, objective: float) -> float:
    """AICc of a law with this objective; records of a run count as one. Infinite where there are too few points."""
    n, k = data.clusters, law.free.size + 1
    if n <= k + 1:
        return np.inf
    mean = max(2.0 * objective / data.y.size, 1e-24)
    return n * float(np.log(mean)) + 2 * k + 2 * k * (k + 1) / (n - k - 1)
