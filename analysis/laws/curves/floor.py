"""The power law with a floor, with a prior on the floor's share."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, log_expit

from analysis.laws.curves.base import LEVEL, Curve

Array = NDArray[np.float64]
SHARE = (0.0, 1.3)
"""Prior of the logit of q, the floor's share of y at the largest x."""


def above_floor(logit: Array, fall: Array) -> tuple[Array, Array, Array]:
    """log(q + (1 - q) e^fall), its derivative by logit q, and by fall, for logit [B, 1] and fall [B, n]."""
    of_floor, of_fall = log_expit(logit), log_expit(-logit) + fall
    total = np.logaddexp(of_floor, of_fall)
    share = np.exp(of_fall - total)
    return total, np.exp(of_floor - total) * expit(-logit) - share * expit(logit), share


class FloorCurve(Curve):
    """y = floor + coefficient x^-exponent. theta = (level, logit of the floor's share, log exponent)."""

    formula = "{floor} + {coefficient} {x}^-{exponent}"
    priors: ClassVar = {"level": LEVEL, "floor": SHARE, "exponent": (np.log(0.4), 0.5)}
    mass = 0.3

    def shape(self, theta: Array, u: Array) -> tuple[Array, Array]:
        """log(q + (1 - q) e^(-c u)) and its derivatives by logit q and log c."""
        fall = -np.exp(theta[:, 2:]) * u
        shape, by_share, by_fall = above_floor(theta[:, 1:2], fall)
        return shape, np.stack([by_share, by_fall * fall], axis=1)

    def parameters(self, theta: Array, centre_y: float) -> dict[str, Array]:
        """floor, exponent and coefficient in the units of the data: arrays [B]."""
        exponent, last = np.exp(theta[:, 2]), np.exp(theta[:, 0] + centre_y)
        return {
            "exponent": exponent,
            "coefficient": last * expit(-theta[:, 1]) * np.exp(np.clip(exponent * self.largest(), -700.0, 700.0)),
            "floor": last * expit(theta[:, 1]),
        }
