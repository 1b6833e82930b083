"""A number with its interval and the bootstrap replicates behind it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from analysis.numbers import PLAIN, short
from analysis.solver import bootstrap

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
            return short(self.value)
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
    """Percentile interval of `replicates` [B] at `level`, widened by `wider` about the value.

    `log` widens on a log scale, for positive quantities. Replicates that are not finite are left out; from fewer
    than twenty there is no interval.
    """
    finite = replicates[np.isfinite(replicates) & ((replicates > 0) | (not log))]
    if finite.size < 20 or not math.isfinite(value):
        return Quantity(value, math.nan, math.nan, finite)
    if log:
        ends = np.exp(bootstrap.percentile(np.log(finite), math.log(value), level, wider))
    else:
        ends = bootstrap.percentile(finite, value, level, wider)
    return Quantity(value, float(ends[0]), float(ends[1]), finite)


def quote(value: float, interval: tuple[float, float]) -> str:
    """`value` with as many digits as the width of its interval justifies: two of the width's own."""
    width = interval[1] - interval[0]
    if not math.isfinite(width) or width <= 0:
        return short(value)
    size = max(abs(value), abs(interval[0]), abs(interval[1]))
    digits = max(math.floor(math.log10(size)) - math.floor(math.log10(width)) + 2, 1)
    if PLAIN[0] <= size < PLAIN[1]:
        return f"{value:.{min(max(1 - math.floor(math.log10(width)), 0), 12)}f}"
    return short(value, min(digits, 12))


def span(interval: tuple[float, float]) -> str:
    """`0.1481 to 0.1543`: the ends of an interval, to two digits, or to those of its width if it is narrow."""
    low, high = interval
    if 0 < low < high < 2 * low:
        return f"{quote(low, interval)} to {quote(high, interval)}"
    return f"{short(low, 2)} to {short(high, 2)}"


def plain(value: float) -> float | None:
    """A number as JSON can hold it; texts and whole numbers pass."""
    if isinstance(value, str | int):
        return value
    return float(value) if math.isfinite(value) else None
