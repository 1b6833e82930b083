"""One format for numbers in texts: on the page, in the terminal and in figures."""

from __future__ import annotations

import math
from typing import Any

PLAIN = (1e-4, 1e5)
"""Sizes that are written without a power of ten."""


def short(value: Any, digits: int = 3) -> str:
    """A number to so many significant digits: `0.378`, `3930`, `6.01e11`; plain from 0.0001 to 99,999."""
    if not math.isfinite(value):
        return f"{value:g}"
    mantissa, _, power = f"{value:.{digits - 1}e}".partition("e")
    if value == 0 or PLAIN[0] <= abs(float(f"{mantissa}e{power}")) < PLAIN[1]:
        text = f"{float(f'{mantissa}e{power}'):.{max(digits - 1 - int(power), 0)}f}"
        return text.rstrip("0").rstrip(".") if "." in text else text
    mantissa = mantissa.rstrip("0").rstrip(".") if "." in mantissa else mantissa
    return f"{mantissa}e{int(power)}"
