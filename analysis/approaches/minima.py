"""Where a curve through a few points is lowest: a parabola in log n, or Akima's interpolation in log-log.

Both take sizes as u = log n [P], rising, and many curves at once, log y [B, P]. Both return the position of the
minimum and the log of its height, [B] each, NaN where the minimum is not strictly between the outer sizes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from analysis.fits.thresholds import LEAST_BUDGETS

Array = NDArray[np.float64]


def parabola(u: Array, log_y: Array) -> tuple[Array, Array]:
    """Least-squares parabola of y in u through all points (Hoffmann et al. 2022, 3.2), and its vertex."""
    height = np.exp(log_y.max(axis=1, keepdims=True))
    y, centre = np.exp(log_y) / height, u.mean()
    basis = np.stack([np.ones_like(u), u - centre, (u - centre) ** 2])
    c0, c1, c2 = np.linalg.pinv(basis.T) @ y.T
    with np.errstate(divide="ignore", invalid="ignore"):
        vertex = -c1 / (2 * c2)
        lowest = c0 + c1 * vertex / 2
        inside = (
            (c2 * (u[-1] - u[0]) ** 2 > 1e-12) & (vertex + centre > u[0]) & (vertex + centre < u[-1]) & (lowest > 0)
        )
        lowest = np.log(np.where(inside, lowest, np.nan)) + np.log(height[:, 0])
    return np.where(inside, vertex + centre, np.nan), lowest


def bowl(u: Array, y: Array) -> Array:
    """Log of the least-squares parabola of y [P] in u [P], at u; that of a height <= 0 is NaN."""
    with np.errstate(invalid="ignore"):
        return np.asarray(np.log(np.polynomial.Polynomial.fit(u, y, 2)(u)))


def akima(u: Array, log_y: Array) -> tuple[Array, Array]:
    """Lowest point of Akima's piecewise cubic (1970) through all points; it does not overshoot between them."""
    cubic = _akima_cubics(u, log_y.T)
    width = np.diff(u)[:, None]
    ends = (np.zeros_like(cubic[0]), np.broadcast_to(width, cubic[0].shape))
    steps = np.stack([*ends, *(np.clip(root, 0.0, width) for root in _roots(cubic))])
    heights = ((cubic[0] * steps + cubic[1]) * steps + cubic[2]) * steps + cubic[3]
    flat = heights.reshape(-1, heights.shape[-1])
    best = flat.argmin(axis=0)
    every = (u[:-1, None] + steps).reshape(flat.shape)
    place, lowest = (np.take_along_axis(a, best[None], axis=0)[0] for a in (every, flat))
    edge = 1e-9 * (u[-1] - u[0])
    inside = (place > u[0] + edge) & (place < u[-1] - edge)
    return np.where(inside, place, np.nan), np.where(inside, lowest, np.nan)


def _akima_cubics(u: Array, y: Array) -> Array:
    """Cubics between the places u [P] through y [P, B] by Akima's slopes: [4, P - 1, B], highest power first."""
    width = np.diff(u)[:, None]
    rise = np.diff(y, axis=0) / width
    before, after = 2 * rise[0] - rise[1], 2 * rise[-1] - rise[-2]
    rise = np.stack([2 * before - rise[0], before, *rise, after, 2 * after - rise[-1]])
    turn = np.abs(np.diff(rise, axis=0))
    left, right = turn[2:], turn[:-2]
    both = left + right
    even = both <= 1e-9 * both.max(initial=0.0)
    weight = np.where(even, 0.5, left / np.where(even, 1.0, both))
    slope = weight * rise[1:-2] + (1 - weight) * rise[2:-1]
    rise = rise[2:-2]
    bend = (slope[:-1] + slope[1:] - 2 * rise) / width
    return np.stack([bend / width, (rise - slope[:-1]) / width - bend, slope[:-1], y[:-1]])


def _roots(cubic: Array) -> tuple[Array, Array]:
    """Where the cubics [4, P - 1, B] are level; 0 where they are nowhere."""
    a, b, c = 3 * cubic[0], 2 * cubic[1], cubic[2]
    with np.errstate(divide="ignore", invalid="ignore"):
        q = -0.5 * (b + np.copysign(np.sqrt(b * b - 4 * a * c), b))
        first, second = q / a, c / q
    return tuple(np.where(np.isfinite(root), root, 0.0) for root in (first, second))  # type: ignore[return-value]


def growth(reach: Array, values: Array) -> tuple[Array, Array]:
    """Intercept and slope against reach [G] of each row of values [B, G], NaN from fewer than three finite ones."""
    weights = np.isfinite(values).astype(float)
    values = np.where(weights > 0, values, 0.0)
    count = weights.sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean_x, mean_y = (weights @ reach) / count, values.sum(axis=1) / count
        off = weights * (reach - mean_x[:, None])
        slope = np.where(count >= LEAST_BUDGETS, (off * values).sum(axis=1) / (off**2).sum(axis=1), np.nan)
    return mean_y - slope * mean_x, slope


def neighbours(log_x: Array, log_y: Array) -> Array:
    """What each point of a curve differs by from the cubic through its four neighbours, in sd of one point.

    After Gasser, Sroka and Jennen-Steinmetz 1986, who take a line through two: a curve bends, a cubic follows.
    """
    u = np.unique(log_x)
    y = np.array([log_y[log_x == place].min() for place in u])
    residuals = []
    for k in range(2, u.size - 2):
        near = [k - 2, k - 1, k + 1, k + 2]
        weights = [np.prod([(u[k] - u[j]) / (u[i] - u[j]) for j in near if j != i]) for i in near]
        residuals.append((y[k] - np.dot(weights, y[near])) / np.sqrt(1 + np.sum(np.square(weights))))
    return np.array(residuals)


NEIGHBOURS = 4
"""Sizes of a curve that the cubic through their neighbours tells nothing about: two at each end."""
METHODS = {"parabola": parabola, "akima": akima}
