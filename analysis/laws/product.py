"""Products of powers with exponents of either sign: best batch ~ D^0.38, best learning rate ~ N^-0.71 D^0.31."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from analysis.laws.base import Law

if TYPE_CHECKING:
    from analysis.laws.newton import Problem

Array = NDArray[np.float64]
_RANGE = (-10.0, 10.0)


class Growth(Law):
    """y = coefficient x^exponent, rising or falling: the law of a recipe's best setting, not of an error.

    theta = (log of y at the centre, exponent of each input).
    """

    formula = "{coefficient} {x}^{exponent}"
    theta_names: tuple[str, ...] = ("coefficient", "exponent")
    exponents: tuple[str, ...] = ("exponent",)
    exponent_range = _RANGE
    linear: tuple[str, ...] = ("exponent",)

    def __init__(self, logs: Array, centre: Array) -> None:
        super().__init__(logs, centre)
        self.low = np.array([-np.inf, *[_RANGE[0]] * len(logs)])
        self.high = -self.low
        self.limit = 3.0

    def parameters(self, theta: Array, centre_y: float) -> dict[str, Array]:
        """The exponents, and the coefficient in the units of the data: arrays [B]."""
        log_coefficient = theta[:, 0] + centre_y - theta[:, 1:] @ self.centre
        named = {name: theta[:, 1 + k] for k, name in enumerate(self.exponents)}
        return named | {"coefficient": np.exp(np.clip(log_coefficient, -700.0, 700.0))}

    def value(self, theta: Array) -> Array:
        """Logarithm of the law, [B, n]."""
        return np.asarray(theta[:, :1] + theta[:, 1:] @ self.logs)

    def gradient(self, theta: Array) -> tuple[Array, Array]:
        """Logarithm of the law [B, n] and its derivatives [B, 1 + inputs, n]."""
        design = np.concatenate([np.ones((1, self.logs.shape[1])), self.logs])
        return self.value(theta), np.broadcast_to(design, (len(theta), *design.shape))

    def starts(self, problem: Problem, count: int) -> Array:  # noqa: ARG002 - the loss has one minimum
        """Weighted least squares in log y: [B, 1, 1 + inputs]."""
        design = np.concatenate([np.ones((1, self.logs.shape[1])), self.logs])
        weights = problem.weights * problem.precision**2
        normal = (design * weights[:, None, :]) @ design.T + 1e-12 * np.eye(len(design))
        theta = np.linalg.solve(normal, ((weights * problem.log_y) @ design.T)[..., None])
        return np.asarray(np.clip(theta[..., 0], self.low, self.high)[:, None])


class Product(Growth):
    """y = coefficient N^a D^b, each exponent of either sign. theta as for `Growth`."""

    inputs: ClassVar[tuple[str, ...]] = ("N", "D")
    formula = "{coefficient} {N}^{a} {D}^{b}"
    theta_names = ("coefficient", "a", "b")
    exponents = linear = ("a", "b")
