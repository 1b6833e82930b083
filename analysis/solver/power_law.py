"""The batched solver of the one-variable power law: many weighted data sets that share x, in the units of the data.

The law is `curve_forms.Power`, the steps are those of `newton`: starts from variable projection, all data sets by
one matrix product; the best are refined by projected, damped Newton steps.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from analysis.laws import newton
from analysis.laws.newton import Loss, Problem
from analysis.laws.power import Power

Array = NDArray[np.float64]
_CHUNK, _STARTS = 256, 8


@dataclass(frozen=True)
class Solution:
    """What the solver found for B data sets, in the units of the data.

    `exponent`, `log_coefficient` (natural logarithm), `floor` (unit of y), `shift` (unit of x), `objective`
    (sum of the weighted losses) and `converged` all have shape [B].
    """

    exponent: Array
    log_coefficient: Array
    floor: Array
    shift: Array
    objective: Array
    converged: NDArray[np.bool_]

    def __getitem__(self, rows: slice | NDArray[np.intp] | NDArray[np.bool_]) -> Solution:
        return Solution(**{name: values[rows] for name, values in vars(self).items()})

    def predict(self, x: Array) -> Array:
        """The laws at `x` [n], one row a data set: [B, n]."""
        log_power = self.exponent[:, None] * np.log(self.shift[:, None] + x[None, :])
        return self.floor[:, None] + np.exp(self.log_coefficient[:, None] - log_power)


@dataclass(frozen=True)
class Form:
    """Which parts the law has besides coefficient and exponent."""

    floor: bool = True
    shift: bool = False

    @property
    def count(self) -> int:
        """Number of free parameters, 2 to 4."""
        return 2 + self.floor + self.shift


@dataclass(frozen=True)
class Points:
    """The x [n] that B data sets share, and how residuals there are measured.

    `loss` has its threshold in the unit of the residuals, and `precision` [n] multiplies them.
    """

    x: Array
    loss: Loss = field(default_factory=Loss)
    precision: Array | float = 1.0


def solve(
    points: Points, y: Array, weights: Array, form: Form, *, warm: Solution | None = None, starts: int = 1
) -> Solution:
    """Fit the law to B weighted data sets that share x.

    Args:
        points: x and the loss.
        y: [n] or [B, n], positive.
        weights: [B, n], non-negative.
        form: which parameters are free.
        warm: one law (B = 1) to try as a start beside those of the grid.
        starts: how many of the best starts of each data set are refined. The best end is returned.
    """
    chunks = [slice(at, at + _CHUNK) for at in range(0, len(weights), _CHUNK)]
    parts = [_solve(points, y[c] if y.ndim == 2 else y, weights[c], form, warm, starts) for c in chunks]
    return Solution(**{name: np.concatenate([getattr(p, name) for p in parts]) for name in vars(parts[0])})


def solve_robust(points: Points, y: Array, weights: Array, form: Form) -> tuple[Solution, Points]:
    """One fit with the threshold taken from the data, [1] data set, and the points with that threshold.

    A least-squares pilot gives residuals; delta = 1.345 x 1.4826 x MAD, the MAD corrected for the parameters
    spent; three times, since an outlier moves the pilot. `points.loss` is kept where its threshold is finite.
    """
    fit = solve(points, y, weights[None, :], form, starts=_STARTS)
    for _ in range(3):
        law = fit.predict(points.x)[0]
        residuals = np.log(y) - np.log(law) if points.loss.residuals == "log" else y - law
        delta = newton.threshold((residuals * points.precision)[weights > 0], form.count)
        points = replace(points, loss=replace(points.loss, delta=delta))
        if delta <= newton.MIN_THRESHOLD:  # an exact law: nothing is left to reweight
            break
        fit = solve(points, y, weights[None, :], form, warm=fit, starts=_STARTS)
    return fit, points


def _solve(points: Points, y: Array, weights: Array, form: Form, warm: Solution | None, starts: int) -> Solution:
    log_x, log_y = np.log(points.x), np.log(np.broadcast_to(y, weights.shape))
    centre_x, centre_y = float(log_x.mean()), float(np.median(log_y))
    law = Power((log_x - centre_x)[None, :], np.array([centre_x]), floor=form.floor, shift=form.shift)
    unit = np.exp(centre_y) if points.loss.residuals == "raw" else 1.0
    loss = replace(points.loss, delta=points.loss.delta / unit)
    precision = np.broadcast_to(np.asarray(points.precision, dtype=float), log_x.shape)
    problem = Problem(law, log_y - centre_y, weights, precision, loss)
    ends, objective, converged = newton.search(
        law, problem, None if warm is None else _scaled(warm, law, centre_y), starts
    )
    return _unscaled(ends, objective * unit**2, converged, law, centre_y)


def _unscaled(
    theta: Array, objective: Array, converged: NDArray[np.bool_], law: Power, centre_y: float
) -> Solution:
    exponent, s = np.exp(theta[:, 0]), law.ends[0] * np.expm1(theta[:, 3])
    return Solution(
        exponent=exponent,
        log_coefficient=theta[:, 1] + centre_y + exponent * (law.centre[0] + np.log1p(s)),
        floor=theta[:, 2] * np.exp(centre_y),
        shift=s * np.exp(law.centre[0]),
        objective=objective,
        converged=converged,
    )


def _scaled(fit: Solution, law: Power, centre_y: float) -> Array:
    s = fit.shift * np.exp(-law.centre[0])
    q = fit.log_coefficient - centre_y - fit.exponent * (law.centre[0] + np.log1p(s))
    parts = (np.log(fit.exponent), q, fit.floor * np.exp(-centre_y), np.log1p(s / law.ends[0]))
    return np.concatenate(parts)
