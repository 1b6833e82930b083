"""What a law needs to be weighted by its evidence: a curve in logarithms whose parameters have normal priors."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from analysis.laws.base import Law

if TYPE_CHECKING:
    from analysis.laws.newton import Problem

Array = NDArray[np.float64]
LEVEL = (0.0, 10.0)
"""Prior (mean, standard deviation) of the logarithm of y at the largest x, over the median of y."""
_RANGE = 8.0
"""Standard deviations from the prior's mean to the bounds of a parameter."""


class Curve(Law):
    """log y = level + shape(u), u = log(x / largest x) <= 0 at the data, with shape(0) = 0.

    theta[0] is the level. The priors of all theta are independent and normal.

    Attributes:
        priors: theta -> (mean, standard deviation) of its prior, in the order of theta.
        mass: prior weight of the law among others.
    """

    priors: ClassVar[dict[str, tuple[float, float]]]
    mass: ClassVar[float] = 1.0
    exponents = ("exponent",)

    def __init__(self, logs: Array, centre: Array) -> None:
        super().__init__(logs, centre)
        self.first, self.last = float(logs[0].min()), float(logs[0].max())
        self.theta_names = tuple(self.priors)
        self.mean, self.sd = np.array(list(self.priors.values())).T
        self.low, self.high = self.mean - _RANGE * self.sd, self.mean + _RANGE * self.sd
        self.limit = 2.0 * self.sd

    @property
    def u(self) -> Array:
        """Logarithm of x over the largest x of the data, [n]."""
        return np.asarray(self.logs[0] - self.last)

    @property
    def span(self) -> float:
        """log(smallest x / largest x) of the data, below 0."""
        return self.first - self.last

    @abstractmethod
    def shape(self, theta: Array, u: Array) -> tuple[Array, Array]:
        """Log y - level at u [n], [B, n], and its derivatives by theta[1:], [B, P - 1, n]."""

    def value(self, theta: Array) -> Array:
        """Logarithm of the law, [B, n]."""
        return np.asarray(theta[:, :1] + self.shape(theta, self.u)[0])

    def gradient(self, theta: Array) -> tuple[Array, Array]:
        """Logarithm of the law [B, n] and its derivatives [B, P, n]."""
        shape, slopes = self.shape(theta, self.u)
        return theta[:, :1] + shape, np.concatenate([np.ones_like(shape)[:, None], slopes], axis=1)

    def candidates(self, problem: Problem) -> Array:
        """Draws of the prior, the level of each fitted to the data: [B, K, P]."""
        drawn = np.broadcast_to(self.draws(np.random.default_rng(0), 96), (len(problem.log_y), 96, self.low.size))
        drawn, weights = drawn.copy(), problem.weights / problem.weights.sum(axis=1, keepdims=True)
        shape = self.shape(drawn[0], self.u)[0]
        drawn[..., 0] = (weights * problem.log_y).sum(axis=1, keepdims=True) - weights @ shape.T
        return drawn

    def draws(self, rng: np.random.Generator, count: int) -> Array:
        """Draws of the prior, theta [count, P], but with the level at its mean."""
        drawn = self.mean + self.sd * rng.normal(size=(count, self.mean.size))
        drawn[:, 0] = self.mean[0]
        return np.asarray(np.clip(drawn, self.low, self.high))

    def largest(self) -> Array:
        """Logarithm of the largest x of the data."""
        return np.asarray(self.last + self.centre[0])
