"""Curves of y against one column, group by group: the best cell at every position, also in resamples."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import fdtrc

from analysis.approaches import minima
from analysis.approaches.selection import NEAR
from analysis.fits.thresholds import FEW_REPEATS
from analysis.numbers import short
from analysis.table import seeds

Array = NDArray[np.float64]

ONE_SIZE = 0.04
"""Sizes whose logs differ by less are one place of a curve."""
MISFIT = 1.2
"""Ratio of the scatter about a law to the noise of a run below which nothing is reported."""


@dataclass(frozen=True, eq=False)
class Curve:
    """One group: positions `x` [P] rising, the best mean there `y` [P], its resamples `drawn` [B, P].

    `cells` [P] tells which cell was best, a number in `Curves.cell`. `spare` counts the degrees
    of freedom behind the noise that was drawn.
    """

    x: Array
    y: Array
    drawn: Array
    cells: NDArray[np.intp]
    spare: int


@dataclass(frozen=True, eq=False)
class Curves:
    """The curve of every group, the noise of one run (sd of its log, NaN if unknown) and notes for the reader.

    `cell` [rows] numbers the cells: rows of one `cell_id`, group and position. `spare` counts the degrees of
    freedom behind the noise, `repeats` is the mean number of runs a cell.
    """

    curves: tuple[Curve, ...]
    cell: NDArray[np.intp]
    noise: float
    spare: int
    repeats: float
    notes: tuple[str, ...]

    def misfit(self, rms: float, count: int, parameters: int) -> float:
        """Scatter of `count` runs about a law (rms of log residuals) over the noise of one run, 1 if by chance.

        What exceeds 1 is the error of the law: an F test at 0.1 %, and at least 1.2.
        """
        left = count - parameters
        if left < 1 or not self.noise > 0 or self.spare < FEW_REPEATS:
            return 1.0
        ratio = rms * np.sqrt(count / left) / self.noise
        return float(ratio) if ratio > MISFIT and fdtrc(left, self.spare, ratio**2) < 1e-3 else 1.0


def draw_curves(
    frame: pd.DataFrame, group: NDArray[np.intp], x: str, y: str, *, resamples: int, seed: int
) -> Curves:
    """The curves of a checked frame whose rows are in the groups [rows], numbered from 0.

    A resample gives the mean of every cell log-normal noise and selects the best cell again. The noise of a run is
    that of the repeats in its group, or in the whole table where a group has few; with no repeats at all it is
    the scatter about smooth curves in log x; where that is not known either, or repeats are equal, there are no
    resamples.
    """
    at, values = (frame[name].to_numpy(dtype=float) for name in (x, y))
    cell = _refined(seeds.cell_index(frame), group, at)
    group = group[np.unique(cell, return_index=True)[1]]
    at, means, count = seeds.cell_means(cell, at), seeds.cell_means(cell, values), np.bincount(cell)
    squares, spares, notes = _noise(cell, values, means, group, at)
    noise = float(np.sqrt(squares.sum() / spares.sum())) if squares.sum() > 0 else np.nan
    rng = np.random.default_rng(seed)
    curves = []
    for g in range(group.max() + 1):
        inside = np.flatnonzero(group == g)
        own = spares[g] >= FEW_REPEATS and squares[g] > 0
        sd = np.sqrt(squares[g] / spares[g]) if own else noise
        luck = rng.normal(size=(resamples if np.isfinite(sd) else 0, inside.size))
        drawn = means[inside] * np.exp(np.nan_to_num(sd) / np.sqrt(count[inside]) * luck)
        places, place = np.unique(at[inside], return_inverse=True)
        cells = [np.flatnonzero(place == k) for k in range(places.size)]
        best = np.array([inside[rivals[np.argmin(means[inside[rivals]])]] for rivals in cells])
        lowest = np.stack([drawn[:, rivals].min(axis=1) for rivals in cells], axis=1)
        curves.append(Curve(places, means[best], lowest, best, int(spares[g] if own else spares.sum())))
    return Curves(tuple(curves), cell, noise, int(spares.sum()), float(count.mean()), notes)


def by_budget(frame: pd.DataFrame, budget: str) -> NDArray[np.intp]:
    """The budget of each row, [rows], numbered from 0 by rising compute; near-equal compute is one budget.

    Raises:
        ValueError: the compute of the rows is spread evenly, so that no budgets can be told apart.
    """
    log_c = np.log(frame[budget].to_numpy(dtype=float))
    order = np.argsort(log_c, kind="stable")
    group = np.empty(len(frame), dtype=np.intp)
    group[order] = np.concatenate([[0], np.cumsum(np.diff(log_c[order]) > NEAR)])
    low, high = (pd.Series(log_c).groupby(group).agg(end).to_numpy() for end in ("min", "max"))
    widest = int(np.argmax(high - low))
    if high[widest] - low[widest] > 2 * NEAR:
        raise ValueError(
            f"the runs share no budgets: {budget} rises from {short(np.exp(low[widest]))} to "
            f"{short(np.exp(high[widest]))} in steps below {100 * NEAR:g} %; isoFLOP curves need some sizes at each"
        )
    return group


def _refined(cell: NDArray[np.intp], group: NDArray[np.intp], at: Array) -> NDArray[np.intp]:
    """Cells apart where their rows are in different groups or at different positions, as strangers' ids can be."""
    keys = np.stack([cell.astype(float), group.astype(float), at])
    return np.asarray(np.unique(keys, axis=1, return_inverse=True)[1].ravel(), dtype=np.intp)


def _noise(
    cell: NDArray[np.intp], values: Array, means: Array, group: NDArray[np.intp], x: Array
) -> tuple[Array, NDArray[np.intp], tuple[str, ...]]:
    """Squared deviations of log y summed and their degrees of freedom in each group [G], and a note on them."""
    groups = int(group.max()) + 1
    spares = np.bincount(group, np.bincount(cell) - 1, groups).astype(np.intp)
    if spares.sum() > 0 and seeds.are_equal(cell, values):
        return np.zeros(groups), spares, (f"repeats are exactly equal: {seeds.EQUAL}",)
    if spares.sum() >= FEW_REPEATS:
        deviations = np.log(values) - seeds.cell_means(cell, np.log(values))[cell]
        squares = np.asarray(np.bincount(group[cell], deviations**2, groups), dtype=float)
        return squares, spares, ()
    left = [minima.neighbours(np.log(x[group == g]), np.log(means[group == g])) for g in range(groups)]
    squares, spares = np.array([np.sum(r**2) for r in left]), np.array([r.size for r in left], dtype=np.intp)
    if not spares.sum():
        return squares, spares, ("no repeats and too few points a curve: the noise of a run is not known",)
    size = 100 * np.sqrt(squares.sum() / spares.sum())
    return squares, spares, (f"few repeats: noise of {short(size, 2)} % taken from the scatter about the curves",)


def merged(log_x: Array, log_y: Array, noise: float) -> tuple[NDArray[np.intp], Array]:
    """The place of each size, from 0, where rising log sizes [P] within 4 % are one; and its share in it, [P].

    Sizes so close are the same to a curve: an interpolation through both follows their noise. They share a place
    evenly, but for those whose log y is above the lowest by 3 x the noise of a run: they were trained otherwise.
    """
    place, start = np.zeros(log_x.size, dtype=np.intp), log_x[0]
    for k in range(1, log_x.size):
        apart = log_x[k] - start > ONE_SIZE
        place[k] = place[k - 1] + apart
        start = log_x[k] if apart else start
    lowest = np.minimum.reduceat(log_y, np.unique(place, return_index=True)[1])[place]
    share = (log_y <= lowest + 3 * np.nan_to_num(noise, nan=np.inf)).astype(float)
    return place, share / np.bincount(place, share)[place]
