"""Power laws of one variable, with and without a floor and a shift (Bachmann et al. 2023, section 4)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from analysis.laws.base import ABSENT, LOG_EXPONENT, Law
from analysis.laws.nonnegative import nonnegative

if TYPE_CHECKING:
    from analysis.laws.newton import Problem

Array = NDArray[np.float64]


class Power(Law):
    """y = floor + coefficient (shift + x)^-exponent, here with floor = shift = 0.

    In scaled units y = phi + exp(q) ((s + u) / (s + 1))^-exp(p), s = (exp(tau) - 1) min(u): centred, so that the
    exponent is nearly uncorrelated with the coefficient. theta = (p, q, phi, tau).
    """

    exponents = ("exponent",)
    terms: ClassVar = {"coefficient": 0}
    linear = ("floor", "shift")
    low = np.array([LOG_EXPONENT[0], ABSENT, 0.0, 0.0])
    limit = np.array([1.0, 3.0, np.inf, 1.5])
    theta_names = ("exponent", "coefficient", "floor", "shift")
    floor: ClassVar[bool] = False
    shift: ClassVar[bool] = False
    formula = "{coefficient} {x}^-{exponent}"

    def __init__(self, logs: Array, centre: Array) -> None:
        super().__init__(logs, centre)
        u = np.exp(logs[0])
        self.ends = (float(u.min()), float(u.max()))
        tau = np.log1p(10.0 * self.ends[1] / self.ends[0])
        self.high = np.array([LOG_EXPONENT[1], np.inf, np.inf, tau])

    def rivals(self) -> dict[str, Law]:
        """The law with a floor added or taken away, and with a shift added or taken away."""
        others = {"floor": (not self.floor, self.shift), "shift": (self.floor, not self.shift)}
        return {part: POWER_LAWS[other](self.logs, self.centre) for part, other in others.items()}

    @property
    def free(self) -> NDArray[np.intp]:
        """Indices of the free parameters among (p, q, phi, tau)."""
        return np.flatnonzero([True, True, self.floor, self.shift])

    def parameters(self, theta: Array, centre_y: float) -> dict[str, Array]:
        """exponent, coefficient, and floor and shift where they are free, in the units of the data: arrays [B]."""
        exponent, s = np.exp(theta[:, 0]), self.ends[0] * np.expm1(theta[:, 3])
        values = {
            "exponent": exponent,
            "coefficient": np.exp(theta[:, 1] + centre_y + exponent * (self.centre[0] + np.log1p(s))),
        }
        values |= {"floor": theta[:, 2] * np.exp(centre_y)} if self.floor else {}
        return values | ({"shift": s * np.exp(self.centre[0])} if self.shift else {})

    def value(self, theta: Array) -> Array:
        """Logarithm of the law, [B, n]."""
        return np.asarray(np.log(theta[:, 2, None] + self._term(theta)[0]))

    def gradient(self, theta: Array) -> tuple[Array, Array]:
        """Logarithm of the law [B, n] and its derivatives [B, 4, n]."""
        term, log_base, s = self._term(theta)
        model = theta[:, 2, None] + term
        share, exponent = term / model, np.exp(theta[:, 0, None])
        by_tau = -exponent * share * (self.ends[0] + s) * (1.0 / (s + np.exp(self.logs[0])) - 1.0 / (s + 1.0))
        return np.log(model), np.stack([-exponent * log_base * share, share, 1.0 / model, by_tau], axis=1)

    def starts(self, problem: Problem, count: int) -> Array:
        """The best of a grid of exponents and shifts, floor and coefficient in closed form: [B, count, 4]."""
        taus = np.linspace(0.0, self.high[3], 9)[:-1] if self.shift else np.zeros(1)
        p, tau = (a.ravel() for a in np.meshgrid(np.log(np.geomspace(0.01, 8.0, 28)), taus, indexing="ij"))
        s, u = self.ends[0] * np.expm1(tau), np.exp(self.logs[0])
        z = np.exp(-np.exp(p) * np.log((s + u[:, None]) / (s + 1.0)))
        relative, y = problem.relative(), np.exp(problem.log_y)
        linear = relative * y
        square = ((relative @ z**2), relative.sum(axis=1, keepdims=True))
        right = (linear @ z, linear.sum(axis=1, keepdims=True))
        if self.floor:
            (coefficient, floor), gain = nonnegative(square, (relative @ z,), right)
        else:
            coefficient, floor = right[0] / square[0], np.zeros(square[0].shape)
            gain = coefficient * right[0]
        chosen = np.argsort(-gain, axis=1)[:, :count]
        floor, coefficient = (np.take_along_axis(a, chosen, axis=1) for a in (floor, coefficient))
        return np.stack([p[chosen], np.log(coefficient + np.exp(ABSENT)), floor, tau[chosen]], axis=-1)

    def _term(self, theta: Array) -> tuple[Array, Array, Array]:
        """The falling term, the logarithm of its base, and the shift s: [B, n], [B, n], [B, 1]."""
        s = self.ends[0] * np.expm1(theta[:, 3, None])
        log_base = np.log((s + np.exp(self.logs[0])) / (s + 1.0))
        term = np.exp(np.clip(theta[:, 1, None] - np.exp(theta[:, 0, None]) * log_base, -700.0, 700.0))
        return term, log_base, s


class PowerFloor(Power):
    """`Power` with a floor."""

    floor = True
    formula = "{floor} + {coefficient} {x}^-{exponent}"


class PowerShift(Power):
    """`Power` with a shift."""

    shift = True
    formula = "{coefficient} ({shift} + {x})^-{exponent}"


class PowerFloorShift(Power):
    """`Power` with a floor and a shift."""

    floor = shift = True
    formula = "{floor} + {coefficient} ({shift} + {x})^-{exponent}"


POWER_LAWS: dict[tuple[bool, bool], type[Power]] = {
    (law.floor, law.shift): law for law in (Power, PowerFloor, PowerShift, PowerFloorShift)
}
"""(has a floor, has a shift) -> law."""
