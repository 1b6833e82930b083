"""Laws of params and examples with a ceiling, such as chance for an error rate; one also overfits."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from analysis.laws.base import ABSENT, LOG_EXPONENT
from analysis.laws.newton import choose
from analysis.laws.surfaces.chinchilla import Chinchilla

if TYPE_CHECKING:
    from analysis.laws.newton import Problem

Array = NDArray[np.float64]
_CEILINGS = (0.05, 0.3, 1.2, -ABSENT)
"""Starting points: log of the ceiling over the largest y."""
_OVERFITTED = ((-2.0, 0.2, 0.5), (-2.0, 0.5, 1.0), (-4.0, 1.0, 1.5), (-4.0, 0.3, 1.5))
"""Starting points: log of the third term at the centre, gamma, delta."""


class Bounded(Chinchilla):
    """y = floor + (ceiling - floor) h / (1 + h), h = H / ceiling, H = A N^-alpha + B D^-beta.

    That is (floor + H) / (1 + H / ceiling): `Chinchilla` for an infinite ceiling, and far below a finite one. y
    rises with H, so that its optimum is that of `Chinchilla`. theta = that of `Chinchilla`, log ceiling.
    """

    formula = "({floor} + H) / (1 + H / {ceiling}), H = {A} {N}^-{alpha} + {B} {D}^-{beta}"
    theta_names: tuple[str, ...] = (*Chinchilla.theta_names, "ceiling")
    low = np.append(Chinchilla.low, -1.0)
    high = np.append(Chinchilla.high, -ABSENT)
    limit = np.append(Chinchilla.limit, 1.0)

    def parameters(self, theta: Array, centre_y: float) -> dict[str, Array]:
        """As for `Chinchilla`, and the ceiling in the unit of y: arrays [B]."""
        return super().parameters(theta, centre_y) | {"ceiling": np.exp(theta[:, 5] + centre_y)}

    def value(self, theta: Array) -> Array:
        """Logarithm of the law, [B, n]."""
        total = sum(self._terms(theta))
        return np.asarray(np.log(theta[:, 4, None] + total) - np.log1p(np.exp(-theta[:, 5, None]) * total))

    def gradient(self, theta: Array) -> tuple[Array, Array]:
        """Logarithm of the law [B, n] and its derivatives [B, P, n]."""
        log_law, parts, slope, terms = self._derivatives(theta)
        np.multiply(terms[0], slope, out=parts[:, 1])
        np.multiply(terms[1], slope, out=parts[:, 3])
        np.multiply(parts[:, 1], -np.exp(theta[:, 0, None]) * self.logs[0], out=parts[:, 0])
        np.multiply(parts[:, 3], -np.exp(theta[:, 2, None]) * self.logs[1], out=parts[:, 2])
        return log_law, parts

    def starts(self, problem: Problem, count: int) -> Array:
        """The best of the starts of `Chinchilla` at every one of a few ceilings: [B, count, P]."""
        base, most = super().starts(problem, count), problem.log_y.max(axis=1)[:, None, None]
        shape = (*base.shape[:2], 1)
        tries = [np.concatenate([base, np.broadcast_to(most + more, shape)], axis=2) for more in _CEILINGS]
        return choose(problem, np.concatenate([self._widened(part) for part in tries], axis=1), count)

    def _widened(self, theta: Array) -> Array:
        """Starts [B, K, 6] with the further parameters of a subclass."""
        return theta

    def _derivatives(self, theta: Array) -> tuple[Array, Array, Array, tuple[Array, ...]]:
        """Log of the law; derivatives, by floor and ceiling so far; the derivative by H; and the terms of H."""
        terms, inverse = self._terms(theta), np.exp(-theta[:, 5, None])
        total = sum(terms)
        top, bottom = theta[:, 4, None] + total, 1.0 + inverse * total
        parts = np.empty((*theta.shape, self.logs.shape[1]))
        parts[:, 4] = 1.0 / top
        parts[:, 5] = inverse * total / bottom
        return np.log(top) - np.log(bottom), parts, parts[:, 4] - inverse / bottom, terms


class Overfitted(Bounded):
    """`Bounded` with H = A N^-alpha + B D^-beta + C N^gamma D^-delta: too large a model for D distinct examples.

    Under C = k N D the third term limits the optimal params to C^(delta / (alpha + gamma + delta)) where that is
    less than `Chinchilla`'s. theta = that of `Bounded`, log of the third term at the centre, log gamma, log delta.
    """

    formula = (
        "({floor} + H) / (1 + H / {ceiling}), H = {A} {N}^-{alpha} + {B} {D}^-{beta} + {C} {N}^{gamma} {D}^-{delta}"
    )
    theta_names = (*Bounded.theta_names, "C", "gamma", "delta")
    rates = ("gamma", "delta")
    low = np.append(Bounded.low, [ABSENT, LOG_EXPONENT[0], LOG_EXPONENT[0]])
    high = np.append(Bounded.high, [np.inf, LOG_EXPONENT[1], LOG_EXPONENT[1]])
    limit = np.append(Bounded.limit, [3.0, 1.0, 1.0])

    def parameters(self, theta: Array, centre_y: float) -> dict[str, Array]:
        """As for `Bounded`, C, gamma, delta, and the exponents of the optimum with the third term: arrays [B]."""
        base, gamma, delta = super().parameters(theta, centre_y), np.exp(theta[:, 7]), np.exp(theta[:, 8])
        share = np.minimum(base["params_exponent"], delta / (base["alpha"] + gamma + delta))
        return base | {
            "C": np.exp(theta[:, 6] + centre_y - gamma * self.centre[0] + delta * self.centre[1]),
            "gamma": gamma,
            "delta": delta,
            "params_exponent": share,
            "examples_exponent": 1 - share,
            "frontier_exponent": base["alpha"] * share,
        }

    def overfits(self, theta: Array) -> float:
        """Share of the points at which y rises with N, for theta [P]; without any the third term shows nothing."""
        by_n, _, third = self._terms(theta[None, :])
        return float(np.mean(np.exp(theta[7]) * third > np.exp(theta[0]) * by_n))

    def _terms(self, theta: Array) -> tuple[Array, ...]:
        log_third = theta[:, 6, None] + (
            np.exp(theta[:, 7, None]) * self.logs[0] - np.exp(theta[:, 8, None]) * self.logs[1]
        )
        return *super()._terms(theta), np.exp(np.clip(log_third, -700.0, 700.0))

    def _derivatives(self, theta: Array) -> tuple[Array, Array, Array, tuple[Array, ...]]:
        log_law, parts, slope, terms = super()._derivatives(theta)
        parts[:, 6] = slope * terms[2]
        parts[:, 7] = np.exp(theta[:, 7, None]) * self.logs[0] * parts[:, 6]
        parts[:, 8] = -np.exp(theta[:, 8, None]) * self.logs[1] * parts[:, 6]
        return log_law, parts, slope, terms

    def _widened(self, theta: Array) -> Array:
        """Starts [B, K, 9]: every start with each of a few third terms."""
        at = np.array([[log_c, np.log(gamma), np.log(delta)] for log_c, gamma, delta in _OVERFITTED])
        tries = [np.concatenate([theta, np.broadcast_to(more, (*theta.shape[:2], 3))], axis=2) for more in at]
        return np.concatenate(tries, axis=1)
