"""From a table and a form of law to estimates and replicates: the loss, the starts, the resamples."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from analysis import bootstrap, newton
from analysis.newton import Loss, Problem

if TYPE_CHECKING:
    from analysis.data import Data
    from analysis.form import Form
    from analysis.intervals import Groups
    from analysis.options import Options

Array = NDArray[np.float64]
_CHUNK, _STARTS = 256, 8


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


def estimate(form: Form, data: Data, options: Options, groups: Groups) -> Found:
    """Fit the law to the data and to every resample; `groups` as for `intervals.draw`."""
    theta, objective, converged, loss = fit(form, data, options)
    problem = pose(form, data, loss, data.weights[None, :])
    number, weakest = condition(problem, theta)
    weights, log_y = bootstrap.draw(data, options, problem, theta, groups)
    many, settled = refit(problem, weights * data.weights, log_y, theta)
    return Found(
        theta=theta,
        objective=objective,
        converged=converged,
        loss=loss,
        condition=number,
        weakest=weakest,
        replicates=many,
        replicates_converged=settled,
    )


def refit(problem: Problem, weights: Array, log_y: Array, warm: Array) -> tuple[Array, NDArray[np.bool_]]:
    """Refit to every row of `weights` and `log_y` [B, n]: theta [B, P] and whether each converged."""
    parts = [
        newton.search(replace(problem, weights=weights[at : at + _CHUNK], log_y=log_y[at : at + _CHUNK]), warm)
        for at in range(0, len(weights), _CHUNK)
    ]
    if not parts:
        return np.empty((0, warm.size)), np.empty(0, dtype=bool)
    return np.concatenate([part[0] for part in parts]), np.concatenate([part[2] for part in parts])


def pose(form: Form, data: Data, loss: Loss, weights: Array) -> Problem:
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


def fit(form: Form, data: Data, options: Options) -> tuple[Array, float, bool, Loss]:
    """One fit; a threshold from the data is taken three times over, since an outlier moves the pilot."""
    scale = np.exp(data.centre_y) if options.residuals == "raw" else 1.0
    delta = np.inf if options.delta is None else options.delta / scale
    loss = Loss(options.residuals, delta, options.quantile)
    pilot = pose(form, data, loss, data.weights[None, :])
    starts = form.starts(pilot, _STARTS)[0]
    wide = pilot.rows(np.zeros(len(starts), dtype=np.intp))
    theta, objective, converged = newton.refine(wide, starts)
    for _ in range(3 if options.loss == "huber" and options.delta is None else 0):
        best = theta[objective.argmin()][None, :]
        delta = newton.threshold(pilot.residuals(form.value(best))[0], form.free.size)
        loss = replace(loss, delta=delta)
        if delta <= newton.MIN_THRESHOLD:  # an exact law: nothing is left to reweight
            break
        theta, objective, converged = newton.refine(replace(wide, loss=loss), theta)
    best_end = int(objective.argmin())
    return theta[best_end], float(objective[best_end]), bool(converged[best_end]), loss
