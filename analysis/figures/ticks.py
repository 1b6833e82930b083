"""Ticks of a log axis: few, round, also where it spans less than a decade."""

from __future__ import annotations

import math


def log_ticks(low: float, high: float, most: int = 7) -> list[float]:
    """Three to `most` round ticks for a log axis from `low` to `high`, also when it is under one decade."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    for mantissas in ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 4, 6, 8)):
        every = [round(m * 10.0**e, 15 - e) for e in range(first, last + 1) for m in mantissas]
        ticks = [tick for tick in every if low <= tick <= high]
        if len(ticks) >= 3:
            return ticks[:: -(-len(ticks) // most)]
    return _linear_ticks(low, high)


def _linear_ticks(low: float, high: float) -> list[float]:
    rough = (high - low) / 4
    unit = 10.0 ** math.floor(math.log10(rough))
    step = unit * max(m for m in (1, 2, 5) if m * unit <= rough)
    return [float(f"{k * step:.10g}") for k in range(math.ceil(low / step), math.floor(high / step) + 1)]


def tick_text(value: float) -> str:
    """A tick as mathtext: plain from 0.001 to 9999, otherwise 3 x 10^9."""
    exponent = math.floor(math.log10(value) + 1e-9)
    if -4 < exponent < 4:
        return f"{value:.10g}"
    mantissa = value / 10.0**exponent
    power = f"10^{{{exponent}}}"
    return f"${power}$" if abs(mantissa - 1) < 1e-6 else rf"${mantissa:.6g}{{\times}}{power}$"
