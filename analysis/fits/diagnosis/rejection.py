"""Rules that reject a law: it does not describe the table, and nothing that rests on it is claimed.

Each rule looks at the evidence and returns a sentence or None. None of them needs resamples.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from analysis.fits.thresholds import BETTER, CHANCE, MOST_SCATTER
from analysis.numbers import short
from analysis.solver.fitting import FitError
from analysis.table import groups
from analysis.table.rows import refusals

if TYPE_CHECKING:
    from analysis.fits.diagnosis.ends import End
    from analysis.fits.diagnosis.evidence import Evidence

Rule = Callable[["Evidence"], "str | None"]


def require_answerable(reasons: Sequence[str]) -> None:
    """Raise a FitError where the rows of a table, rather than the law, forbid an answer from them."""
    if refused := refusals(reasons):
        raise FitError(refused[0])


def contradicts(e: Evidence, exponent: float) -> bool:
    """Whether an exponent lies outside the interval, 2 % aside; without an interval every one does."""
    low, high = e.fit.intervals["exponent"]
    return not low - 0.02 * abs(low) <= exponent <= high + 0.02 * abs(high)


def _scattered(e: Evidence) -> str | None:
    if e.scatter.rms <= MOST_SCATTER:
        return None
    return f"the points scatter about the law by {100 * e.scatter.rms:.0f} % rms: it does not describe them"


def _misfit(e: Evidence) -> str | None:
    if e.scatter.unexplained > CHANCE:
        return None
    return (
        f"the points leave the law by {e.scatter.excess:.1f} x what repeats explain "
        f"({short(100 * e.scatter.noise, 2)} %): it is not the law of this table"
    )


def _bends(e: Evidence) -> str | None:
    if _misfit(e) or min(e.scatter.bent, e.scatter.ordered) > CHANCE:
        return None
    return "the points bend about the law instead of scattering: it is not the law of this table"


def _ends(e: Evidence) -> str | None:
    """Rows at an end of the range that leave the law of the others: a warm-up, a plateau, another regime."""
    texts = [_end(end) for end in e.ends if end.chance < CHANCE]
    return "; ".join(texts) or None


def _end(end: End) -> str:
    side = "below" if end.off < 0 else "above"
    lie, them = ("lies", "it") if end.rows == 1 else ("lie up to", "them")
    text = f"{rows_of(end)} {lie} {short(100 * abs(np.expm1(end.off)), 2)} % {side} the law of the others"
    if not end.others_hold:
        return text
    kind = "a warm-up" if end.smallest else "a plateau"
    return f'{text} ({kind}?); leave {them} out with --where "{end.where}"'


def rows_of(end: End) -> str:
    """The rows at an end, in words."""
    rows = "row" if end.rows == 1 else f"{end.rows} rows"
    return f"the {rows} with {end.axis} {'below' if end.smallest else 'above'} {short(end.at)}"


def _better_law(e: Evidence) -> str | None:
    """Parts that the law lacks and should have."""
    missed = [
        f"a {part} describes the points better (AICc {gain:.1f} lower), with exponent {short(exponent)}"
        for part, (exponent, gain) in e.rivals.items()
        if part not in e.fit.estimates and gain > BETTER
    ]
    return "; ".join(missed) or None


def better_form(e: Evidence) -> str | None:
    """A form that describes the points better, and not only with fewer parameters."""
    name, forms = e.fit.name, e.forms
    if not forms or name in forms.open:
        return None
    best = forms.best.name
    if name not in forms.fits:
        return f"{e.fit.y} rises with {e.x} at none of the points: nothing shows overfitting; fit law={best!r}"
    if forms.losses[best] >= forms.losses[name]:
        return None
    gain = forms.aicc[name]
    return f"the form {best!r} describes the points better (AICc {gain:.1f} lower): fit law={best!r} in its place"


def _constraints_contradicted(e: Evidence) -> str | None:
    if e.unconstrained < BETTER:
        return None
    names = ", ".join(e.fit.law.constraints.names)
    gain = f"{e.unconstrained:.1f} lower"
    return f"the points contradict what was set for {names}: the AICc of the law without it is {gain}"


def _pooled(e: Evidence) -> str | None:
    return next(iter(groups.refusal(e.populations, pool=e.fit.data.pool)), None)


def _saturated(e: Evidence) -> str | None:
    return next(iter(refusals(e.fit.data.notes)), None)


REJECTING: tuple[Rule, ...] = (
    _saturated,
    _pooled,
    _ends,
    _scattered,
    _misfit,
    _bends,
    _better_law,
    better_form,
    _constraints_contradicted,
)
