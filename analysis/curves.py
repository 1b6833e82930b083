"""IsoFLOP curves of a table: for each budget the best cell at every size, and what it would be in resamples."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis import seeds

Array = NDArray[np.float64]

NEAR = 0.1
"""Rows whose log compute differs by less belong to one budget: whole steps leave cells a little apart."""
_FEW_REPEATS = 5
"""Degrees of freedom under which the scatter of repeats says less than the scatter about smooth curves."""


@dataclass(frozen=True, eq=False)
class Curve:
    """One budget: sizes `n` [P] rising, their examples `d` [P], the best mean `y` [P], and `drawn` [B, P].

    `cells` holds the index of the best cell of each size [P].
    """

    budget: float
    n: Array
    d: Array
    y: Array
    drawn: Array
    cells: NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Curves:
    """All curves of a table by rising budget, the noise of a cell's mean (sd of its log) and what to say."""

    curves: tuple[Curve, ...]
    noise: float
    notes: tuple[str, ...]


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
            f"column {budget!r} has no separate budgets: rows from {np.exp(low[widest]):.3g} to "
            f"{np.exp(high[widest]):.3g} follow each other within {100 * NEAR:g} %; name a budget column"
        )
    return group


def isoflop_curves(
    frame: pd.DataFrame, n: str, y: str, *, d: str, budget: str, resamples: int, seed: int
) -> Curves:
    """The curves of a checked frame that has the columns `n`, `y`, `d` and `budget`.

    A resample draws the runs of each cell with replacement and selects the best cell again. A cell of one run
    has none to draw: its mean gets log-normal noise of the size that the repeats of other cells show, or, with
    no repeats, the scatter about smooth curves in log n.
    """
    cell = seeds.cell_index(frame)
    first = np.unique(cell, return_index=True)[1]
    group = by_budget(frame, budget)[first]
    at = [seeds.cell_means(cell, frame[name].to_numpy(dtype=float)) for name in (n, d, budget)]
    values = frame[y].to_numpy(dtype=float)
    means = seeds.cell_means(cell, values)
    noise, source = _noise(cell, values, means, group, at[0])
    drawn = _draw(cell, values, noise, resamples, np.random.default_rng(seed))
    curves = []
    for g in range(group.max() + 1):
        inside = np.flatnonzero(group == g)
        sizes, size = np.unique(at[0][inside], return_inverse=True)
        best = np.array([inside[size == s][np.argmin(means[inside[size == s]])] for s in range(sizes.size)])
        lowest = np.stack([drawn[:, inside[size == s]].min(axis=1) for s in range(sizes.size)], axis=1)
        compute = float(np.exp(np.mean(np.log(at[2][inside]))))
        curves.append(Curve(compute, sizes, at[1][best], means[best], lowest, best))
    return Curves(tuple(curves), noise, source)


def _noise(
    cell: NDArray[np.intp], values: Array, means: Array, group: NDArray[np.intp], n: Array
) -> tuple[float, tuple[str, ...]]:
    """Sd of log y of one run, and a note on where it is from."""
    count = np.bincount(cell)
    spare = int(np.sum(count - 1))
    if spare >= _FEW_REPEATS:
        deviations = np.log(values) - seeds.cell_means(cell, np.log(values))[cell]
        return float(np.sqrt(np.sum(deviations**2) / spare)), ()
    left = [_neighbours(np.log(n[group == g]), np.log(means[group == g])) for g in range(group.max() + 1)]
    residuals = np.concatenate(left)
    if not residuals.size:
        return 0.0, ("one run a cell and too few sizes a budget: the noise of a run is not known",)
    noise = float(np.sqrt(np.mean(residuals**2)))
    return noise, (f"one run a cell: noise of {100 * noise:.2g} % taken from the scatter about the curves",)


def _neighbours(log_n: Array, log_y: Array) -> Array:
    """What each point of a curve differs by from the cubic through its four neighbours, in sd of one point.

    After Gasser, Sroka and Jennen-Steinmetz 1986, who take a line through two: a curve bends, a cubic follows.
    """
    u = np.unique(log_n)
    y = np.array([log_y[log_n == size].min() for size in u])
    out = []
    for k in range(2, u.size - 2):
        near = [k - 2, k - 1, k + 1, k + 2]
        weights = [np.prod([(u[k] - u[j]) / (u[i] - u[j]) for j in near if j != i]) for i in near]
        out.append((y[k] - np.dot(weights, y[near])) / np.sqrt(1 + np.sum(np.square(weights))))
    return np.array(out)


def _draw(cell: NDArray[np.intp], values: Array, noise: float, resamples: int, rng: np.random.Generator) -> Array:
    """Means of the cells in each resample, [B, C], positive."""
    count = np.bincount(cell)
    means = np.empty((resamples, count.size))
    for k in range(count.size):
        y = values[cell == k]
        if y.size == 1:
            means[:, k] = y[0] * np.exp(noise * rng.normal(size=resamples))
            continue
        drawn = rng.multinomial(y.size, np.full(y.size, 1 / y.size), size=resamples) @ y / y.size
        means[:, k] = y.mean() + np.sqrt(y.size / (y.size - 1)) * (drawn - y.mean())
    lifted: Array = np.maximum(means, 1e-3 * values.min())
    return lifted
