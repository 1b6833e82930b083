"""The law of params and examples whose two terms are coupled: the additive law and Kaplan's are special cases."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from analysis.laws.base import LOG_EXPONENT
from analysis.laws.newton import choose
from analysis.laws.surfaces.chinchilla import Chinchilla

if TYPE_CHECKING:
    from analysis.laws.newton import Problem

Array = NDArray[np.float64]
_TRIED = np.log([0.6, 1.0, 2.0, 6.0])


class Coupled(Chinchilla):
    """y = floor + [(A N^-alpha)^q + (B D^-beta)^q]^(1/q): a power mean of the two terms, their maximum for large q.

    q = 1 is `Chinchilla`; q = 1 / beta with floor 0 is `Kaplan`. The optimum of a budget divides the mean between
    its terms as alpha to beta whatever q is, so that its exponents are those of `Chinchilla`. q is in [0.1, 1000],
    the inverse of the range of exponents. theta = that of `Chinchilla`, log q.
    """

    formula = "{floor} + [({A} {N}^-{alpha})^{q} + ({B} {D}^-{beta})^{q}]^(1/{q})"
    theta_names = (*Chinchilla.theta_names, "q")
    rates = ("q",)
    low = np.append(Chinchilla.low, -LOG_EXPONENT[1])
    high = np.append(Chinchilla.high, -LOG_EXPONENT[0])
    limit = np.append(Chinchilla.limit, 1.0)

    def parameters(self, theta: Array, centre_y: float) -> dict[str, Array]:
        """As for `Chinchilla`, and q: arrays [B]."""
        return super().parameters(theta, centre_y) | {"q": np.exp(theta[:, 5])}

    def value(self, theta: Array) -> Array:
        """Logarithm of the law, [B, n]."""
        return np.asarray(np.log(theta[:, 4, None] + np.exp(self._mean(theta)[0])))

    def gradient(self, theta: Array) -> tuple[Array, Array]:
        """Logarithm of the law [B, n] and its derivatives [B, 6, n]."""
        mean, share, by_n, by_d = self._mean(theta)
        term = np.exp(mean)
        model = theta[:, 4, None] + term
        parts = np.empty((len(theta), 6, self.logs.shape[1]))
        np.multiply(share, term / model, out=parts[:, 1])
        np.subtract(term / model, parts[:, 1], out=parts[:, 3])
        parts[:, 0] = -np.exp(theta[:, 0, None]) * self.logs[0] * parts[:, 1]
        parts[:, 2] = -np.exp(theta[:, 2, None]) * self.logs[1] * parts[:, 3]
        parts[:, 4] = 1.0 / model
        parts[:, 5] = (by_d - mean + share * (by_n - by_d)) * term / model
        return np.log(model), parts

    def starts(self, problem: Problem, count: int) -> Array:
        """The best of the starts of `Chinchilla` at every one of a few q: [B, count, 6]."""
        base = super().starts(problem, count)
        tries = [np.concatenate([base, np.full((*base.shape[:2], 1), q)], axis=2) for q in _TRIED]
        return choose(problem, np.concatenate(tries, axis=1), count)

    def _mean(self, theta: Array) -> tuple[Array, Array, Array, Array]:
        """Logarithm of the mean of the terms, the share of params in it, logarithms of the terms: [B, n] each."""
        by_n = theta[:, 1, None] - np.exp(theta[:, 0, None]) * self.logs[0]
        by_d = theta[:, 3, None] - np.exp(theta[:, 2, None]) * self.logs[1]
        q = np.exp(theta[:, 5, None])
        mean = np.logaddexp(q * by_n, q * by_d) / q
        return np.clip(mean, -700.0, 700.0), np.exp(q * (by_n - mean)), by_n, by_d
