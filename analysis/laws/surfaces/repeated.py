"""Data-constrained laws: repeated examples, and params beyond the optimal number, count for less."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from analysis.laws.newton import choose
from analysis.laws.surfaces.chinchilla import Chinchilla

if TYPE_CHECKING:
    from analysis.laws.newton import Problem

Array = NDArray[np.float64]
_LOW, _HIGH = np.log(1e-2), np.log(1e4)
_TRIED = np.log([1.0, 4.0, 15.0, 60.0, 500.0])


class RepeatedExamples(Chinchilla):
    """y = floor + A N^-alpha + B D'^-beta, D' = U + U r (1 - exp(-R / r)) (Muennighoff et al. 2023, equation 5).

    U are the unique examples, D all that were seen, R = D / U - 1 their repeats and r = `examples_decay` the
    repeats after which another is worth 1 / e of a new example. theta = that of `Chinchilla`, log r.
    """

    inputs: ClassVar = ("N", "U", "D")
    formula = "{floor} + {A} {N}^-{alpha} + {B} D'^-{beta}, {D} decaying after {examples_decay} repeats of {U}"
    theta_names = (*Chinchilla.theta_names, "examples_decay")
    rates: tuple[str, ...] = ("examples_decay",)
    terms: ClassVar = {"A": 0, "B": 2}
    low = np.append(Chinchilla.low, _LOW)
    high = np.append(Chinchilla.high, _HIGH)
    limit = np.append(Chinchilla.limit, 1.0)

    def parameters(self, theta: Array, centre_y: float) -> dict[str, Array]:
        """As for `Chinchilla`, and the rates in repeats: arrays [B]."""
        base = Chinchilla(self.logs[[0, 2]], self.centre[[0, 2]]).parameters(theta, centre_y)
        return base | {name: np.exp(theta[:, 5 + k]) for k, name in enumerate(self.rates)}

    def gradient(self, theta: Array) -> tuple[Array, Array]:
        """Logarithm of the law [B, n] and its derivatives [B, P, n]."""
        u, v, by_rate = self._inputs(theta)
        log_law, parts = self._additive_gradient(theta, u, v)
        slope = -np.exp(theta[:, 2, None]) * parts[:, 3]
        return log_law, np.concatenate([parts, (slope * by_rate)[:, None]], axis=1)

    def starts(self, problem: Problem, count: int) -> Array:
        """The best of the starts of `Chinchilla` at every one of a few rates: [B, count, P]."""
        every = np.concatenate([self._starts_at(problem, rate, count) for rate in _TRIED], axis=1)
        return choose(problem, every, count)

    def _starts_at(self, problem: Problem, rate: float, count: int) -> Array:
        seen = _saturating(self._unique(), self._repeats(), np.full((1, 1), rate))[0][0]
        base = Chinchilla(np.stack([self.logs[0], seen]), self.centre).starts(problem, count)
        return np.concatenate([base, np.full((*base.shape[:2], 1), rate)], axis=2)

    def _unique(self) -> Array:
        """Logarithm of the examples seen at least once, from the centre of log D: [1, n]."""
        log_u = self.logs[1] + self.centre[1] - self.centre[2]
        return np.asarray(np.minimum(log_u, self.logs[2])[None, :])

    def _repeats(self) -> Array:
        return np.asarray(np.expm1(self.logs[2] - self._unique()))

    def _inputs(self, theta: Array) -> tuple[Array, Array, Array]:
        """Log N [1, n], log D' [B, n] and its derivative by log r."""
        return self.logs[0][None, :], *_saturating(self._unique(), self._repeats(), theta[:, 5, None])

    def _terms(self, theta: Array) -> tuple[Array, Array]:
        u, v = self._inputs(theta)[:2]
        return self._powers(theta, u, v)


class Repeated(RepeatedExamples):
    """As `RepeatedExamples`, with params N' = V + V s (1 - exp(-(N / V - 1) / s)) (equation 6) in place of N.

    V is the params that are optimal for U unique examples, or N where that is less; s = `params_decay`.
    theta = that of `RepeatedExamples`, log s.
    """

    formula = (
        "{floor} + {A} N'^-{alpha} + {B} D'^-{beta}, {D} decaying after {examples_decay} repeats of {U}, "
        "{N} decaying after {params_decay} times the optimum for {U}"
    )
    theta_names = (*RepeatedExamples.theta_names, "params_decay")
    rates = ("examples_decay", "params_decay")
    low = np.append(RepeatedExamples.low, _LOW)
    high = np.append(RepeatedExamples.high, _HIGH)
    limit = np.append(RepeatedExamples.limit, 1.0)

    def gradient(self, theta: Array) -> tuple[Array, Array]:
        """Logarithm of the law [B, n] and its derivatives [B, 7, n]."""
        u, v, by_rate = self._inputs(theta)
        log_law, parts = self._additive_gradient(theta, u, v)
        by_u = -np.exp(theta[:, 0, None]) * parts[:, 1]
        by_v = -np.exp(theta[:, 2, None]) * parts[:, 3]
        optimal, optimum, excess = self._optimal(theta)
        _, by_decay = _saturating(optimal, excess, theta[:, 6, None])
        by_optimal = np.where(excess > 0, by_u * self._through(excess, theta[:, 6, None]), 0.0)
        alpha, beta = np.exp(theta[:, 0, None]), np.exp(theta[:, 2, None])
        parts[:, 0] += by_optimal * (1 / alpha - optimum)
        parts[:, 1] += by_optimal / alpha
        parts[:, 2] += by_optimal * (beta * self._unique() - 1) / alpha
        parts[:, 3] -= by_optimal / alpha
        more = np.stack([by_v * by_rate, by_u * by_decay], axis=1)
        return log_law, np.concatenate([parts, more], axis=1)

    def _starts_at(self, problem: Problem, rate: float, count: int) -> Array:
        base = super()._starts_at(problem, rate, count)
        tries = [np.concatenate([base, np.full((*base.shape[:2], 1), decay)], axis=2) for decay in _TRIED[1::2]]
        return np.concatenate(tries, axis=1)

    def _inputs(self, theta: Array) -> tuple[Array, Array, Array]:
        """Log N' [B, n], log D' [B, n] and its derivative by log r."""
        _, v, by_rate = super()._inputs(theta)
        optimal, _, excess = self._optimal(theta)
        return _saturating(optimal, excess, theta[:, 6, None])[0], v, by_rate

    def _optimal(self, theta: Array) -> tuple[Array, Array, Array]:
        """Log V, log of the optimal params for U, and N / V - 1: [B, n] each."""
        p, a, r, b = (theta[:, k, None] for k in range(4))
        optimum = (p + a - r - b + np.exp(r) * self._unique()) / np.exp(p)
        optimal = np.minimum(self.logs[0], optimum)
        return optimal, optimum, np.expm1(np.minimum(self.logs[0] - optimal, 50.0))

    @staticmethod
    def _through(excess: Array, log_decay: Array) -> Array:
        """Derivative of log N' by log V at fixed N."""
        decay = np.exp(log_decay)
        worth = 1 - decay * np.expm1(-excess / decay)
        return np.asarray(1 - (excess + 1) * np.exp(-excess / decay) / worth)


def _saturating(base: Array, repeats: Array, log_decay: Array) -> tuple[Array, Array]:
    """Logarithm of base (1 + r (1 - exp(-R / r))) and its derivative by log r, for log base and R [.., n]."""
    decay = np.exp(log_decay)
    ratio = repeats / decay
    worth = 1 - decay * np.expm1(-ratio)
    by_decay = decay * (-np.expm1(-ratio) - ratio * np.exp(-ratio)) / worth
    return base + np.log(worth), by_decay
