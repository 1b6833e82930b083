"""Rules that refuse the exponents of a law: the rows do not determine them.

Each rule looks at the evidence and returns a sentence or None.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from analysis.fits.diagnosis.rejection import Rule, contradicts
from analysis.fits.forms import QUANTITIES
from analysis.fits.thresholds import AS_GOOD, FAR, ILL, MAX_FACTOR, MAX_WIDTH, MIN_SPAN, SPARE_X
from analysis.laws.base import EXPONENT_BOUNDS
from analysis.numbers import short

if TYPE_CHECKING:
    from analysis.fits.diagnosis.evidence import Evidence


def compatible(e: Evidence) -> dict[str, tuple[float, float]]:
    """Each exponent's values left open by sampling, by the fitted range, and by rival laws that are as good."""
    others = [*e.trimmed.values(), *(exponent for exponent, gain in e.rivals.values() if gain > -AS_GOOD)]
    ends = {}
    for name in (*e.fit.law.exponents, *(name for name in QUANTITIES if e.forms and name in e.fit.estimates)):
        rivals = [*e.forms.intervals[name], e.forms.quantities[name].value] if e.forms else []
        values = np.array([*e.fit.intervals[name], e.fit.estimates[name], *others, *rivals])
        finite = values[np.isfinite(values)]
        ends[name] = (float(finite.min()), float(finite.max())) if finite.size else (np.nan, np.nan)
    return ends


def is_wide(e: Evidence, name: str) -> bool:
    """Whether the interval of an exponent is too wide to identify it, or is the range that the caller set."""
    return e.fit.intervals[name] == e.fit.law.constraints.bounds.get(name) or spans(e, *doubted(e, name))


def doubted(e: Evidence, name: str) -> tuple[float, float]:
    """The interval of a parameter; with that of the others, where an end of the range may leave their law."""
    every = [e.fit.intervals[name], *(end.without[name] for end in e.ends if name in end.without)]
    return min(low for low, _ in every), max(high for _, high in every)


def claimed(e: Evidence) -> dict[str, tuple[float, float]]:
    """The interval that is printed beside each value.

    What the sampling leaves open, the forms of a surface that are not ruled out, and an end that may leave the law.
    """
    by_form = compatible(e) if e.forms and e.fit.resamples else {}
    found = {}
    for name in e.fit.intervals:
        (low, high), also = doubted(e, name), by_form.get(name, e.fit.intervals[name])
        found[name] = (min(low, also[0]), max(high, also[1]))
    return found


def spans(e: Evidence, low: float, high: float) -> bool:
    """Whether an interval spans more than a factor of 4, or was cut at the end of the search range.

    That of an exponent of either sign is wide from end to end 1.
    """
    if signed(e):
        return bool(high - low > MAX_WIDTH)
    return bool(np.isfinite(low)) and (high > MAX_FACTOR * low or high >= EXPONENT_BOUNDS[1])


def signed(e: Evidence) -> bool:
    """Whether exponents may be of either sign."""
    return e.fit.law.exponent_range[0] < 0


def loose(e: Evidence) -> list[str]:
    """Parameters of a direction that the rows do not determine."""
    if e.fit.solution.condition < ILL:
        return []
    return [
        e.fit.law.theta_names[k]
        for k, share in zip(e.fit.law.free, e.fit.solution.weakest, strict=True)
        if share > 0.2
    ]


def at_own_bounds(e: Evidence) -> list[str]:
    """Parameters at a bound of the search, and not at one that the caller set."""
    return [name for name in e.fit.at_bounds if name not in e.fit.law.constraints.bounds]


def too_few_x(e: Evidence) -> str | None:
    """Fewer distinct x than a claim needs."""
    need = e.count + SPARE_X
    if not e.one or e.fit.data.distinct >= need:
        return None
    return f"{e.fit.data.distinct} distinct {e.x} for {e.count} parameters; a claim needs {need}"


def too_short(e: Evidence) -> str | None:
    """A range of x that is too short for an exponent."""
    if not e.one or e.span >= MIN_SPAN:
        return None
    return f"{e.x} spans only a factor of {short(e.span, 2)}; a claim needs {MIN_SPAN:g}, a good one 10"


def _not_converged(e: Evidence) -> str | None:
    return None if e.fit.solution.converged else "the solver did not converge"


def _exponent_at_bound(e: Evidence) -> str | None:
    names = [name for name in at_own_bounds(e) if name in e.fit.law.exponents]
    return f"{' and '.join(names)} reached the end of the search range" if names else None


def _absent(e: Evidence) -> str | None:
    gone = [e.fit.x[e.fit.law.terms[name]] for name in at_own_bounds(e) if name in e.fit.law.terms]
    return f"{e.fit.y} does not fall with {' and '.join(gone)}: the term is absent" if gone else None


def _wide(e: Evidence) -> str | None:
    return too_wide(e, e.fit.law.exponents)


def too_wide(e: Evidence, names: tuple[str, ...]) -> str | None:
    """Those of the named parameters whose interval is too wide."""
    wide = [name for name in names if is_wide(e, name) and name not in loose(e)]
    return "; ".join(f"the interval of {_called(name)} {_width(e, name)}" for name in wide) or None


def _called(name: str) -> str:
    """A parameter in a sentence."""
    return f"the {name}" if name in ("exponent", "floor") else name


def _width(e: Evidence, name: str) -> str:
    (low, high), given = doubted(e, name), e.fit.law.constraints.bounds.get(name)
    if (low, high) == given:
        return "is the whole range that was given"
    if signed(e):
        return f"is {short(high - low, 2)} wide; a claim needs at most {MAX_WIDTH:g}"
    if high <= MAX_FACTOR * low:
        return f"ends at {high:g}, the end of the search range"
    factor = f"spans a factor of {short(high / low, 2)}" if low > 0 else "reaches 0"
    return f"{factor}; a claim needs at most a factor of {MAX_FACTOR:g}"


def moves_with_range(e: Evidence) -> str | None:
    """An exponent that becomes another claim without the smallest or the largest x."""
    far = [name for name in outside(e) if _is_far(e, e.trimmed[name])]
    return moved(e, far) if far else None


def _is_far(e: Evidence, exponent: float) -> bool:
    """Whether an exponent is another claim than the fitted one: by a factor of 1.5, or signed by 0.1 and more."""
    if signed(e):
        return abs(exponent - e.fit.exponent) > max((FAR - 1) * abs(e.fit.exponent), 0.1 * MAX_WIDTH)
    return not 1 / FAR < exponent / e.fit.exponent < FAR


def outside(e: Evidence) -> list[str]:
    """The ends without which the exponent leaves its interval."""
    if not e.fit.resamples:
        return []
    return [name for name, value in e.trimmed.items() if contradicts(e, value)]


def moved(e: Evidence, names: list[str]) -> str:
    """The exponents without the named ends."""
    parts = [f"without the {name} {e.x} it is {short(e.trimmed[name])}" for name in names]
    low, high = e.fit.intervals["exponent"]
    return f"the exponent depends on the fitted range: {', '.join(parts)}, outside [{short(low)}, {short(high)}]"


def _ill(e: Evidence) -> str | None:
    names = loose(e)
    if not names:
        return None
    number = f"condition number {short(e.fit.solution.condition, 1)}"
    return f"only combinations of {', '.join(names)} are determined ({number})"


def _few_decide(e: Evidence) -> str | None:
    return decided(e, [name for name in e.few if name != "floor"])


def decided(e: Evidence, names: list[str]) -> str | None:
    """The parameters that a few rows move out of their interval, and these rows."""
    texts = []
    for name in names:
        (low, high), value, rows = e.fit.intervals[name], e.few[name].value, e.few[name].rows.to_dict("records")
        which = "; ".join(", ".join(f"{key} {short(number)}" for key, number in row.items()) for row in rows)
        moved_to = f"{_called(name)} is {short(value)}, outside [{short(low)}, {short(high)}]"
        texts.append(f"without {len(rows)} of {e.fit.n} rows {moved_to} (the rows with {which})")
    return "; ".join(texts) or None


def open_form(e: Evidence) -> str | None:
    """Forms that are as good and leave an exponent open that the law itself determines."""
    ends = compatible(e)
    wide = [name for name in e.fit.law.exponents if spans(e, *ends[name]) and not is_wide(e, name)]
    return by_forms(e, wide) if e.forms and wide else None


def by_forms(e: Evidence, names: list[str]) -> str:
    """The other forms that are not ruled out, and the values that they leave open."""
    ends, others = compatible(e), [repr(name) for name in (e.forms.open if e.forms else {}) if name != e.fit.name]
    texts = [f"{_called(name)} may be {short(ends[name][0])} to {short(ends[name][1])}" for name in names]
    return f"the points do not rule out the form {' or '.join(others)}: {', '.join(texts)}"


BLOCKING: tuple[Rule, ...] = (
    too_few_x,
    too_short,
    _exponent_at_bound,
    _absent,
    _wide,
    moves_with_range,
    open_form,
    _few_decide,
    _not_converged,
    _ill,
)
