"""Several laws of one variable, compared: a value that foretells by their mixture."""

from __future__ import annotations

import html
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.fits.power_law_fit import plain
from analysis.solver import intervals

if TYPE_CHECKING:
    from analysis.fits.law_fit import LawFit

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class LawSet:
    """Laws of `y` against `x`, compared.

    Attributes:
        x, y: names of the columns.
        fits: name -> fit, the best law first.
        aicc: name -> AICc, under the loss of the law with the least scatter; records of one run count as one.
        weights: name -> share in the mixture, exp(-AICc / 2) scaled to sum to 1.
        left_out: name -> why a law was not fitted.
        rolling: what the mixture foretold from the points up to an origin: columns `origin`, `x`, `y`,
            `predicted`; empty without resamples or with too few points.
        scatter: robust standard deviation of log y about the best law.
        drift: error of the mixture in log y a factor e beyond its data, from `rolling`; NaN where that is empty.
        level: the nominal coverage of every interval.
        warnings: what a reader must know.
    """

    x: str
    y: str
    fits: dict[str, LawFit] = field(repr=False)
    aicc: dict[str, float]
    weights: dict[str, float]
    left_out: dict[str, str]
    rolling: pd.DataFrame = field(repr=False)
    scatter: float
    drift: float
    level: float
    warnings: tuple[str, ...]

    @property
    def best(self) -> LawFit:
        """The law with the lowest AICc."""
        return next(iter(self.fits.values()))

    def predict(self, x: Any) -> pd.DataFrame:
        """The mixture at `x`: columns `x`, `y`, `low`, `high`, one row for each x given.

        The band is for what will be measured there. It holds the sampling error of every law, their
        disagreement, the scatter of the points, and beyond the data the drift found by rolling origins.

        Raises:
            ValueError: some x is not a positive finite number.
        """
        frames = {name: fit.predict(x) for name, fit in self.fits.items()}
        at = frames[self.best.form]["x"].to_numpy(dtype=float)
        logs = sum(self.weights[name] * np.log(frame["y"].to_numpy(dtype=float)) for name, frame in frames.items())
        low, high = self._band(at, np.asarray(logs))
        return pd.DataFrame({"x": at, "y": np.exp(logs), "low": np.exp(low), "high": np.exp(high)})

    def table(self) -> pd.DataFrame:
        """One row a law, the best first: `law`, `parameters`, `rms`, `aicc`, `weight`, `exponent` with its ends."""
        rows = [
            {
                "law": name,
                "parameters": int(fit.law.free.size),
                "rms": fit.rms,
                "aicc": self.aicc[name],
                "weight": self.weights[name],
                "exponent": fit["exponent"],
                "low": fit.intervals["exponent"][0],
                "high": fit.intervals["exponent"][1],
            }
            for name, fit in self.fits.items()
        ]
        return pd.DataFrame(rows)

    def summary(self) -> str:
        """A few lines of text: the laws in order, and the best one."""
        lines = [f"laws of {self.y} against {self.x}, {self.best.n} points:"]
        lines += [
            f"  {name:18} AICc {self.aicc[name]:8.1f}  weight {self.weights[name]:.2f}  rms {fit.rms:.2g}"
            for name, fit in self.fits.items()
        ]
        lines += [f"  {name:18} left out: {why}" for name, why in self.left_out.items()]
        lines += [f"  caution: {text}" for text in self.warnings]
        return "\n".join([*lines, self.best.summary()])

    def to_dict(self) -> dict[str, Any]:
        """The comparison and every fit, as JSON can hold it."""
        rows = self.table().to_dict("records")
        return {
            "x": self.x,
            "y": self.y,
            "laws": [{str(key): plain(value) for key, value in row.items()} for row in rows],
            "left_out": self.left_out,
            "scatter": plain(self.scatter),
            "drift": plain(self.drift),
            "level": self.level,
            "warnings": list(self.warnings),
            "fits": {name: fit.to_dict() for name, fit in self.fits.items()},
        }

    def __str__(self) -> str:
        return self.summary()

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(self.summary())}</pre>"

    def _band(self, at: Array, logs: Array) -> tuple[Array, Array]:
        """Ends of the band of log y, [m] each."""
        if not self.best.resamples:
            return np.full(at.size, np.nan), np.full(at.size, np.nan)
        drawn = [np.log(fit.drawn(at)) for fit in self.fits.values()]
        shares = [self.weights[name] / len(part) for (name, part) in zip(self.fits, drawn, strict=True)]
        pool = np.concatenate(drawn)
        share = np.repeat(shares, [len(part) for part in drawn])
        ends = _quantiles(pool, share, np.array([0.5 - self.level / 2, 0.5 + self.level / 2]))
        low, high = (np.minimum(ends[0], logs), np.maximum(ends[1], logs))
        extra = self._extra(at)
        return logs - np.hypot(logs - low, extra), logs + np.hypot(high - logs, extra)

    def _extra(self, at: Array) -> Array:
        """Half-width in log y of what no resample shows: scatter, and drift beyond the data."""
        low, high = self.best.ranges[self.x]
        beyond = np.maximum(np.log(at / high), 0.0) + np.maximum(np.log(low / at), 0.0)
        drift = 0.0 if math.isnan(self.drift) else self.drift
        return np.asarray(intervals.gauss(self.level) * np.hypot(self.scatter, drift * beyond))


def _quantiles(values: Array, weights: Array, at: Array) -> Array:
    """Weighted quantiles of values [K, m] with weights [K]: [len(at), m]."""
    order = np.argsort(values, axis=0)
    share = np.cumsum(weights[order], axis=0) - 0.5 * weights[order]
    ranked = np.take_along_axis(values, order, axis=0)
    columns = [np.interp(at, share[:, k], ranked[:, k]) for k in range(values.shape[1])]
    return np.stack(columns, axis=1)
