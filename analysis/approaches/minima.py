"""Where a curve through a few points is lowest: a parabola in log n, or Akima's interpolation in log-log.

Both take sizes as u = log n [P], rising, and many curves at once, log y [B, P]. Both return the position of the
minimum and the log of its height, [B] each, NaN where the minimum is not strictly between the outer sizes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

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


def akima(u: Array, log_y: Array) -> tuple[Array, Array]:
    """Lowest point of Akima's piecewise cubic (1970) through all points; it does not overshoot between them."""
    from scipy.interpolate import Akima1DInterpolator  # 0.3 s, and only this needs it

    cubic = Akima1DInterpolator(u, log_y.T).c  # [4, P - 1, B], highest power first
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


def _roots(cubic: Array) -> tuple[Array, Array]:
    """Where the cubics [4, P - 1, B] are level; 0 where they are nowhere."""
    a, b, c = 3 * cubic[0], 2 * cubic[1], cubic[2]
    with np.errstate(divide="ignore", invalid="ignore"):
        q = -0.5 * (b + np.copysign(np.sqrt(b * b - 4 * a * c), b))
        first, second = q / a, c / q
    return tuple(np.where(np.isfinite(root), root, 0.0) for root in (first, second))  # type: ignore[return-value]


METHODS = {"parabola": parabola, "akima": akima}
