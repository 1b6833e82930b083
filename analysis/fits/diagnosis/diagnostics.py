"""What a reader of a fit must know, and when its exponents are not identified.

Each rule looks at the evidence and returns a sentence or None. The rules of `REJECTING` (in `rejection.py`) say
that the law does not describe the table: nothing that rests on it is claimed. Those of `BLOCKING` are further
reasons not to claim the exponents, those of `FLOOR` not to claim the floor; the others are cautions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from analysis.fits.diagnosis.cautions import CAUTIONS
from analysis.fits.diagnosis.evidence import Evidence, gather
from analysis.fits.diagnosis.floors import FLOOR
from analysis.fits.diagnosis.identification import BLOCKING, claimed, compatible, is_wide, loose
from analysis.fits.diagnosis.rejection import REJECTING

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from analysis.fits.result import LawFit
    from analysis.laws.base import Law


@dataclass(frozen=True)
class Diagnosis:
    """What is said of a fit: the properties of these names of a `LawFit`."""

    warnings: tuple[str, ...]
    reasons: tuple[str, ...]
    rejected: tuple[str, ...]
    floor_reasons: tuple[str, ...]
    noise: float | None
    compatible: dict[str, tuple[float, float]]
    claimed: dict[str, tuple[float, float]]
    unidentified: tuple[str, ...]


def diagnose(fit: LawFit) -> Diagnosis:
    """What must be said of a fit."""
    evidence = gather(fit)
    rejected, blocking, floor, cautions = (
        tuple(text for rule in rules if (text := rule(evidence)))
        for rules in (REJECTING, BLOCKING, FLOOR, CAUTIONS)
    )
    reasons = (*rejected, *blocking)
    warnings = tuple(dict.fromkeys((*reasons, *cautions, *fit.data.notes)))
    noise = evidence.scatter.noise if evidence.scatter.spare else None
    no_floor = (*rejected, *floor)
    ranges = (compatible(evidence), claimed(evidence))
    return Diagnosis(warnings, reasons, rejected, no_floor, noise, *ranges, _unidentified(evidence))


def at_bounds(law: Law, theta: NDArray[np.float64]) -> tuple[str, ...]:
    """Names of the parameters that ended at a bound."""
    margin = 1e-6 * np.maximum(np.abs(theta), 1e-6)
    ended = (theta - law.low <= margin) | (law.high - theta <= margin)
    return tuple(law.theta_names[k] for k in law.free if ended[k])


def _unidentified(e: Evidence) -> tuple[str, ...]:
    """Exponents whose interval spans more than a factor of 4, and the parameters of a direction without data."""
    wide = [name for name in (*e.fit.law.exponents, *e.fit.law.rates) if is_wide(e, name)]
    return (*wide, *(name for name in loose(e) if name not in wide))
