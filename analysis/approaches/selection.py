"""Which cells are on the frontier, and which of its points a resample draws, for many resamples at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
NEAR = 0.1
"""Cells whose log compute differs by less belong to one budget: whole steps leave them a little apart."""
STEEPEST = {NEAR: 1.0, 5 * NEAR: 2.0}
"""Difference of log compute -> the exponent with which an error falls at most on a frontier within it."""
_DRAWS = 50


def select(cell_x: Array, means: Array, *, running: bool) -> tuple[Array, Array, NDArray[np.bool_]]:
    """Distinct x [X], the lowest mean at each [B, X], and whether it is on the frontier [B, X].

    Cells are at `cell_x` [C] with `means` [B, C]. A running frontier keeps the cells that beat all cheaper ones,
    but none that a much better cell follows at almost the same price (`STEEPEST`): whole steps put the cells of
    a budget apart, and the cheapest of them is no optimum.
    """
    order = np.argsort(cell_x, kind="stable")
    at, starts = np.unique(cell_x[order], return_index=True)
    lowest = np.minimum.reduceat(means[:, order], starts, axis=1)
    if not running:
        return at, lowest, np.ones(lowest.shape, dtype=bool)
    before = np.minimum.accumulate(lowest, axis=1)[:, :-1]
    chosen = np.concatenate([np.ones((len(means), 1), bool), lowest[:, 1:] < before], axis=1)
    for window, steepest in STEEPEST.items():
        worth = lowest * at**steepest
        ends = np.searchsorted(at, at * np.exp(window), side="right")
        for place in np.flatnonzero(ends > np.arange(at.size) + 1):
            chosen[:, place] &= worth[:, place] <= worth[:, place + 1 : ends[place]].min(axis=1)
    return at, lowest, chosen


def beyond(parameters: int, points: int) -> int:
    """How many different points a resample of a frontier of `points` must hold for a law of so many parameters.

    One more than parameters, so that the law does not interpolate it; as many where the frontier has none to spare.
    """
    return parameters + (points > parameters + 1)


def draw_points(chosen: NDArray[np.bool_], rng: np.random.Generator, least: int, *, every: bool = False) -> Array:
    """How often each point [B, X] is drawn with replacement of those chosen; at least `least` different ones.

    With `every`, all points of each resample once; of all resamples where one has fewer than `least`.
    """
    if not len(chosen):
        return np.empty(chosen.shape)
    count = chosen.sum(axis=1)
    weights, poor = chosen.astype(float), np.arange(len(chosen))
    if every:
        return np.where(count[:, None] < least, chosen.any(axis=0), weights)
    for _ in range(_DRAWS):
        drawn = rng.multinomial(count[poor], chosen[poor] / count[poor, None])
        rich = (drawn > 0).sum(axis=1) >= least
        weights[poor[rich]] = drawn[rich]
        poor = poor[~rich]
        if poor.size == 0:
            break
    return weights
