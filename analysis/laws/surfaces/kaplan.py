"""The law of params and examples in which one bottleneck dominates (Kaplan et al. 2020)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from analysis.laws.base import Law
from analysis.laws.nonnegative import nonnegative
from analysis.laws.surfaces.chinchilla import Chinchilla, exponent_grid, optimum_exponents, other_forms

if TYPE_CHECKING:
    from analysis.laws.newton import Problem

Array = NDArray[np.float64]


class Kaplan(Law):
    """y = [(Nc / N)^(alpha / beta) + Dc / D]^beta (Kaplan et al. 2020, equation 1.5), their alpha_N and alpha_D.

    theta = (log alpha, log of (Nc / N)^alpha at the centre, log beta, log of (Dc / D)^beta at the centre).
    """

    inputs: ClassVar[tuple[str, ...]] = ("N", "D")
    formula = "[({Nc} / {N})^({alpha} / {beta}) + {Dc} / {D}]^{beta}"
    theta_names = ("alpha", "Nc", "beta", "Dc")
    exponents = ("alpha", "beta")
    terms: ClassVar = {"Nc": 0, "Dc": 1}
    linear = ()
    low, high, limit = Chinchilla.low[:4], Chinchilla.high[:4], Chinchilla.limit[:4]

    def rivals(self) -> dict[str, Law]:
        """The other forms of params and examples, by name."""
        return other_forms(self)

    def parameters(self, theta: Array, centre_y: float) -> dict[str, Array]:
        """Nc, alpha, Dc, beta in the units of the data, and the exponents of the optimum: arrays [B]."""
        alpha, beta = np.exp(theta[:, 0]), np.exp(theta[:, 2])
        return {
            "Nc": np.exp((theta[:, 1] + centre_y) / alpha + self.centre[0]),
            "alpha": alpha,
            "Dc": np.exp((theta[:, 3] + centre_y) / beta + self.centre[1]),
            "beta": beta,
            **optimum_exponents(alpha, beta),
        }

    def value(self, theta: Array) -> Array:
        """Logarithm of the law, [B, n]."""
        by_n, by_d, beta = self._logs(theta)
        return np.asarray(beta * np.logaddexp(by_n / beta, by_d / beta))

    def gradient(self, theta: Array) -> tuple[Array, Array]:
        """Logarithm of the law [B, n] and its derivatives [B, 4, n]."""
        by_n, by_d, beta = self._logs(theta)
        inner = np.logaddexp(by_n / beta, by_d / beta)
        share = np.exp(by_n / beta - inner)
        by_beta = beta * inner - share * by_n - (1 - share) * (by_d + beta * self.logs[1])
        by_alpha = -np.exp(theta[:, 0, None]) * self.logs[0] * share
        return beta * inner, np.stack([by_alpha, share, by_beta, 1 - share], axis=1)

    def starts(self, problem: Problem, count: int) -> Array:
        """The best grid points of each data set: y^(1 / beta) is linear in the two coefficients."""
        p = exponent_grid(problem)
        p = p[(np.exp(p) > 0.02) & (np.exp(p) < 3.0)]
        tiny = 1e-300
        logs, losses, relative = [], [], problem.relative() * np.exp(2 * problem.log_y)
        for r in p:
            beta = np.exp(r)
            y = np.exp(problem.log_y / beta)
            z = np.exp(np.clip(-np.exp(p) / beta * self.logs[0][:, None], -300.0, 300.0))
            w = np.exp(-self.logs[1])
            quadratic, linear = beta**2 * relative / y**2, beta**2 * relative / y
            square = ((quadratic @ z**2), (quadratic @ w**2)[:, None])
            (a, b), gain = nonnegative(square, (quadratic @ (z * w[:, None]),), (linear @ z, (linear @ w)[:, None]))
            losses.append(beta**2 * relative.sum(axis=1, keepdims=True) - gain)
            parts = (
                np.broadcast_to(p, a.shape),
                beta * np.log(a + tiny),
                np.full(a.shape, r),
                beta * np.log(b + tiny),
            )
            logs.append(np.stack(parts, axis=-1))
        every, loss = np.concatenate(logs, axis=1), np.concatenate(losses, axis=1)
        return np.take_along_axis(every, np.argsort(loss, axis=1)[:, :count, None], axis=1)

    def _logs(self, theta: Array) -> tuple[Array, Array, Array]:
        """Logarithms of the law with D and with N infinite [B, n], and beta [B, 1]."""
        alpha, beta = np.exp(theta[:, 0, None]), np.exp(theta[:, 2, None])
        return theta[:, 1, None] - alpha * self.logs[0], theta[:, 3, None] - beta * self.logs[1], beta
