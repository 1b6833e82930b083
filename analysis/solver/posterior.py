"""From a law with priors and data to its most probable parameters, its evidence and randomised refits.

Residuals of log y are normal with an unknown variance s^2. Its prior counts as two residuals of 0.003 times the
range of log y: points that a law meets exactly do not have a variance of 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from analysis.laws.curves.base import Curve

Array = NDArray[np.float64]
_PRIOR_DOF, _PRIOR_SCALE = 2.0, 0.003
_DRAWS, _KEPT, _ROUNDS = 96, 6, 5
_SETTLED = 0.02
"""Change of log s^2 below which the variance counts as found."""


class Observed(NamedTuple):
    """Logarithms of y [n] and weights [n] that sum to the number of independent points."""

    log_y: Array
    weights: Array


@dataclass(frozen=True)
class Posterior:
    """The most probable parameters of a law.

    Attributes:
        theta: [P].
        variance: of the residuals of log y.
        dof: degrees of freedom behind it.
        log_evidence: Laplace's approximation of log p(y | law), up to a constant common to all laws of the data.
    """

    theta: Array
    variance: float
    dof: float
    log_evidence: float


def posterior(law: Curve, data: Observed, rng: np.random.Generator) -> Posterior:
    """The optimum of highest evidence among those reached from draws of the prior.

    The cost is RSS / (2 s^2) plus half the squared distance from the priors' means in standard deviations;
    s^2 = (RSS + nu s0^2) / (n - p + nu) is iterated, p the effective number of parameters, nu and s0 its prior's.
    """
    theta, rss = _start(law, data, rng)
    count, floor = data.weights.sum(), _PRIOR_DOF * (_PRIOR_SCALE * np.ptp(data.log_y)) ** 2
    variance = (rss + floor) / (count + _PRIOR_DOF)
    log_y = np.broadcast_to(data.log_y, (len(theta), data.log_y.size))
    mean, precision = np.broadcast_to(law.mean, theta.shape), np.diag(law.sd**-2)
    for _ in range(_ROUNDS):
        theta, residuals, slopes = _minimise(law, Observed(log_y, data.weights), mean, theta, variance)
        rss = (data.weights * residuals**2).sum(axis=1)
        curvature = _curvature(slopes, data.weights, variance)
        spent = np.linalg.solve(curvature + precision, curvature).trace(axis1=1, axis2=2)
        dof = count - spent + _PRIOR_DOF
        before, variance = variance, (rss + floor) / dof
        if np.all(np.abs(np.log(variance / before)) < _SETTLED):
            break
    curvature = _curvature(slopes, data.weights, variance) + precision
    evidence = -0.5 * (count + _PRIOR_DOF) * np.log((rss + floor) / (count + _PRIOR_DOF))
    evidence -= 0.5 * (((theta - mean) / law.sd) ** 2).sum(axis=1) + np.log(law.sd).sum()
    evidence -= 0.5 * np.linalg.slogdet(curvature)[1]
    best = int(np.argmax(np.where(np.isfinite(evidence), evidence, -np.inf)))
    return Posterior(theta[best], float(variance[best]), float(dof[best]), float(evidence[best]))


def refit(law: Curve, data: Observed, found: Posterior, count: int, rng: np.random.Generator) -> Array:
    """Randomised most probable parameters [count, P]: fits to the law plus noise, the priors' means drawn too.

    The noise of each has the variance s^2 dof / chi^2_dof. The level's prior is left alone: it is flat.
    """
    variance = found.variance * found.dof / rng.chisquare(found.dof, size=count)
    noise = np.sqrt(variance / np.maximum(data.weights, 1e-12)[:, None]).T
    log_y = data.log_y + noise * rng.normal(size=noise.shape)
    mean = law.mean + law.sd * rng.normal(size=(count, law.mean.size))
    mean[:, 0] = found.theta[0]
    theta = np.broadcast_to(found.theta, mean.shape)
    return _minimise(law, Observed(log_y, data.weights), mean, theta, variance, steps=20, tolerance=1e-3)[0]


def _start(law: Curve, data: Observed, rng: np.random.Generator) -> tuple[Array, Array]:
    """The draws of the prior with the least weighted sum of squares, the level fitted, and that sum."""
    theta, weights = law.draws(rng, _DRAWS), data.weights
    off = data.log_y - law.value(theta)
    level = (off * weights).sum(axis=1, keepdims=True) / weights.sum()
    theta[:, :1] += level
    rss = (weights * (off - level) ** 2).sum(axis=1)
    kept = np.argsort(np.where(np.isfinite(rss), rss, np.inf))[:_KEPT]
    return theta[kept], rss[kept]


def _minimise(
    law: Curve,
    data: Observed,
    mean: Array,
    theta: Array,
    variance: Array,
    *,
    steps: int = 30,
    tolerance: float = 1e-6,
) -> tuple[Array, Array, Array]:
    """Batched Levenberg-Marquardt from theta [B, P] on `data.log_y` [B, n]: theta, residuals and derivatives."""
    precision, eye = law.sd**-2, np.eye(law.sd.size)
    theta, damping, active = theta.copy(), np.full(len(theta), 1e-3), np.arange(len(theta))
    value, slopes = law.gradient(theta)
    residuals = data.log_y - value

    def cost(rows: NDArray[np.intp], off: Array, at: Array) -> Array:
        prior = (((at - mean[rows]) ** 2) * precision).sum(axis=1)
        return np.asarray(0.5 * ((data.weights * off**2).sum(axis=1) / variance[rows] + prior))

    costs = cost(active, residuals, theta)
    for _ in range(steps):
        curvature = _curvature(slopes[active], data.weights, variance[active]) + precision * eye
        downhill = ((slopes[active] * data.weights) @ residuals[active][..., None])[..., 0]
        downhill = downhill / variance[active, None] - (theta[active] - mean[active]) * precision
        damped = curvature * (1.0 + damping[active, None, None] * eye)
        moved = theta[active] + np.linalg.solve(damped, downhill[..., None])[..., 0]
        value, moved_slopes = law.gradient(moved)
        off = data.log_y[active] - value
        lower = cost(active, off, moved)
        better = np.isfinite(lower) & (lower <= costs[active])
        gain = np.where(better, costs[active] - lower, np.inf)
        rows = active[better]
        theta[rows], residuals[rows], slopes[rows] = moved[better], off[better], moved_slopes[better]
        costs[rows] = lower[better]
        damping[active] = np.where(better, np.maximum(0.2 * damping[active], 1e-9), 6.0 * damping[active])
        active = active[(gain > tolerance) & (damping[active] < 1e7)]
        if not active.size:
            break
    return theta, residuals, slopes


def _curvature(slopes: Array, weights: Array, variance: Array) -> Array:
    """Gauss and Newton's approximation of the cost's Hessian without the prior's: [B, P, P]."""
    return np.asarray((slopes * weights) @ slopes.transpose(0, 2, 1) / variance[:, None, None])
