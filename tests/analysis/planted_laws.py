"""A law from outside the packages, and tables on it."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pandas as pd

from analysis import Curve, Law
from analysis.laws.curves.base import LEVEL

PLANTED = {"floor": 0.05, "coefficient": 2.0, "scale": 1e4, "exponent": 0.4}


class Stretched(Law):
    """y = floor + coefficient exp(-(x / scale)^exponent), as a user would write it.

    theta = (log exponent, log of (x / scale)^exponent at the centre, log coefficient, floor), y in scaled units.
    """

    formula = "{floor} + {coefficient} exp(-({x} / {scale})^{exponent})"
    theta_names = ("exponent", "scale", "coefficient", "floor")
    exponents = ("exponent",)
    low = np.array([np.log(1e-3), -20.0, -30.0, 0.0])
    high = np.array([np.log(10.0), 20.0, 30.0, np.inf])

    def value(self, theta):
        return np.log(theta[:, 3, None] + np.exp(theta[:, 2, None] - self._power(theta)))

    def gradient(self, theta):
        power = self._power(theta)
        term = np.exp(theta[:, 2, None] - power)
        model = theta[:, 3, None] + term
        share = term / model
        by_exponent = -power * np.exp(theta[:, 0, None]) * self.logs[0] * share
        return np.log(model), np.stack([by_exponent, -power * share, share, 1 / model], axis=1)

    def candidates(self, problem):
        y = np.exp(problem.log_y)
        least, most = y.min(axis=1), y.max(axis=1)
        grid = [(e, k, share) for e in (0.2, 0.5, 1.0) for k in (-2.0, -1.0, 0.0, 1.0) for share in (0.0, 0.5, 0.9)]
        columns = [
            np.stack(
                [np.full(least.shape, np.log(e)), np.full(least.shape, k), np.log(most), share * least], axis=-1
            )
            for e, k, share in grid
        ]
        return np.stack(columns, axis=1)

    def parameters(self, theta, centre_y):
        exponent = np.exp(theta[:, 0])
        return {
            "exponent": exponent,
            "scale": np.exp(self.centre[0] - theta[:, 1] / exponent),
            "coefficient": np.exp(theta[:, 2] + centre_y),
            "floor": theta[:, 3] * np.exp(centre_y),
        }

    def _power(self, theta):
        return np.exp(np.minimum(theta[:, 1, None] + np.exp(theta[:, 0, None]) * self.logs[0], 6.0))


class NumericalStretched(Stretched):
    """`Stretched` without derivatives of its own."""

    gradient = Law.gradient


def stretched(n=30, noise=0.0, seed=0):
    """`examples` and `error` on `Stretched` with the parameters PLANTED, log-normal noise."""
    x = np.geomspace(1e2, 1e6, n)
    power = (x / PLANTED["scale"]) ** PLANTED["exponent"]
    y = PLANTED["floor"] + PLANTED["coefficient"] * np.exp(-power)
    return pd.DataFrame({"examples": x, "error": y * np.exp(noise * np.random.default_rng(seed).normal(size=n))})


class Logarithmic(Curve):
    """y falls as a power of 1 + log(x / smallest x), a law of nobody: theta = (level, log exponent)."""

    formula = "{coefficient} (1 + log x)^-{exponent}"
    priors: ClassVar = {"level": LEVEL, "exponent": (0.0, 1.0)}

    def shape(self, theta, u):
        base, last = np.log1p(np.maximum(u - self.span, -0.9)), np.log1p(-self.span)
        shape = -np.exp(theta[:, 1:]) * (base - last)
        return shape, shape[:, None]

    def parameters(self, theta, centre_y):
        exponent = np.exp(theta[:, 1])
        last = np.exp(theta[:, 0] + centre_y)
        return {"exponent": exponent, "coefficient": last * (1 - self.span) ** exponent}
