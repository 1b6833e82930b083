"""The laws of two variables: Hoffmann et al. 2022.

Inputs are divided by their geometric means, so that an exponent does not know the unit and is nearly
uncorrelated with its coefficient; y is divided by its median. Starts come from variable projection: for every
pair of exponents of a grid the remaining parameters are linear, non-negative and have a closed form.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from analysis.form import ABSENT, LOG_EXPONENT, Form

if TYPE_CHECKING:
    from analysis.newton import Problem

Array = NDArray[np.float64]
_FEW, _MANY = 10, 24
_FEW_FROM = 32


class Additive(Form):
    """y = floor + A N^-alpha + B D^-beta (Hoffmann et al. 2022, equation 10).

    theta = (log alpha, log of A N^-alpha at the centre, log beta, log of B D^-beta at the centre, floor).
    """

    inputs = ("N", "D")
    formula = "{floor} + {A} {N}^-{alpha} + {B} {D}^-{beta}"
    theta_names = ("alpha", "A", "beta", "B", "floor")
    exponents = ("alpha", "beta")
    terms: ClassVar = {"A": 0, "B": 1}
    low = np.array([LOG_EXPONENT[0], ABSENT, LOG_EXPONENT[0], ABSENT, 0.0])
    high = np.array([LOG_EXPONENT[1], np.inf, LOG_EXPONENT[1], np.inf, np.inf])
    limit = np.array([1.0, 3.0, 1.0, 3.0, np.inf])

    def parameters(self, theta: Array, centre_x: Array, centre_y: float) -> dict[str, Array]:
        """A, alpha, B, beta, floor in the units of the data, and the exponents of the optimum: arrays [B]."""
        alpha, beta = np.exp(theta[:, 0]), np.exp(theta[:, 2])
        return {
            "A": np.exp(theta[:, 1] + centre_y + alpha * centre_x[0]),
            "alpha": alpha,
            "B": np.exp(theta[:, 3] + centre_y + beta * centre_x[1]),
            "beta": beta,
            "floor": theta[:, 4] * np.exp(centre_y),
            "params_exponent": beta / (alpha + beta),
            "examples_exponent": alpha / (alpha + beta),
            "frontier_exponent": alpha * beta / (alpha + beta),
        }

    def value(self, theta: Array) -> Array:
        """Logarithm of the law, [B, n]."""
        by_n, by_d = self._terms(theta)
        return np.asarray(np.log(theta[:, 4, None] + by_n + by_d))

    def gradient(self, theta: Array) -> tuple[Array, Array]:
        """Logarithm of the law [B, n] and its derivatives [B, 5, n]."""
        by_n, by_d = self._terms(theta)
        model = theta[:, 4, None] + by_n + by_d
        parts = np.empty((len(theta), 5, self.logs.shape[1]))
        np.divide(by_n, model, out=parts[:, 1])
        np.divide(by_d, model, out=parts[:, 3])
        np.multiply(parts[:, 1], -np.exp(theta[:, 0, None]) * self.logs[0], out=parts[:, 0])
        np.multiply(parts[:, 3], -np.exp(theta[:, 2, None]) * self.logs[1], out=parts[:, 2])
        np.divide(1.0, model, out=parts[:, 4])
        return np.log(model), parts

    def starts(self, problem: Problem, count: int) -> Array:
        """The best grid points of each data set by the linear problem's least squares: [B, count, 5]."""
        p = np.log(np.geomspace(0.02, 4.0, _MANY if len(problem.log_y) < _FEW_FROM else _FEW))
        z, w = (np.exp(-np.exp(p) * axis[:, None]) for axis in self.logs)
        y = np.exp(problem.log_y)
        relative = problem.weights * problem.precision**2 / (y**2 if problem.loss.residuals == "log" else 1.0)
        (i, j), linear = np.indices((p.size, p.size)).reshape(2, -1), relative * y
        both = relative @ (z[:, :, None] * w[:, None, :]).reshape(self.logs.shape[1], -1)
        square = (relative.sum(axis=1, keepdims=True), (relative @ z**2)[:, i], (relative @ w**2)[:, j])
        cross = ((relative @ z)[:, i], (relative @ w)[:, j], both)
        right = (linear.sum(axis=1, keepdims=True), (linear @ z)[:, i], (linear @ w)[:, j])
        best, gain = nonnegative(square, cross, right)
        chosen = np.argsort(-gain, axis=1)[:, :count]
        floor, a, b = (np.take_along_axis(part, chosen, axis=1) for part in best)
        tiny = np.exp(ABSENT)
        return np.stack([p[i[chosen]], np.log(a + tiny), p[j[chosen]], np.log(b + tiny), floor], axis=-1)

    def _terms(self, theta: Array) -> tuple[Array, Array]:
        return (
            np.exp(np.clip(theta[:, 1, None] - np.exp(theta[:, 0, None]) * self.logs[0], -700.0, 700.0)),
            np.exp(np.clip(theta[:, 3, None] - np.exp(theta[:, 2, None]) * self.logs[1], -700.0, 700.0)),
        )


def nonnegative(
    square: tuple[Array, Array, Array], cross: tuple[Array, Array, Array], right: tuple[Array, Array, Array]
) -> tuple[tuple[Array, Array, Array], Array]:
    """Non-negative least squares in three variables, for every cell of the arrays that broadcast to [B, G].

    `square` are the diagonal of the normal matrix, `cross` its elements 01, 02, 12, `right` the right-hand
    side. Every active set is tried: returns the three variables and the decrease of the loss.
    """
    shape = np.broadcast_shapes(*(part.shape for part in (*square, *cross, *right)))
    best = tuple(np.zeros(shape) for _ in range(3))
    gain = np.zeros(shape)
    pair = {(0, 1): cross[0], (0, 2): cross[1], (1, 2): cross[2]}
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        trials = [{k: right[k] / square[k]} for k in range(3)]
        trials += [_two(square, pair[ij], right, *ij) for ij in pair]
        trials.append(_three(square, cross, right))
    for trial in trials:
        found = sum(right[k] * value for k, value in trial.items())
        good = (found > gain) & np.isfinite(found)
        for value in trial.values():
            good = good & (value > 0)
        gain = np.where(good, found, gain)
        best = tuple(np.where(good, trial.get(k, 0.0), part) for k, part in enumerate(best))
    return (best[0], best[1], best[2]), gain


def _two(square: tuple[Array, ...], across: Array, right: tuple[Array, ...], i: int, j: int) -> dict[int, Array]:
    determinant = square[i] * square[j] - across**2
    determinant = np.where(determinant > 1e-12 * square[i] * square[j], determinant, np.nan)
    return {
        i: (right[i] * square[j] - right[j] * across) / determinant,
        j: (right[j] * square[i] - right[i] * across) / determinant,
    }


def _three(square: tuple[Array, ...], cross: tuple[Array, ...], right: tuple[Array, ...]) -> dict[int, Array]:
    (a, b, c), (d, e, f) = square, cross
    minors = (b * c - f * f, e * f - d * c, d * f - e * b, a * c - e * e, d * e - a * f, a * b - d * d)
    determinant = a * minors[0] + d * minors[1] + e * minors[2]
    determinant = np.where(determinant > 1e-12 * a * b * c, determinant, np.nan)
    rows = ((0, 1, 2), (1, 3, 4), (2, 4, 5))
    return {
        k: sum(minors[m] * r for m, r in zip(row, right, strict=True)) / determinant for k, row in enumerate(rows)
    }
