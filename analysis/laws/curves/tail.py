"""A power law that levels off, with priors."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from analysis.laws.curves.base import LEVEL, Curve

Array = NDArray[np.float64]


class TailCurve(Curve):
    """y = coefficient (1 / x + 1 / saturation)^exponent. theta = (level, log exponent, h).

    saturation = largest x times e^-h. The floor's share and the exponent are tied, unlike in a law with a floor.
    """

    formula = "{coefficient} (1 / {x} + 1 / {saturation})^{exponent}"
    priors: ClassVar = {"level": LEVEL, "exponent": (np.log(0.4), 0.7), "saturation": (-1.0, 2.0)}

    def shape(self, theta: Array, u: Array) -> tuple[Array, Array]:
        """The shape c (A(u) - A(0)), A = log(e^-u + e^h), and its derivatives."""
        exponent, h = np.exp(theta[:, 1:2]), theta[:, 2:]
        total, last = np.logaddexp(-u, h), np.logaddexp(0.0, h)
        shape = exponent * (total - last)
        return shape, np.stack([shape, exponent * (np.exp(h - total) - np.exp(h - last))], axis=1)

    def parameters(self, theta: Array, centre_y: float) -> dict[str, Array]:
        """exponent, coefficient and saturation in the units of the data: arrays [B]."""
        exponent, at = np.exp(theta[:, 1]), self.largest()
        total = np.logaddexp(0.0, theta[:, 2])
        return {
            "exponent": exponent,
            "coefficient": np.exp(np.clip(theta[:, 0] + centre_y + exponent * (at - total), -700.0, 700.0)),
            "saturation": np.exp(at - theta[:, 2]),
        }
