"""The power law, with a prior."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from analysis.laws.curves.base import LEVEL, Curve

Array = NDArray[np.float64]


class PowerCurve(Curve):
    """y = coefficient x^-exponent. theta = (level, log exponent)."""

    formula = "{coefficient} {x}^-{exponent}"
    priors: ClassVar = {"level": LEVEL, "exponent": (np.log(0.2), 0.9)}
    mass = 2.0

    def shape(self, theta: Array, u: Array) -> tuple[Array, Array]:
        """-c u and its derivative by log c."""
        shape = -np.exp(theta[:, 1:]) * u
        return shape, shape[:, None]

    def parameters(self, theta: Array, centre_y: float) -> dict[str, Array]:
        """Exponent and coefficient in the units of the data: arrays [B]."""
        exponent = np.exp(theta[:, 1])
        return {
            "exponent": exponent,
            "coefficient": np.exp(np.clip(theta[:, 0] + centre_y + exponent * self.largest(), -700.0, 700.0)),
        }
