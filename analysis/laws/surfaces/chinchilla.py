"""The law of params and examples with two additive terms (Hoffmann et al. 2022).

Starts come from variable projection: for every pair of exponents of a grid the remaining parameters are linear and
non-negative, with a solution in closed form.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from analysis.laws.base import ABSENT, LOG_EXPONENT, Law
from analysis.laws.nonnegative import nonnegative

if TYPE_CHECKING:
    from analysis.laws.newton import Problem

Array = NDArray[np.float64]
FORMS = ("chinchilla", "coupled", "bounded", "overfitted", "kaplan")
"""Laws of params and examples that are compared on every table."""
_FEW, _MANY = 10, 24
_FEW_FROM = 32


class Chinchilla(Law):
    """y = floor + A N^-alpha + B D^-beta (Hoffmann et al. 2022, equation 10).

    theta = (log alpha, log of A N^-alpha at the centre, log beta, log of B D^-beta at the centre, floor).
    """

    inputs: ClassVar[tuple[str, ...]] = ("N", "D")
    formula = "{floor} + {A} {N}^-{alpha} + {B} {D}^-{beta}"
    theta_names: tuple[str, ...] = ("alpha", "A", "beta", "B", "floor")
    exponents = ("alpha", "beta")
    terms: ClassVar = {"A": 0, "B": 1}
    low = np.array([LOG_EXPONENT[0], ABSENT, LOG_EXPONENT[0], ABSENT, 0.0])
    high = np.array([LOG_EXPONENT[1], np.inf, LOG_EXPONENT[1], np.inf, np.inf])
    limit = np.array([1.0, 3.0, 1.0, 3.0, np.inf])

    def rivals(self) -> dict[str, Law]:
        """The other forms of params and examples, by name; none where repeated examples are told apart."""
        return other_forms(self)

    def parameters(self, theta: Array, centre_y: float) -> dict[str, Array]:
        """A, alpha, B, beta, floor in the units of the data, and the exponents of the optimum: arrays [B]."""
        alpha, beta = np.exp(theta[:, 0]), np.exp(theta[:, 2])
        return {
            "A": np.exp(theta[:, 1] + centre_y + alpha * self.centre[0]),
            "alpha": alpha,
            "B": np.exp(theta[:, 3] + centre_y + beta * self.centre[1]),
            "beta": beta,
            "floor": theta[:, 4] * np.exp(centre_y),
            **optimum_exponents(alpha, beta),
        }

    def value(self, theta: Array) -> Array:
        """Logarithm of the law, [B, n]."""
        by_n, by_d = self._terms(theta)
        return np.asarray(np.log(theta[:, 4, None] + by_n + by_d))

    def gradient(self, theta: Array) -> tuple[Array, Array]:
        """Logarithm of the law [B, n] and its derivatives [B, 5, n]."""
        return self._additive_gradient(theta, *self.logs)

    def starts(self, problem: Problem, count: int) -> Array:
        """The best grid points of each data set by the linear problem's least squares: [B, count, 5]."""
        p = exponent_grid(problem)
        z, w = (np.exp(-np.exp(p) * axis[:, None]) for axis in self.logs)
        y, relative = np.exp(problem.log_y), problem.relative()
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

    def _terms(self, theta: Array) -> tuple[Array, ...]:
        """The term of params and that of examples, [B, n]."""
        return self._powers(theta, *self.logs)

    @staticmethod
    def _powers(theta: Array, u: Array, v: Array) -> tuple[Array, Array]:
        return (
            np.exp(np.clip(theta[:, 1, None] - np.exp(theta[:, 0, None]) * u, -700.0, 700.0)),
            np.exp(np.clip(theta[:, 3, None] - np.exp(theta[:, 2, None]) * v, -700.0, 700.0)),
        )

    def _additive_gradient(self, theta: Array, u: Array, v: Array) -> tuple[Array, Array]:
        """The law at log N and log D, [n] or [B, n], and its derivatives by the five parameters at these inputs."""
        by_n, by_d = self._powers(theta, u, v)
        model = theta[:, 4, None] + by_n + by_d
        parts = np.empty((len(theta), 5, self.logs.shape[1]))
        np.divide(by_n, model, out=parts[:, 1])
        np.divide(by_d, model, out=parts[:, 3])
        np.multiply(parts[:, 1], -np.exp(theta[:, 0, None]) * u, out=parts[:, 0])
        np.multiply(parts[:, 3], -np.exp(theta[:, 2, None]) * v, out=parts[:, 2])
        np.divide(1.0, model, out=parts[:, 4])
        return np.log(model), parts


def optimum_exponents(alpha: Array, beta: Array) -> dict[str, Array]:
    """The exponents of the optimum in C = k N D, whatever k (Hoffmann et al. 2022, equation 4)."""
    both = alpha + beta
    return {
        "params_exponent": beta / both,
        "examples_exponent": alpha / both,
        "frontier_exponent": alpha * beta / both,
    }


def other_forms(law: Law) -> dict[str, Law]:
    """The forms of `FORMS` other than a law, placed at its points."""
    from analysis.laws import LAWS  # which imports the laws

    if law.inputs != ("N", "D"):
        return {}
    entries = {name: LAWS.get(name) for name in FORMS}
    return {name: entry(law.logs, law.centre) for name, entry in entries.items() if entry is not type(law)}


def exponent_grid(problem: Problem) -> Array:
    """Logarithms of the exponents from which a search starts."""
    return np.log(np.geomspace(0.003, 6.0, _MANY if len(problem.log_y) < _FEW_FROM else _FEW))
