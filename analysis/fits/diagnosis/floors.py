"""Rules that refuse the floor of a law."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from analysis.fits.diagnosis.identification import claimed, decided
from analysis.fits.thresholds import AS_GOOD, LEAST_FLOOR
from analysis.numbers import short

if TYPE_CHECKING:
    from analysis.fits.diagnosis.evidence import Evidence
    from analysis.fits.diagnosis.rejection import Rule


def _no_floor(e: Evidence) -> str | None:
    return None if e.fit.floor > 0 else "the fit has no floor"


def _floor_given(e: Evidence) -> str | None:
    given = e.fit.law.constraints
    low = given.bounds.get("floor", (0.0, np.inf))[0]
    if "floor" in given.fix or (low > 0 and e.fit.intervals["floor"][0] <= low):
        return "the floor was set, not measured"
    return None


def _floor_reaches_zero(e: Evidence) -> str | None:
    low, high = claimed(e).get("floor", (np.nan, np.nan))
    if _no_floor(e) or low > LEAST_FLOOR * e.fit.floor:
        return None
    return (
        f"the interval of the floor reaches 0: [{short(low, 2)}, {short(high, 2)}]"
        if low >= 0
        else "the floor has no interval"
    )


def _bare_as_good(e: Evidence) -> str | None:
    gain = e.rivals.get("floor", (np.nan, -np.inf))[1]
    if gain <= -AS_GOOD or _no_floor(e):
        return None
    return f"a law without a floor describes the points as well (its AICc is {abs(gain):.1f} {than(gain)})"


def _few_decide_floor(e: Evidence) -> str | None:
    return decided(e, ["floor"] if "floor" in e.few else [])


def than(gain: float) -> str:
    """Whether the AICc of a rival with this gain is lower or higher."""
    return "lower" if gain > 0 else "higher"


FLOOR: tuple[Rule, ...] = (_no_floor, _floor_given, _floor_reaches_zero, _bare_as_good, _few_decide_floor)
