"""From a table and a form of law to estimates and replicates: the loss, the starts, the resamples."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from analysis.laws import newton
from analysis.laws.newton import Loss, Problem
from analysis.solver import bootstrap

if TYPE_CHECKING:
    from analysis.laws.base import Law
    from analysis.solver.bootstrap import Groups
    from analysis.table.data import Data
    from analysis.table.options import Options

Array = NDArray[np.float64]
_CHUNK, _STARTS, _KEPT = 256, 8, 3
_ROUNDS, _SETTLED = 4, 0.01


class FitError(RuntimeError):
    """The data are well formed, and no law answers them."""


class Fitted(NamedTuple):
    """One fit, scaled: theta [P], the loss it minimises and its value, and whether it is a minimum."""

    theta: Array
    objective: float
    converged: bool
    loss: Loss


@dataclass(frozen=True)
class Found:
    """What a fit found, scaled: theta [P], its replicates [B, P] and whether each converged, the loss used."""

    theta: Array
    objective: float
    converged: bool
    loss: Loss
    condition: float
    weakest: Array
    replicates: Array
    replicates_converged: NDArray[np.bool_]


def estimate(form: Law, data: Data, options: Options, groups: Groups, fitted: Fitted | None = None) -> Found:
    """Fit the law to the data, unless it is `fitted`, and to every resample, with `groups` of `draw_clusters`."""
    one = fitted or fit(form, data, options)
    problem = pose(form, data, one.loss, data.weights[None, :])
    number, weakest = condition(problem, one.theta)
    weights, log_y = bootstrap.draw(data, options, problem, one.theta, groups)
    many, settled = refit(form, problem, weights * data.weights, log_y, one.theta)
    return Found(
        theta=one.theta,
        objective=one.objective,
        converged=one.converged,
        loss=one.loss,
        condition=number,
        weakest=weakest,
        replicates=many,
        replicates_converged=settled,
    )


def refit(
    form: Law, problem: Problem, weights: Array, log_y: Array, warm: Array
) -> tuple[Array, NDArray[np.bool_]]:
    """Refit to every row of `weights` and `log_y` [B, n]: theta [B, P] and whether each converged."""
    chunks = [slice(at, at + _CHUNK) for at in range(0, len(weights), _CHUNK)]
    parts = [newton.search(form, replace(problem, weights=weights[c], log_y=log_y[c]), warm) for c in chunks]
    if not parts:
        return np.empty((0, warm.size)), np.empty(0, dtype=bool)
    return np.concatenate([part[0] for part in parts]), np.concatenate([part[2] for part in parts])


def pose(form: Law, data: Data, loss: Loss, weights: Array) -> Problem:
    """The problem of the data under each row of `weights` [B, n]."""
    return Problem(form, np.broadcast_to(data.log_y, weights.shape), weights, data.precision, loss)


def condition(problem: Problem, theta: Array) -> tuple[float, Array]:
    """How well the data determine theta [P], every column of the Jacobian scaled to length 1.

    Returns the condition number and the weakest direction, squared components [P] that sum to 1.
    """
    jacobian = problem.jacobian(theta[None, :])[0] * np.sqrt(problem.weights[0])
    length = np.linalg.norm(jacobian, axis=1, keepdims=True)
    directions, singular, _ = np.linalg.svd(jacobian / np.maximum(length, 1e-300), full_matrices=False)
    return float(singular[0] / max(singular[-1], 1e-300)), directions[:, -1] ** 2


def fit(form: Law, data: Data, options: Options) -> Fitted:
    """One fit; a threshold from the data is taken anew until it settles, since an outlier moves the pilot."""
    scale = np.exp(data.centre_y) if options.residuals == "raw" else 1.0
    delta = np.inf if options.delta is None else options.delta / scale
    problem = pose(form, data, Loss(options.residuals, delta, options.quantile), data.weights[None, :])
    theta = form.starts(problem, _STARTS)[0]
    if options.loss == "huber" and options.delta is None:
        problem, theta = _adapt(problem, theta)
    theta, objective, converged = newton.refine(_wide(problem, len(theta)), theta)
    best = int(objective.argmin())
    return Fitted(theta[best], float(objective[best]), bool(converged[best]), problem.loss)


def _adapt(problem: Problem, theta: Array) -> tuple[Problem, Array]:
    """The problem with a threshold from the residuals, and the best few starts on the way to its minimum."""
    for _ in range(_ROUNDS):
        theta, objective, _ = newton.refine(_wide(problem, len(theta)), theta, rough=True)
        theta, before = theta[np.argsort(objective)[:_KEPT]], problem.loss.delta
        residuals = problem.residuals(problem.law.value(theta[:1]))[0]
        problem = replace(problem, loss=replace(problem.loss, delta=newton.threshold(residuals, problem.free.size)))
        if abs(problem.loss.delta - before) < _SETTLED * before or problem.loss.delta <= newton.MIN_THRESHOLD:
            break
    return problem, theta


def _wide(problem: Problem, count: int) -> Problem:
    """The one data set of the problem, `count` times."""
    return problem.rows(np.zeros(count, dtype=np.intp))
