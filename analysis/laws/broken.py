"""Power laws of one variable with smooth breaks (Caballero et al. 2023)."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from analysis.laws.base import ABSENT, Law

if TYPE_CHECKING:
    from analysis.laws.newton import Problem

Array = NDArray[np.float64]
_FEW_FROM = 32


class Broken(Law):
    """y = floor + b x^-c0 prod_i (1 + (x / d_i)^(1 / f_i))^(-c_i f_i) (Caballero et al. 2023, equation 1).

    Breaks are ordered and lie within the data; f is their width in log x. theta = (c0, log b at the centre,
    floor, and for each break c_i, log d_i from the centre, log f_i). `exponent` is c0 + sum c_i, the last one.
    """

    exponents = ("exponent",)

    breaks: ClassVar[int] = 1

    def __init__(self, logs: Array, centre: Array) -> None:
        super().__init__(logs, centre)
        breaks = self.breaks
        self.ends = (float(logs[0].min()), float(logs[0].max()))
        each = [(f"c{k}", f"d{k}", f"f{k}") for k in range(1, breaks + 1)]
        self.theta_names = ("c0", "b", "floor", *(name for names in each for name in names))
        self.linear = ("floor", "c0", "exponent", *(names[0] for names in each))
        self.rates = tuple(names[2] for names in each)
        span = self.ends[1] - self.ends[0]
        self.low = np.array([-2.0, ABSENT, 0.0] + [-20.0, self.ends[0], np.log(0.003 * span)] * breaks)
        self.high = np.array([10.0, np.inf, np.inf] + [20.0, self.ends[1], np.log(span)] * breaks)
        self.limit = np.array([1.0, 3.0, np.inf] + [2.0, 0.2 * span, 1.0] * breaks)
        parts = [f"(1 + ({{x}} / {{{d}}})^(1 / {{{f}}}))^(-{{{c}}} {{{f}}})" for c, d, f in each]
        self.formula = " ".join(["{floor} + {b} {x}^-{c0}", *parts])

    def parameters(self, theta: Array, centre_y: float) -> dict[str, Array]:
        """c0, b, floor and c, d, f of each break in the units of the data, and the last exponent: arrays [B]."""
        order = np.argsort(theta[:, 4::3], axis=1)
        c, d, f = (np.take_along_axis(theta[:, k::3], order, axis=1) for k in (3, 4, 5))
        values = {
            "exponent": theta[:, 0] + c.sum(axis=1),
            "c0": theta[:, 0],
            "b": np.exp(theta[:, 1] + centre_y + theta[:, 0] * self.centre[0]),
            "floor": theta[:, 2] * np.exp(centre_y),
        }
        for k in range(self.breaks):
            values |= {
                f"c{k + 1}": c[:, k],
                f"d{k + 1}": np.exp(d[:, k] + self.centre[0]),
                f"f{k + 1}": np.exp(f[:, k]),
            }
        return values

    def value(self, theta: Array) -> Array:
        """Logarithm of the law, [B, n]."""
        return np.asarray(np.log(theta[:, 2, None] + self._term(theta)))

    def gradient(self, theta: Array) -> tuple[Array, Array]:
        """Logarithm of the law [B, n] and its derivatives [B, 3 + 3 breaks, n]."""
        term = self._term(theta)
        model = theta[:, 2, None] + term
        share = term / model
        parts = [-self.logs[0] * share, share, 1.0 / model]
        for k in range(self.breaks):
            c, d, f = (theta[:, 3 + 3 * k + j, None] for j in range(3))
            width = np.exp(f)
            z = (self.logs[0] - d) / width
            soft, up = np.logaddexp(0.0, z), np.exp(-np.logaddexp(0.0, -z))
            parts += [-width * soft * share, c * up * share, -c * width * (soft - z * up) * share]
        return np.log(model), np.stack(parts, axis=1)

    def candidates(self, problem: Problem) -> Array:
        """A grid of floors, breaks and widths; the slopes are then linear in log(y - floor)."""
        many = len(problem.log_y) >= _FEW_FROM
        low, high = self.ends
        steps = {1: 12, 2: 8}.get(self.breaks, 6)
        places = np.linspace(low, high, (steps if not many else 3) + 2)[1:-1]
        widths = (high - low) * np.array([0.1] if many else [0.01, 0.05, 0.2])
        least = np.exp(problem.log_y).min(axis=1, keepdims=True)
        grid = [
            self._linear(problem, share * least, np.array(d), f)
            for d in combinations(places, self.breaks)
            for f in widths
            for share in ((0.0,) if many else (0.0, 0.5, 0.9))
        ]
        return np.stack(grid, axis=1)

    def _linear(self, problem: Problem, floor: Array, places: Array, width: float) -> Array:
        """Slopes by weighted least squares at floor [B, 1], breaks [k] and one width: [B, P]."""
        y = np.exp(problem.log_y)
        u = self.logs[0]
        soft = -width * np.logaddexp(0.0, (u - places[:, None]) / width)
        design = np.concatenate([-u[None], np.ones((1, u.size)), soft])
        weights = problem.weights * (1 - floor / y) ** 2
        normal = (design * weights[:, None, :]) @ design.T + 1e-9 * np.eye(len(design))
        slopes = np.linalg.solve(normal, ((weights * np.log(y - floor)) @ design.T)[..., None])[..., 0]
        theta = np.empty((len(y), 3 + 3 * self.breaks))
        theta[:, 0], theta[:, 1], theta[:, 2] = slopes[:, 0], slopes[:, 1], floor[:, 0]
        theta[:, 3::3], theta[:, 4::3], theta[:, 5::3] = slopes[:, 2:], places, np.log(width)
        return theta

    def _term(self, theta: Array) -> Array:
        log_term = theta[:, 1, None] - theta[:, 0, None] * self.logs[0]
        for k in range(self.breaks):
            c, d, f = (theta[:, 3 + 3 * k + j, None] for j in range(3))
            width = np.exp(f)
            log_term = log_term - c * width * np.logaddexp(0.0, (self.logs[0] - d) / width)
        return np.asarray(np.exp(np.clip(log_term, -700.0, 700.0)))


class TwiceBroken(Broken):
    """`Broken` with two breaks."""

    breaks = 2


class ThriceBroken(Broken):
    """`Broken` with three breaks."""

    breaks = 3
