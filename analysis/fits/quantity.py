"""A number with its interval and the bootstrap replicates behind it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from analysis.fits.power_law_fit import quote
from analysis.solver import intervals

Array = NDArray[np.float64]


class Draws(TypedDict):
    """How intervals are drawn: the keywords that every fit takes."""

    resamples: int
    level: float
    seed: int


@dataclass(frozen=True, eq=False)
class Quantity:
    """A derived quantity: `value` in [`low`, `high`] (NaN without resamples), finite `replicates` [at most B]."""

    value: float
    low: float
    high: float
    replicates: Array = field(repr=False)

    def __str__(self) -> str:
        if not self.high - self.low > 1e-9 * abs(self.value):  # no interval, or an exact law
            return f"{self.value:.3g}"
        ends = (self.low, self.high)
        return f"{quote(self.value, ends)} [{quote(self.low, ends)}, {quote(self.high, ends)}]"

    def covers(self, value: float) -> bool:
        """Whether `value` lies in the interval, rounding aside."""
        slack = 1e-9 * max(abs(value), abs(self.value))
        return self.low - slack <= value <= self.high + slack

    def to_dict(self) -> dict[str, float | None]:
        """`value`, `low`, `high`; None where undefined."""
        named = {"value": self.value, "low": self.low, "high": self.high}
        return {name: float(end) if math.isfinite(end) else None for name, end in named.items()}


def quantity(value: float, replicates: Array, level: float, *, wider: float = 1.0, log: bool = False) -> Quantity:
    """Percentile interval of `replicates` [B] at `level`, stretched by `wider` about the value.

    `log` stretches on a log scale, for what is positive. Replicates that are not finite are left out; from fewer
    than twenty there is no interval.
    """
    kept = replicates[np.isfinite(replicates) & ((replicates > 0) | (not log))]
    if kept.size < 20 or not math.isfinite(value):
        return Quantity(value, math.nan, math.nan, kept)
    if log:
        ends = np.exp(intervals.percentile(np.log(kept), math.log(value), level, wider))
    else:
        ends = intervals.percentile(kept, value, level, wider)
    return Quantity(value, float(ends[0]), float(ends[1]), kept)
