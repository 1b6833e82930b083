"""The law that begins at chance: a sigmoid in log x with a power law at its end."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from analysis.laws.base import ABSENT, LOG_EXPONENT, Law

if TYPE_CHECKING:
    from analysis.laws.newton import Problem

Array = NDArray[np.float64]
_FEW_FROM = 32


class Sigmoid(Law):
    """(y - floor) / (chance - y)^gamma = coefficient x^-exponent (Alabdulmohsin et al. 2022, M4).

    y is chance for small x and a power law above the floor for large x. In scaled units y = phi + height S(w),
    S the logistic function, log S(w) - gamma log S(-w) = b - c u, solved by Newton; the derivatives are those
    of the implicit function. theta = (log c, b, log gamma, log height, phi); chance = phi + height. A chance that
    is known (0.9 for the error on ten equal classes) is kept, and log height is not fitted.
    """

    formula = "f({x}), (f - {floor}) / ({chance} - f)^{gamma} = {coefficient} {x}^-{exponent}"
    theta_names = ("exponent", "coefficient", "gamma", "chance", "floor")
    exponents = ("exponent",)
    rates = ("gamma",)
    linear = ("floor",)
    low = np.array([LOG_EXPONENT[0], -700.0, np.log(0.05), ABSENT, 0.0])
    limit = np.array([1.0, 3.0, 1.0, 1.0, np.inf])

    def __init__(self, logs: Array, centre: Array, *, chance: float | None = None) -> None:
        """`chance` in scaled units, where it is known."""
        super().__init__(logs, centre)
        self.chance = chance
        most = np.inf if chance is None else chance * (1 - 1e-6)
        self.high = np.array([LOG_EXPONENT[1], 700.0, np.log(20.0), 10.0, most])

    @property
    def free(self) -> NDArray[np.intp]:
        """Indices of what is fitted: without log height where chance is known."""
        return np.array([0, 1, 2, 3, 4] if self.chance is None else [0, 1, 2, 4])

    def parameters(self, theta: Array, centre_y: float) -> dict[str, Array]:
        """exponent, coefficient, gamma, chance, floor in the units of the data: arrays [B]."""
        exponent, gamma = np.exp(theta[:, 0]), np.exp(theta[:, 2])
        height = np.exp(self._log_height(theta)[:, 0])
        log_unit = (1 - gamma) * (centre_y + np.log(height))
        return {
            "exponent": exponent,
            "coefficient": np.exp(np.clip(theta[:, 1] + log_unit + exponent * self.centre[0], -700.0, 700.0)),
            "gamma": gamma,
            "chance": np.exp(centre_y) * (theta[:, 4] + height),
            "floor": theta[:, 4] * np.exp(centre_y),
        }

    def value(self, theta: Array) -> Array:
        """Logarithm of the law, [B, n]."""
        w = self._place(theta)
        return np.asarray(np.log(theta[:, 4, None] + np.exp(self._log_height(theta) - np.logaddexp(0.0, -w))))

    def gradient(self, theta: Array) -> tuple[Array, Array]:
        """Logarithm of the law [B, n] and its derivatives [B, 5, n]."""
        w = self._place(theta)
        up, down = np.exp(-np.logaddexp(0.0, -w)), np.exp(-np.logaddexp(0.0, w))
        rise = np.exp(self._log_height(theta)) * up
        model, gamma = theta[:, 4, None] + rise, np.exp(theta[:, 2, None])
        by_b = rise * down / (down + gamma * up) / model
        by_c = -np.exp(theta[:, 0, None]) * self.logs[0] * by_b
        by_gamma = -gamma * np.logaddexp(0.0, w) * by_b
        by_floor = (1.0 if self.chance is None else 1.0 - up) / model
        return np.log(model), np.stack([by_c, by_b, by_gamma, rise / model, by_floor], axis=1)

    def candidates(self, problem: Problem) -> Array:
        """A grid of floors, chances and gammas, the other two by linear least squares."""
        many = len(problem.log_y) >= _FEW_FROM
        y = np.exp(problem.log_y)
        low, high = y.min(axis=1), y.max(axis=1)
        below = (0.0, 0.9) if many else (0.0, 0.5, 0.8, 0.95)
        above, gammas = ((1.1,), (1.0,)) if many else ((1.01, 1.1, 1.4, 3.0), (0.3, 0.6, 1.0, 2.0, 4.0))
        tops = [h * high for h in above] if self.chance is None else [np.maximum(self.chance, 0 * high)]
        grid = [(f, top, g) for f in below for top in tops for g in gammas]
        starts = [self._linear(problem, f * low[:, None], top[:, None], np.log(g)) for f, top, g in grid]
        return np.stack(starts, axis=1)

    def _linear(self, problem: Problem, floor: Array, chance: Array, log_gamma: float) -> Array:
        """Exponent and coefficient by weighted least squares at floor [B, 1], chance [B, 1] and gamma: [B, 5]."""
        share = np.clip((np.exp(problem.log_y) - floor) / (chance - floor), 1e-6, 1 - 1e-6)
        gamma = np.exp(log_gamma)
        target = np.log(share) - gamma * np.log1p(-share)
        slope = share * (1 - share) / ((1 - share) + gamma * share) / (floor / (chance - floor) + share)
        weights = problem.weights * slope**2
        total = weights.sum(axis=1, keepdims=True)
        mean_u, mean_t = ((weights * part).sum(axis=1, keepdims=True) / total for part in (self.logs[0], target))
        across = self.logs[0] - mean_u
        c = -(weights * across * target).sum(axis=1) / np.maximum((weights * across**2).sum(axis=1), 1e-300)
        c = np.clip(c, 0.01, 8.0)
        b = mean_t[:, 0] + c * mean_u[:, 0]
        height = np.log(chance - floor)[:, 0]
        return np.stack([np.log(c), b, np.full(c.shape, log_gamma), height, floor[:, 0]], axis=-1)

    def _log_height(self, theta: Array) -> Array:
        """Logarithm of chance - floor, [B, 1]."""
        if self.chance is None:
            return theta[:, 3, None]
        return np.asarray(np.log(self.chance - theta[:, 4, None]))

    def _place(self, theta: Array) -> Array:
        """The root w [B, n]. The slope of the left side lies between 1 and gamma: Newton's steps are safe."""
        t, gamma = theta[:, 1, None] - np.exp(theta[:, 0, None]) * self.logs[0], np.exp(theta[:, 2, None])
        w = np.where(t > 0, t / gamma, t)
        for _ in range(60):
            off = -np.logaddexp(0.0, -w) + gamma * np.logaddexp(0.0, w) - t
            up = np.exp(-np.logaddexp(0.0, -w))
            move = off / (1 - up + gamma * up)
            w = w - move
            if np.max(np.abs(move) / (1 + np.abs(w)), initial=0.0) < 1e-14:
                break
        return np.asarray(w)
