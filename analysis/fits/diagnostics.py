"""What a reader of a fit must know, and when its exponents are not identified.

Each rule looks at the evidence and returns a sentence or None. The rules of `REJECTING` (in `rejection.py`) say
that the law does not describe the table: nothing that rests on it is claimed. Those of `BLOCKING` are further
reasons not to claim the exponents, those of `FLOOR` not to claim the floor; the others are cautions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from analysis.fits.evidence import Evidence, gather
from analysis.fits.forms import QUANTITIES
from analysis.fits.rejection import REJECTING, Rule, better_form, contradicts
from analysis.fits.scatter import EXACT
from analysis.fits.thresholds import (
    ALIGNED,
    AS_GOOD,
    FAR,
    ILL,
    LEAST_FLOOR,
    MAX_FACTOR,
    MAX_WIDTH,
    MIN_SPAN,
    SPARE_X,
    WIDER,
)
from analysis.laws.base import EXPONENT_BOUNDS
from analysis.table import groups

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
    return Diagnosis(warnings, reasons, rejected, no_floor, noise, _compatible(evidence), _unidentified(evidence))


def at_bounds(law: Law, theta: NDArray[np.float64]) -> tuple[str, ...]:
    """Names of the parameters that ended at a bound."""
    margin = 1e-6 * np.maximum(np.abs(theta), 1e-6)
    ended = (theta - law.low <= margin) | (law.high - theta <= margin)
    return tuple(law.theta_names[k] for k in law.free if ended[k])


def _compatible(e: Evidence) -> dict[str, tuple[float, float]]:
    """Each exponent's values left open by sampling, by the fitted range, and by rival laws that are as good."""
    others = [*e.trimmed.values(), *(exponent for exponent, gain in e.rivals.values() if gain > -AS_GOOD)]
    ends = {}
    for name in (*e.fit.law.exponents, *(name for name in QUANTITIES if e.forms and name in e.fit.estimates)):
        rivals = [*e.forms.intervals[name], e.forms.quantities[name].value] if e.forms else []
        values = np.array([*e.fit.intervals[name], e.fit.estimates[name], *others, *rivals])
        finite = values[np.isfinite(values)]
        ends[name] = (float(finite.min()), float(finite.max())) if finite.size else (np.nan, np.nan)
    return ends


def _unidentified(e: Evidence) -> tuple[str, ...]:
    """Exponents whose interval spans more than a factor of 4, and the parameters of a direction without data."""
    wide = [name for name in (*e.fit.law.exponents, *e.fit.law.rates) if _is_wide(e, name)]
    return (*wide, *(name for name in _loose(e) if name not in wide))


def _is_wide(e: Evidence, name: str) -> bool:
    """Whether the interval of an exponent is too wide to identify it, or is the range that the caller set."""
    return e.fit.intervals[name] == e.fit.law.constraints.bounds.get(name) or _spans(e, *e.fit.intervals[name])


def _spans(e: Evidence, low: float, high: float) -> bool:
    """Whether an interval spans more than a factor of 4, or was cut at the end of the search range.

    That of an exponent of either sign is wide from end to end 1.
    """
    if _signed(e):
        return bool(high - low > MAX_WIDTH)
    return bool(np.isfinite(low)) and (high > MAX_FACTOR * low or high >= EXPONENT_BOUNDS[1])


def _signed(e: Evidence) -> bool:
    """Whether exponents may be of either sign."""
    return e.fit.law.exponent_range[0] < 0


def _loose(e: Evidence) -> list[str]:
    if e.fit.solution.condition < ILL:
        return []
    return [
        e.fit.law.theta_names[k]
        for k, share in zip(e.fit.law.free, e.fit.solution.weakest, strict=True)
        if share > 0.2
    ]


def _too_few_x(e: Evidence) -> str | None:
    need = e.count + SPARE_X
    if not e.one or e.fit.data.distinct >= need:
        return None
    return f"{e.fit.data.distinct} distinct {e.x} for {e.count} parameters; a claim needs {need}"


def _too_short(e: Evidence) -> str | None:
    if not e.one or e.span >= MIN_SPAN:
        return None
    return f"{e.x} spans only a factor of {e.span:.2g}; a claim needs {MIN_SPAN:g}, a good one 10"


def _not_converged(e: Evidence) -> str | None:
    return None if e.fit.solution.converged else "the solver did not converge"


def _exponent_at_bound(e: Evidence) -> str | None:
    names = [name for name in _at_own_bounds(e) if name in e.fit.law.exponents]
    return f"{' and '.join(names)} reached the end of the search range" if names else None


def _absent(e: Evidence) -> str | None:
    gone = [e.fit.x[e.fit.law.terms[name]] for name in _at_own_bounds(e) if name in e.fit.law.terms]
    return f"{e.fit.y} does not fall with {' and '.join(gone)}: the term is absent" if gone else None


def _wide(e: Evidence) -> str | None:
    return _not_identified(e, e.fit.law.exponents)


def _wide_rate(e: Evidence) -> str | None:
    return _not_identified(e, e.fit.law.rates)


def _not_identified(e: Evidence, names: tuple[str, ...]) -> str | None:
    wide = [name for name in names if _is_wide(e, name) and name not in _loose(e)]
    texts = [f"{name} [{e.fit.intervals[name][0]:.2g}, {e.fit.intervals[name][1]:.2g}]" for name in wide]
    return f"not identified: {', '.join(texts)}" if wide else None


def _ill(e: Evidence) -> str | None:
    loose = _loose(e)
    if not loose:
        return None
    number = f"condition number {e.fit.solution.condition:.1g}"
    return f"only combinations of {', '.join(loose)} are determined ({number})"


def _moves_with_range(e: Evidence) -> str | None:
    far = [name for name in _outside(e) if _is_far(e, e.trimmed[name])]
    return _moved(e, far) if far else None


def _is_far(e: Evidence, exponent: float) -> bool:
    """Whether an exponent is another claim than the fitted one: by a factor of 1.5, or signed by 0.1 and more."""
    if _signed(e):
        return abs(exponent - e.fit.exponent) > max((FAR - 1) * abs(e.fit.exponent), 0.1 * MAX_WIDTH)
    return not 1 / FAR < exponent / e.fit.exponent < FAR


def _shifts_with_range(e: Evidence) -> str | None:
    far = _outside(e)
    return _moved(e, far) if far and not _moves_with_range(e) else None


def _outside(e: Evidence) -> list[str]:
    if not e.fit.resamples:
        return []
    return [name for name, value in e.trimmed.items() if contradicts(e, value)]


def _moved(e: Evidence, names: list[str]) -> str:
    parts = [f"without the {name} {e.x} it is {e.trimmed[name]:.3g}" for name in names]
    low, high = e.fit.intervals["exponent"]
    return f"the exponent depends on the fitted range: {', '.join(parts)}, outside [{low:.3g}, {high:.3g}]"


def _few_points(e: Evidence) -> str | None:
    spare = e.fit.data.distinct - e.count
    enough = spare >= 3 and (e.fit.data.distinct >= 5 or not e.one)
    if enough or _too_few_x(e):
        return None
    what = f"distinct {e.x}" if e.one else "distinct points"
    return f"only {e.fit.data.distinct} {what} for {e.count} parameters: intervals are rough"


def _under_a_decade(e: Evidence) -> str | None:
    if not e.one or e.span >= 10.0 or _too_short(e):
        return None
    return f"{e.x} spans less than a decade (a factor of {e.span:.2g})"


def _floor_at_bound(e: Evidence) -> str | None:
    if "floor" not in _at_own_bounds(e):
        return None
    return "the floor is at its bound 0: these points show none, which does not mean that there is none"


def _at_own_bounds(e: Evidence) -> list[str]:
    """Parameters at a bound of the search, and not at one that the caller set."""
    return [name for name in e.fit.at_bounds if name not in e.fit.law.constraints.bounds]


def _no_effect(e: Evidence) -> str | None:
    open_to_zero = [
        name for name in e.fit.law.exponents if e.fit.intervals[name][0] <= 0 <= e.fit.intervals[name][1]
    ]
    if not _signed(e) or not open_to_zero:
        return None
    return f"{' and '.join(open_to_zero)} compatible with 0: {e.fit.y} may not depend on it"


def _at_given_bound(e: Evidence) -> str | None:
    names = [name for name in e.fit.at_bounds if name in e.fit.law.constraints.bounds]
    texts = [f"{name} ended at its bound {e.fit[name]:.3g}" for name in names]
    return f"{', '.join(texts)}: the interval has one side only" if texts else None


def _few_decide(e: Evidence) -> str | None:
    return _decided(e, [name for name in e.few if name != "floor"])


def _few_decide_floor(e: Evidence) -> str | None:
    return _decided(e, ["floor"] if "floor" in e.few else [])


def _decided(e: Evidence, names: list[str]) -> str | None:
    """The parameters that a few rows move out of their interval, and these rows."""
    texts = []
    for name in names:
        (low, high), value, rows = e.fit.intervals[name], e.few[name].value, e.few[name].rows.to_dict("records")
        which = "; ".join(", ".join(f"{key} {number:.3g}" for key, number in row.items()) for row in rows)
        moved = f"without {len(rows)} of {e.fit.n} rows {name} is {value:.3g}, outside [{low:.3g}, {high:.3g}]"
        texts.append(f"{moved} (the rows with {which})")
    return "; ".join(texts) or None


def _no_floor(e: Evidence) -> str | None:
    return None if e.fit.floor > 0 else "the fit has no floor"


def _floor_given(e: Evidence) -> str | None:
    given = e.fit.law.constraints
    low = given.bounds.get("floor", (0.0, np.inf))[0]
    if "floor" in given.fix or (low > 0 and e.fit.intervals["floor"][0] <= low):
        return "the floor was set, not measured"
    return None


def _floor_reaches_zero(e: Evidence) -> str | None:
    ends = _compatible(e) if e.forms and e.fit.resamples else {}  # the interval that is printed
    low, high = ends.get("floor", e.fit.intervals.get("floor", (np.nan, np.nan)))
    if _no_floor(e) or low > LEAST_FLOOR * e.fit.floor:
        return None
    return (
        f"the interval of the floor reaches 0: [{low:.2g}, {high:.2g}]" if low >= 0 else "the floor has no interval"
    )


def _bare_as_good(e: Evidence) -> str | None:
    gain = e.rivals.get("floor", (np.nan, -np.inf))[1]
    if gain <= -AS_GOOD or _no_floor(e):
        return None
    return f"a law without a floor describes the points as well (its AICc is {abs(gain):.1f} {_than(gain)})"


def _other_bounds(e: Evidence) -> str | None:
    names = [name for name in _at_own_bounds(e) if name not in (*e.fit.law.exponents, *e.fit.law.terms, "floor")]
    return f"{' and '.join(names)} ended at a bound of the search" if names else None


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


def _not_needed(e: Evidence) -> str | None:
    idle = [
        f"a law without a {part} describes the points as well "
        f"(its AICc is {abs(gain):.1f} {_than(gain)}), with exponent {exponent:.3g}"
        for part, (exponent, gain) in e.rivals.items()
        if e.fit.estimates.get(part, 0.0) > 0 and gain > -AS_GOOD
    ]
    return "; ".join(idle) or None


def _than(gain: float) -> str:
    return "lower" if gain > 0 else "higher"


def _aligned(e: Evidence) -> str | None:
    if e.one or np.any(np.ptp(e.fit.data.logs, axis=1) == 0):
        return None
    r = np.atleast_2d(np.corrcoef(e.fit.data.logs))
    i, j = max(((i, j) for i in range(len(r)) for j in range(i)), key=lambda pair: abs(r[pair]))
    if abs(r[i, j]) < ALIGNED:
        return None
    pair = f"{e.fit.x[j]} and {e.fit.x[i]}"
    return f"{pair} vary together (correlation {r[i, j]:.3f}): their effects are hard to tell apart"


def _open_form(e: Evidence) -> str | None:
    """Forms that are as good and leave an exponent open that the law itself determines."""
    ends = _compatible(e)
    wide = [name for name in e.fit.law.exponents if _spans(e, *ends[name]) and not _is_wide(e, name)]
    return _by_forms(e, wide) if e.forms and wide else None


def _other_forms(e: Evidence) -> str | None:
    """Forms that are as good and widen the interval of an exponent or the floor."""
    if not e.forms or e.fit.rms < EXACT or better_form(e) or _open_form(e):
        return None
    ends = _compatible(e)
    widths = {name: np.ptp(e.fit.intervals[name]) for name in QUANTITIES if name in ends}
    wider = [name for name, width in widths.items() if np.ptp(ends[name]) > WIDER * width]
    return _by_forms(e, wider) if wider else None


def _by_forms(e: Evidence, names: list[str]) -> str:
    ends, others = _compatible(e), [name for name in (e.forms.open if e.forms else {}) if name != e.fit.name]
    texts = [f"{name} [{ends[name][0]:.3g}, {ends[name][1]:.3g}]" for name in names]
    return f"{' and '.join(others)} not ruled out; with that, {', '.join(texts)}"


def _few_clusters(e: Evidence) -> str | None:
    count = e.fit.data.clusters
    if count >= 10 or _too_few_x(e) or _few_points(e):
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


BLOCKING: tuple[Rule, ...] = (
    _too_few_x,
    _too_short,
    _exponent_at_bound,
    _absent,
    _wide,
    _moves_with_range,
    _open_form,
    _few_decide,
    _not_converged,
    _ill,
)
FLOOR: tuple[Rule, ...] = (_no_floor, _floor_given, _floor_reaches_zero, _bare_as_good, _few_decide_floor)
CAUTIONS: tuple[Rule, ...] = (
    _few_points,
    _under_a_decade,
    _shifts_with_range,
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
