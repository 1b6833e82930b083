"""What a reader of a fitted law of any form must be told, and when no exponent may be quoted.

The counterpart of `caveats`, which knows the one-variable power law and its rivals in more detail.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from analysis.laws.base import EXPONENT_BOUNDS

if TYPE_CHECKING:
    from analysis.laws.base import Law
    from analysis.solver.fitting import Found
    from analysis.table.data import Data

Array = NDArray[np.float64]

MAX_FACTOR = 4.0
"""An interval of an exponent wider than this factor from end to end identifies nothing."""
ILL = 1e5
"""Condition number beyond which only combinations of the parameters are determined."""
ALIGNED = 0.98
"""Correlation of two inputs (log) beyond which their exponents are told apart by the form alone."""


@dataclass(frozen=True)
class Evidence:
    """What the rules look at."""

    x: tuple[str, ...]
    y: str
    law: Law
    data: Data
    found: Found
    intervals: dict[str, tuple[float, float]]


def at_bounds(law: Law, theta: Array) -> tuple[str, ...]:
    """Names of the parameters that ended at a bound."""
    margin = 1e-6 * np.maximum(np.abs(theta), 1e-6)
    ended = (theta - law.low <= margin) | (law.high - theta <= margin)
    return tuple(law.theta_names[k] for k in law.free if ended[k])


def unidentified(e: Evidence) -> tuple[str, ...]:
    """Exponents whose interval spans more than a factor of 4, and the parameters of a direction without data."""
    wide = [name for name in (*e.law.exponents, *e.law.rates) if _is_wide(*e.intervals[name])]
    loose = [name for name in _loose(e) if name not in wide]
    return (*wide, *loose)


def _is_wide(low: float, high: float) -> bool:
    """Whether an interval spans more than a factor of 4, or was cut at the end of the search range."""
    return bool(np.isfinite(low)) and (high > MAX_FACTOR * low or high >= EXPONENT_BOUNDS[1])


def examine(e: Evidence) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """All warnings, and those of them that are reasons to claim no exponent."""
    reasons = tuple(text for rule in BLOCKING if (text := rule(e)))
    cautions = tuple(text for rule in CAUTIONS if (text := rule(e)))
    return (*reasons, *cautions, *e.data.notes), reasons


def _loose(e: Evidence) -> list[str]:
    if e.found.condition < ILL:
        return []
    return [e.law.theta_names[k] for k, share in zip(e.law.free, e.found.weakest, strict=True) if share > 0.2]


def _not_converged(e: Evidence) -> str | None:
    return None if e.found.converged else "the solver did not converge"


def _exponent_at_bound(e: Evidence) -> str | None:
    ended = [name for name in at_bounds(e.law, e.found.theta) if name in e.law.exponents]
    return f"{' and '.join(ended)} reached the end of the search range" if ended else None


def _absent(e: Evidence) -> str | None:
    gone = [name for name in at_bounds(e.law, e.found.theta) if name in e.law.terms]
    if not gone:
        return None
    return f"{e.y} does not fall with {' and '.join(e.x[e.law.terms[name]] for name in gone)}: the term is absent"


def _wide(e: Evidence) -> str | None:
    return _told(e, e.law.exponents)


def _wide_rate(e: Evidence) -> str | None:
    return _told(e, e.law.rates)


def _told(e: Evidence, names: tuple[str, ...]) -> str | None:
    wide = [name for name in unidentified(e) if name in names and name not in _loose(e)]
    texts = [f"{name} [{e.intervals[name][0]:.2g}, {e.intervals[name][1]:.2g}]" for name in wide]
    return f"not identified: {', '.join(texts)}" if wide else None


def _ill(e: Evidence) -> str | None:
    loose = _loose(e)
    if not loose:
        return None
    return f"only combinations of {', '.join(loose)} are determined (condition number {e.found.condition:.1g})"


def _few_points(e: Evidence) -> str | None:
    spare = np.unique(e.data.x, axis=1).shape[1] - e.law.free.size
    return None if spare >= 3 else f"only {spare} points more than parameters: intervals are rough"


def _floor_at_bound(e: Evidence) -> str | None:
    if "floor" not in at_bounds(e.law, e.found.theta):
        return None
    return "the floor is at its bound 0: these points show none, which does not mean that there is none"


def _other_bounds(e: Evidence) -> str | None:
    told = {*e.law.exponents, *e.law.terms, "floor"}
    ended = [name for name in at_bounds(e.law, e.found.theta) if name not in told]
    return f"{' and '.join(ended)} ended at a bound of the search" if ended else None


def _aligned(e: Evidence) -> str | None:
    if len(e.x) < 2 or np.any(np.ptp(e.data.logs, axis=1) == 0):
        return None
    r = np.atleast_2d(np.corrcoef(e.data.logs))
    i, j = max(((i, j) for i in range(len(r)) for j in range(i)), key=lambda pair: abs(r[pair]))
    if abs(r[i, j]) < ALIGNED:
        return None
    return f"{e.x[j]} and {e.x[i]} vary together (correlation {r[i, j]:.3f}): their effects are hard to tell apart"


def _few_runs(e: Evidence) -> str | None:
    units = e.data.clusters
    return None if units >= 10 else f"only {units} independent units: intervals from fewer than ten are rough"


def _replicates_failed(e: Evidence) -> str | None:
    settled = e.found.replicates_converged
    bad = 1.0 - float(np.mean(settled)) if settled.size else 0.0
    return f"{100 * bad:.0f} % of the bootstrap refits did not converge" if bad > 0.05 else None


def _dropped(e: Evidence) -> str | None:
    if not e.data.dropped:
        return None
    rows = "row" if e.data.dropped == 1 else "rows"
    return f"{e.data.dropped} {rows} without a finite {e.y} (failed or diverged) left out"


Rule = Callable[[Evidence], str | None]
BLOCKING: tuple[Rule, ...] = (_not_converged, _exponent_at_bound, _absent, _wide, _ill)
CAUTIONS: tuple[Rule, ...] = (
    _few_points,
    _floor_at_bound,
    _other_bounds,
    _wide_rate,
    _aligned,
    _few_runs,
    _replicates_failed,
    _dropped,
)
