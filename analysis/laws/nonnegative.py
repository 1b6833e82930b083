"""Non-negative least squares in two or three variables, in closed form, for many problems at once."""

from __future__ import annotations

from itertools import combinations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Parts = tuple[Array, ...]


def nonnegative(square: Parts, cross: Parts, right: Parts) -> tuple[Parts, Array]:
    """The variables, two or three, and the decrease of the loss, for every cell of arrays that broadcast together.

    `square` are the diagonal of the normal matrix, `cross` its elements above the diagonal (01, or 01, 02, 12),
    `right` the right-hand side. Every active set is tried.
    """
    count = len(square)
    shape = np.broadcast_shapes(*(part.shape for part in (*square, *cross, *right)))
    best: Parts = tuple(np.zeros(shape) for _ in range(count))
    gain = np.zeros(shape)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        trials = [{k: right[k] / square[k]} for k in range(count)]
        pairs = zip(combinations(range(count), 2), cross, strict=True)
        trials += [_two(square, across, right, *pair) for pair, across in pairs]
        if count == 3:
            trials.append(_three(square, cross, right))
        for trial in trials:
            decrease = np.asarray(sum(right[k] * value for k, value in trial.items()))
            better = (
                (decrease > gain) & np.isfinite(decrease) & np.all([value > 0 for value in trial.values()], axis=0)
            )
            gain = np.where(better, decrease, gain)
            best = tuple(np.where(better, trial.get(k, 0.0), part) for k, part in enumerate(best))
    return best, gain


def _two(square: Parts, across: Array, right: Parts, i: int, j: int) -> dict[int, Array]:
    determinant = square[i] * square[j] - across**2
    determinant = np.where(determinant > 1e-12 * square[i] * square[j], determinant, np.nan)
    return {
        i: (right[i] * square[j] - right[j] * across) / determinant,
        j: (right[j] * square[i] - right[i] * across) / determinant,
    }


def _three(square: Parts, cross: Parts, right: Parts) -> dict[int, Array]:
    (a, b, c), (d, e, f) = square, cross
    minors = (b * c - f * f, e * f - d * c, d * f - e * b, a * c - e * e, d * e - a * f, a * b - d * d)
    determinant = a * minors[0] + d * minors[1] + e * minors[2]
    determinant = np.where(determinant > 1e-12 * a * b * c, determinant, np.nan)
    first = minors[0] * right[0] + minors[1] * right[1] + minors[2] * right[2]
    second = minors[1] * right[0] + minors[3] * right[1] + minors[4] * right[2]
    third = minors[2] * right[0] + minors[4] * right[1] + minors[5] * right[2]
    return {0: first / determinant, 1: second / determinant, 2: third / determinant}
