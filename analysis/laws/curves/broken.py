"""The power law with one smooth break and a floor, with priors."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from analysis.laws.curves.base import LEVEL, Curve
from analysis.laws.curves.floor import SHARE, above_floor

Array = NDArray[np.float64]


class BrokenCurve(Curve):
    """y = floor + b x^-c0 (1 + (x / d)^(1 / f))^(-(exponent - c0) f) (Caballero et al. 2023, equation 1).

    The break d lies within the data. theta = (level, logit of the floor's share, log exponent, c0, t, log f),
    log(d / largest x) = log(smallest x / largest x) (1 - logistic t). The prior of the exponent is wider than
    for other laws: on a published table (four-digit addition) y falls as x^-5 behind the break.
    """

    formula = "{floor} + {b} {x}^-{c0} (1 + ({x} / {d})^(1 / {f}))^-(({exponent} - {c0}) {f})"
    priors: ClassVar = {
        "level": LEVEL,
        "floor": SHARE,
        "exponent": (np.log(0.4), 1.2),
        "c0": (0.0, 0.3),
        "d": (0.0, 1.5),
        "f": (0.0, 1.2),
    }
    linear = ("floor", "c0")
    rates = ("f",)

    def shape(self, theta: Array, u: Array) -> tuple[Array, Array]:
        """log(q + (1 - q) e^(g(u) - g(0))) and its derivatives."""
        fall, slopes = self._fall(theta, np.append(u, 0.0))
        shape, by_share, by_fall = above_floor(theta[:, 1:2], fall[:, :-1] - fall[:, -1:])
        slopes = by_fall[:, None] * (slopes[..., :-1] - slopes[..., -1:])
        return shape, np.concatenate([by_share[:, None], slopes], axis=1)

    def parameters(self, theta: Array, centre_y: float) -> dict[str, Array]:
        """floor, exponent, b, c0, d and f in the units of the data: arrays [B]."""
        exponent, c0, f = np.exp(theta[:, 2]), theta[:, 3], np.exp(theta[:, 5])
        last, at = np.exp(theta[:, 0] + centre_y), self.largest()
        fall = self._fall(theta, np.zeros(1))[0][:, 0]
        return {
            "exponent": exponent,
            "b": last * expit(-theta[:, 1]) * np.exp(np.clip(c0 * at - fall, -700.0, 700.0)),
            "c0": c0,
            "d": np.exp(at + self.span * expit(-theta[:, 4])),
            "f": f,
            "floor": last * expit(theta[:, 1]),
        }

    def _fall(self, theta: Array, u: Array) -> tuple[Array, Array]:
        """The fall g = -c0 u - (c - c0) f softplus((u - d) / f) [B, n]; its slopes by log c, c0, t, log f."""
        c, c0, share, f = np.exp(theta[:, 2:3]), theta[:, 3:4], expit(theta[:, 4:5]), np.exp(theta[:, 5:])
        scaled = (u - self.span * (1.0 - share)) / f
        soft, step = np.logaddexp(0.0, scaled), expit(scaled)
        by_d = (c - c0) * step
        slopes = [
            -c * f * soft,
            f * soft - u,
            -by_d * self.span * share * (1.0 - share),
            -(c - c0) * f * (soft - scaled * step),
        ]
        return -c0 * u - (c - c0) * f * soft, np.stack(slopes, axis=1)
