"""How far beyond the fitted runs a claim may lie: as far as held-out runs of the same table could test its law."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from analysis.numbers import short

if TYPE_CHECKING:
    from numpy.typing import NDArray

SAME = 1.1
"""Values within this factor are equal: whole steps leave runs of one budget apart."""


def limit(values: NDArray[np.float64]) -> float:
    """The factor beyond the smallest and the largest of `values` up to which a claim can be tested.

    `validate` holds out at most half of the levels. Of evenly spaced levels the other half spans the root of the
    range, so that no law of these runs was seen to predict beyond that factor.
    """
    return float(np.sqrt(values.max() / values.min()))


def too_far(name: str, at: float, values: NDArray[np.float64]) -> tuple[str, ...]:
    """Why a claim at `at` of the column `name` is out of reach of runs with these values; empty where it is not."""
    logs, target = np.log([values.min(), values.max()]), float(np.log(at))
    above = target > logs[1]
    near, far = (logs[1], logs[0]) if above else logs
    reach = limit(values)
    if abs(target - near) <= np.log(SAME * reach) or logs[0] <= target <= logs[1]:
        return ()
    factor, needed = np.exp([abs(target - near), (2 * target + far) / 3])  # target - needed is half of needed - far
    side, to = ("above the largest", "up to") if above else ("below the smallest", "down to")
    span = f"{short(values.min())} to {short(values.max())}"
    where = f"{name} {short(at)} lies {short(factor)} x {side} of the fitted runs ({span})"
    supported = f"that range supports claims up to {short(reach, 2)} x beyond it"
    return (f"{where}: {supported}; this one needs runs {to} {short(needed)}",)
