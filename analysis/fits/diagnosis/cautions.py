"""Rules that caution the reader of a fit whose claims stand."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from analysis.fits.diagnosis.floors import than
from analysis.fits.diagnosis.identification import (
    at_own_bounds,
    by_forms,
    compatible,
    moved,
    moves_with_range,
    open_form,
    outside,
    signed,
    too_few_x,
    too_short,
    too_wide,
)
from analysis.fits.diagnosis.rejection import Rule, better_form, rows_of
from analysis.fits.diagnosis.scatter import EXACT
from analysis.fits.forms import QUANTITIES
from analysis.fits.thresholds import ALIGNED, AS_GOOD, CHANCE, WIDER
from analysis.numbers import short
from analysis.table import groups

if TYPE_CHECKING:
    from analysis.fits.diagnosis.evidence import Evidence


def _few_points(e: Evidence) -> str | None:
    spare = e.fit.data.distinct - e.count
    enough = spare >= 3 and (e.fit.data.distinct >= 5 or not e.one)
    if enough or too_few_x(e):
        return None
    what = f"distinct {e.x}" if e.one else "distinct points"
    return f"only {e.fit.data.distinct} {what} for {e.count} parameters: intervals are rough"


def _under_a_decade(e: Evidence) -> str | None:
    if not e.one or e.span >= 10.0 or too_short(e):
        return None
    return f"{e.x} spans less than a decade (a factor of {short(e.span, 2)})"


def _shifts_with_range(e: Evidence) -> str | None:
    far = outside(e)
    return moved(e, far) if far and not moves_with_range(e) else None


def _doubtful_end(e: Evidence) -> str | None:
    """Rows at an end of the range that may leave the law, though chance may explain it."""
    texts = [f"{rows_of(end)} (p = {short(end.chance, 2)})" for end in e.ends if end.chance >= CHANCE]
    return f"{' and '.join(texts)} may leave the law: intervals hold the values without them" if texts else None


def _floor_at_bound(e: Evidence) -> str | None:
    if "floor" not in at_own_bounds(e):
        return None
    return "the floor is at its bound 0: these points show none, which does not mean that there is none"


def _at_given_bound(e: Evidence) -> str | None:
    names = [name for name in e.fit.at_bounds if name in e.fit.law.constraints.bounds]
    texts = [f"{name} ended at its bound {short(e.fit[name])}" for name in names]
    return f"{', '.join(texts)}: the interval has one side only" if texts else None


def _no_effect(e: Evidence) -> str | None:
    open_to_zero = [
        name for name in e.fit.law.exponents if e.fit.intervals[name][0] <= 0 <= e.fit.intervals[name][1]
    ]
    if not signed(e) or not open_to_zero:
        return None
    return f"{' and '.join(open_to_zero)} compatible with 0: {e.fit.y} may not depend on it"


def _other_bounds(e: Evidence) -> str | None:
    names = [name for name in at_own_bounds(e) if name not in (*e.fit.law.exponents, *e.fit.law.terms, "floor")]
    return f"{' and '.join(names)} of the law reached the end of the search range" if names else None


def _floor_correlated(e: Evidence) -> str | None:
    floors = e.fit.replicates.get("floor", np.empty(0))
    if e.fit.law.exponents != ("exponent",) or "exponent" in e.fit.law.linear or floors.size < 20:
        return None
    logs = np.log(e.fit.replicates["exponent"])
    if e.fit.estimates["floor"] <= 0 or np.mean(floors > 0) < 0.5 or np.std(logs) < 0.05 or np.std(floors) == 0:
        return None
    r = float(np.corrcoef(logs, floors)[0, 1])
    if abs(r) < 0.95:
        return None
    return f"floor and exponent trade against each other (correlation {r:.2f}): quote them together only"


def _wide_rate(e: Evidence) -> str | None:
    return too_wide(e, e.fit.law.rates)


def _not_needed(e: Evidence) -> str | None:
    idle = [
        f"a law without a {part} describes the points as well "
        f"(its AICc is {abs(gain):.1f} {than(gain)}), with exponent {short(exponent)}"
        for part, (exponent, gain) in e.rivals.items()
        if e.fit.estimates.get(part, 0.0) > 0 and gain > -AS_GOOD
    ]
    return "; ".join(idle) or None


def _other_forms(e: Evidence) -> str | None:
    """Forms that are as good and widen the interval of an exponent or the floor."""
    if not e.forms or e.fit.rms < EXACT or better_form(e) or open_form(e):
        return None
    ends = compatible(e)
    widths = {name: np.ptp(e.fit.intervals[name]) for name in QUANTITIES if name in ends}
    wider = [name for name, width in widths.items() if np.ptp(ends[name]) > WIDER * width]
    return by_forms(e, wider) if wider else None


def _aligned(e: Evidence) -> str | None:
    if e.one or np.any(np.ptp(e.fit.data.logs, axis=1) == 0):
        return None
    r = np.atleast_2d(np.corrcoef(e.fit.data.logs))
    i, j = max(((i, j) for i in range(len(r)) for j in range(i)), key=lambda pair: abs(r[pair]))
    if abs(r[i, j]) < ALIGNED:
        return None
    pair = f"{e.fit.x[j]} and {e.fit.x[i]}"
    return f"{pair} vary together (correlation {r[i, j]:.3f}): their effects are hard to tell apart"


def _few_clusters(e: Evidence) -> str | None:
    count = e.fit.data.clusters
    if count >= 10 or too_few_x(e) or _few_points(e):
        return None
    return f"only {count} independent units: intervals from fewer than ten are rough"


def _replicates_failed(e: Evidence) -> str | None:
    converged = e.fit.solution.replicates_converged
    bad = 1.0 - float(np.mean(converged)) if converged.size else 0.0
    return f"{100 * bad:.0f} % of the bootstrap refits did not converge" if bad > 0.05 else None


def _dropped(e: Evidence) -> str | None:
    if not e.fit.data.dropped:
        return None
    rows = "row" if e.fit.data.dropped == 1 else "rows"
    return f"{e.fit.data.dropped} {rows} without a finite {e.fit.y} (failed or diverged) left out"


def _pooled_on_request(e: Evidence) -> str | None:
    return next(iter(groups.pooled(e.populations, pool=e.fit.data.pool)), None)


CAUTIONS: tuple[Rule, ...] = (
    _few_points,
    _under_a_decade,
    _shifts_with_range,
    _doubtful_end,
    _floor_at_bound,
    _at_given_bound,
    _no_effect,
    _other_bounds,
    _floor_correlated,
    _wide_rate,
    _not_needed,
    _other_forms,
    _aligned,
    _few_clusters,
    _replicates_failed,
    _dropped,
    _pooled_on_request,
)
