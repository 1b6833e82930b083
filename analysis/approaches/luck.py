"""The noise of the runs behind a frontier of shared budgets, and what its best cells owe to luck."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from analysis.approaches.curves import by_budget, draw_curves
from analysis.fits.thresholds import FEW_REPEATS, LEAST_SIZES
from analysis.solver import quantiles

if TYPE_CHECKING:
    import pandas as pd

    from analysis.approaches.curves import Curve
    from analysis.laws.base import Law
    from analysis.table.data import Data

Array = NDArray[np.float64]
_DRAWS = 400


@dataclass(frozen=True, eq=False)
class Luck:
    """The noise of one run (sd of log y, 0 if it is not known), and what the best of a budget owes to it.

    Attributes:
        sd, spare: the noise and its degrees of freedom.
        gains: compute -> log y by which the best cell of its budget is below the best mean on average.
        notes: for the reader.
    """

    sd: float = 0.0
    spare: int = 0
    gains: dict[float, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def corrected(self, at: Array, drawn: Array, lowest: Array) -> Array:
        """Resamples of the log of the lowest y [B, X] about its value without luck; `lowest` [X] is the estimate.

        A best cell was chosen for its luck, and a resample chooses for luck once more.
        """
        if not (self.sd > 0 and len(drawn)):
            return drawn
        gain = np.array([self.gains.get(float(x), np.nan) for x in at])
        own = lowest - drawn.mean(axis=0)
        return np.asarray(drawn + own + np.where(np.isfinite(gain), gain, own))

    def wider(self, law: Law, data: Data, theta: Array, level: float) -> float:
        """Factor on intervals: Student's quantile, and the scatter about the law over the noise (Birge's ratio)."""
        left = data.y.size - law.free.size
        off = (data.log_y - law.value(theta[None, :])[0]) * np.sqrt(data.points["seeds"].to_numpy(dtype=float))
        ratio = float(np.sqrt(np.sum(off**2) / left)) / self.sd if left > 0 else 1.0
        return max(1.0, ratio) * quantiles.student(self.spare, level)


UNKNOWN = Luck()


def of_frontier(table: pd.DataFrame, x: str, y: str) -> Luck:
    """The noise from repeats or from the scatter about the isoFLOP curves; unknown without shared budgets."""
    if "params" not in table:
        return UNKNOWN
    try:
        group = by_budget(table, x)
    except ValueError:  # no shared budgets
        return UNKNOWN
    curves = draw_curves(table, group, "params", y, resamples=0, seed=0)
    if not curves.noise > 0 or curves.spare < FEW_REPEATS:
        return UNKNOWN
    count, compute = np.bincount(curves.cell), table[x].to_numpy(dtype=float)
    gains = [_gain(curve, curves.noise / np.sqrt(count[curve.cells])) for curve in curves.curves]
    by_compute = {float(c): gains[g] for c, g in zip(compute, group, strict=True)}
    return Luck(curves.noise, curves.spare, by_compute, curves.notes)


def _gain(curve: Curve, sd: Array) -> float:
    """Log y by which the lowest point of a smooth curve with noise [P] is below its minimum on average."""
    if curve.x.size <= LEAST_SIZES:
        return float("nan")
    smooth = np.polynomial.Polynomial.fit(np.log(curve.x), np.log(curve.y), 3)(np.log(curve.x))
    luck = sd * np.random.default_rng(0).normal(size=(_DRAWS, sd.size))
    return float(smooth.min() - (smooth + luck).min(axis=1).mean())
