"""Profile likelihood: how much worse the best fit becomes if a quantity has another value.

The law is fitted with the quantity fixed at each value of a grid, all values as one batch; the interval is where
the deviance stays below Student's quantile squared.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.laws import newton
from analysis.laws.base import Smooth, differences
from analysis.numbers import short
from analysis.solver import fitting, quantiles

if TYPE_CHECKING:
    from analysis.fits.result import LawFit
    from analysis.laws.newton import Problem

Array = NDArray[np.float64]
Quantity = Callable[[Array], Array]
_STEPS = np.array([0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0])
_STIFF, _WIDER, _ROUNDS = 1e5, 3.0, 5


@dataclass(frozen=True, eq=False)
class Profile:
    """The profile interval of a quantity.

    Attributes:
        name: the quantity, or "prediction".
        value, low, high: estimate and interval at `level`; if the deviance never reaches the limit, an end is
            that of the quantity's range (0, infinity, or the bound of the search).
        curve: the profile, columns `value` and `deviance` (0 at the estimate).
    """

    name: str
    value: float
    low: float
    high: float
    level: float
    curve: pd.DataFrame = field(repr=False)


def profile(fit: LawFit, name: str | None = None, *, at: tuple[float, ...] | None = None) -> Profile:
    """The profile-likelihood interval of a parameter or derived quantity, or of the law at a place.

    The deviance of an M-estimator is scaled to be that of a likelihood (2 (S - S_min) mean psi' / mean psi^2) and
    compared with Student's quantile squared at n - P degrees of freedom. It assumes that the law holds and that
    rows are independent with equal noise; the bootstrap by pairs assumes neither.

    Args:
        fit: a fit of any law.
        name: one of `fit.estimates`.
        at: inputs at which the law itself is the quantity, in place of a name.

    Raises:
        ValueError: neither or both of `name` and `at`, or rows that are not independent.
        KeyError: the law has no such quantity.
    """
    if (name is None) == (at is None):
        raise ValueError("profile needs the name of a quantity or a place `at`, exactly one of them")
    if name is not None and name in fit.law.constraints.fix:
        raise ValueError(f"{name!r} was fixed at {short(fit[name])}: it has no profile")
    if fit.n_clusters < fit.n:
        raise ValueError(
            f"{fit.n} rows are {fit.n_clusters} runs: a profile needs independent rows; use the bootstrap"
        )
    quantity, linear = _quantity(fit, name, at)
    solution, spare = fit.solution, max(fit.n - fit.law.free.size, 1)
    problem = fitting.pose(fit.law, fit.data, solution.loss)
    limit = quantiles.student(spare, fit.level) * quantiles.gauss(fit.level)
    step = _first_step(problem, solution.theta, quantity, spare)
    for _ in range(_ROUNDS):
        values, roots = _walk(problem, solution.theta, quantity, step, spare)
        if np.min(roots) < -limit and np.max(roots) > limit:
            break
        step = np.where([np.min(roots) < -limit, np.max(roots) > limit], step, _WIDER * step)
    ends = np.array([_end(values, roots, -limit), _end(values, roots, limit)])
    back: Callable[[Any], Any] = (lambda value: value) if linear else np.exp
    with np.errstate(over="ignore"):
        low, high = (float(back(end)) for end in ends)
        curve = pd.DataFrame({"value": back(values), "deviance": roots**2})
        value = float(back(quantity(solution.theta[None, :])[0]))
    return Profile(name or "prediction", value, low, high, fit.level, curve)


class _Constrained(Smooth):
    """A law with one more row, whose value is a quantity of theta."""

    def __init__(self, law: Smooth, quantity: Quantity) -> None:
        self.law, self.quantity = law, quantity
        self.low, self.high, self.limit = law.low, law.high, law.limit

    @property
    def free(self) -> NDArray[np.intp]:
        return self.law.free

    def value(self, theta: Array) -> Array:
        return np.concatenate([self.law.value(theta), self.quantity(theta)[:, None]], axis=1)

    def gradient(self, theta: Array) -> tuple[Array, Array]:
        log_law, parts = self.law.gradient(theta)
        slope = _slope(self.quantity, theta)[:, :, None]
        return np.concatenate([log_law, self.quantity(theta)[:, None]], axis=1), np.concatenate(
            [parts, slope], axis=2
        )


def _quantity(fit: LawFit, name: str | None, at: tuple[float, ...] | None) -> tuple[Quantity, bool]:
    """The quantity as a function of theta [B, P], on a log scale unless it may be 0."""
    law, centre_y = fit.law, fit.data.centre_y
    if at is not None:
        place = law.at(np.log(np.asarray(at, dtype=float))[:, None] - fit.data.centre_x[:, None])
        return lambda theta: place.value(theta)[:, 0] + centre_y, False
    key = str(name)
    fit[key]  # a KeyError that lists the quantities
    if key in law.linear:
        return lambda theta: law.parameters(theta, centre_y)[key], True
    return lambda theta: np.log(law.parameters(theta, centre_y)[key]), False


def _slope(quantity: Quantity, theta: Array) -> Array:
    """Derivatives of the quantity, [B, P]."""
    return differences(lambda moved: quantity(moved)[:, None], theta)[:, :, 0]


def _scale(problem: Problem, theta: Array, spare: int) -> float:
    """Factor that makes the loss a deviance: 2 mean psi' / mean psi^2, at `spare` degrees of freedom."""
    residuals = problem.residuals(problem.law.value(theta[None, :]))
    weights = problem.weights
    inside = np.sum(weights * problem.loss.curvature(residuals, reweighted=False)) / weights.sum()
    power = np.sum(weights * problem.loss.pull(residuals) ** 2) / spare
    return float(2 * inside / max(power, 1e-300))


def _first_step(problem: Problem, theta: Array, quantity: Quantity, spare: int) -> Array:
    """Standard error of the quantity from the curvature at the estimate, for either side: [2]."""
    free = problem.free
    jacobian = problem.jacobian(theta[None, :])[0] * np.sqrt(problem.weights[0])
    slope = _slope(quantity, theta[None, :])[0, free]
    size = np.sqrt(np.maximum(np.sum(jacobian**2, axis=1), 1e-300))
    normal = (jacobian / size[:, None]) @ (jacobian / size[:, None]).T + 1e-10 * np.eye(free.size)
    variance = (slope / size) @ np.linalg.solve(normal, slope / size) * 2 / _scale(problem, theta, spare)
    return np.full(2, np.sqrt(max(float(variance), 1e-24)))


def _walk(problem: Problem, theta: Array, quantity: Quantity, step: Array, spare: int) -> tuple[Array, Array]:
    """Values of the quantity in ascending order and the signed root of the deviance at each."""
    centre = float(quantity(theta[None, :])[0])
    targets = np.concatenate([centre - step[0] * _STEPS[::-1], centre + step[1] * _STEPS])
    count = targets.size
    wide = problem.rows(np.zeros(count, dtype=np.intp))
    constrained = replace(
        wide,
        law=_Constrained(problem.law, quantity),
        log_y=np.concatenate([wide.log_y, targets[:, None]], axis=1),
        weights=np.concatenate([wide.weights, np.full((count, 1), _STIFF * problem.weights.sum())], axis=1),
        precision=np.append(problem.precision, 1.0),
    )
    ends, _, _ = newton.refine(constrained, np.broadcast_to(theta, (count, theta.size)).copy())
    least = float(problem.objective(theta[None, :])[1][0])
    worse = np.maximum(wide.objective(ends)[1] - least, 0.0) * _scale(problem, theta, spare)
    values = np.insert(quantity(ends), count // 2, centre)
    roots = np.insert(np.sign(targets - centre) * np.sqrt(worse), count // 2, 0.0)
    order = np.argsort(values, kind="stable")
    return values[order], roots[order]


def _end(values: Array, roots: Array, limit: float) -> float:
    """Where the signed root crosses the limit, walking outwards from 0; the last value where it does not."""
    side = np.flatnonzero(np.sign(limit) * roots >= 0)
    outwards = side if limit > 0 else side[::-1]
    x, r = values[outwards], np.abs(roots[outwards])
    beyond = np.flatnonzero(r >= abs(limit))
    if beyond.size == 0:
        return float(x[-1])
    k = int(beyond[0])
    if k == 0:
        return float(x[0])
    share = (abs(limit) - r[k - 1]) / (r[k] - r[k - 1])
    return float(x[k - 1] + share * (x[k] - x[k - 1]))
