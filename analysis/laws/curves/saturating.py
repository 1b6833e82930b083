"""A law that is flat, falls as a power law, and levels off, with priors."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from analysis.laws.curves.base import LEVEL, Curve

Array = NDArray[np.float64]


class SaturatingCurve(Curve):
    """y = coefficient ((onset + x)^-k + saturation^-k)^(exponent / k): flat, a power law, flat again.

    theta = (level, log exponent, log k, b, h); onset = smallest x times e^b, saturation = largest x times e^(-h/k).
    """

    formula = "{coefficient} (({onset} + {x})^-{k} + {saturation}^-{k})^({exponent} / {k})"
    priors: ClassVar = {
        "level": LEVEL,
        "exponent": (np.log(0.3), 0.7),
        "k": (0.0, 0.5),
        "onset": (-1.0, 1.5),
        "saturation": (-1.0, 2.0),
    }
    rates = ("k",)

    def shape(self, theta: Array, u: Array) -> tuple[Array, Array]:
        """(c / k) (A(u) - A(0)), A = log((e^u + e^onset)^-k + e^h), and its derivatives."""
        total, slopes = self._total(theta, np.append(u, 0.0))
        ratio = np.exp(theta[:, 1:2] - theta[:, 2:3])
        shape = ratio * (total[:, :-1] - total[:, -1:])
        slopes = ratio[:, None] * (slopes[..., :-1] - slopes[..., -1:])
        slopes[:, 0] -= shape
        return shape, np.concatenate([shape[:, None], slopes], axis=1)

    def parameters(self, theta: Array, centre_y: float) -> dict[str, Array]:
        """exponent, coefficient, k, onset and saturation in the units of the data: arrays [B]."""
        exponent, k, at = np.exp(theta[:, 1]), np.exp(theta[:, 2]), self.largest()
        total = self._total(theta, np.zeros(1))[0][:, 0]
        return {
            "exponent": exponent,
            "coefficient": np.exp(np.clip(theta[:, 0] + centre_y + exponent * (at - total / k), -700.0, 700.0)),
            "k": k,
            "onset": np.exp(at + self.span + theta[:, 3]),
            "saturation": np.exp(np.clip(at - theta[:, 4] / k, -700.0, 700.0)),
        }

    def _total(self, theta: Array, u: Array) -> tuple[Array, Array]:
        """A [B, n] and its derivatives by log k, b and h."""
        k, onset, h = np.exp(theta[:, 2:3]), self.span + theta[:, 3:4], theta[:, 4:]
        log_base = np.logaddexp(u, onset)
        total = np.logaddexp(-k * log_base, h)
        share = np.exp(-k * log_base - total)
        slopes = [-share * k * log_base, -share * k * np.exp(onset - log_base), np.exp(h - total)]
        return total, np.stack(slopes, axis=1)
