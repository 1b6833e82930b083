"""What a reader of a fit must be told, and when no exponent may be quoted at all.

Each rule looks at the evidence and returns a sentence or nothing. The rules of `BLOCKING` are reasons not to
claim an exponent; the others are cautions beside a claim.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.special import fdtrc

from analysis.laws.base import EXPONENT_BOUNDS

if TYPE_CHECKING:
    from analysis.solver.power_law import Form, Solution

Array = NDArray[np.float64]

MAX_FACTOR = 4.0
"""An interval of the exponent wider than this factor from end to end identifies nothing."""
FAR = 1.5
"""Exponents that differ by this factor are different claims."""
AS_GOOD, BETTER = 2.0, 4.0
"""AICc differences below which laws are equally good, above which one is better (Burnham, Anderson 2002)."""
MIN_SPAN = 3.0
"""A local slope over less than this factor of x is no law."""


@dataclass(frozen=True)
class Evidence:
    """All that the rules look at: the points [n], the law, its replicates [B], its interval and its rivals.

    `trimmed` maps "smallest" and "largest" to the exponent refitted without that x. `rivals` maps "floor" and
    "shift" to the law with that part switched (off where it was on): its exponent, and the AICc of the law
    minus that of the rival, positive where the rival describes the points better. `residuals` are of log y.
    """

    x_name: str
    y_name: str
    x: Array
    residuals: Array
    form: Form
    law: Solution
    replicates: Solution
    interval: tuple[float, float]
    trimmed: dict[str, float]
    rivals: dict[str, tuple[float, float]]
    clusters: int
    dropped: int = 0
    notes: tuple[str, ...] = ()

    @property
    def exponent(self) -> float:
        """The estimate."""
        return float(self.law.exponent[0])

    @property
    def distinct(self) -> int:
        """Distinct x among the points."""
        return int(np.unique(self.x).size)

    @property
    def span(self) -> float:
        """Largest x over smallest."""
        return float(self.x.max() / self.x.min())


def examine(evidence: Evidence) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """All warnings, and those of them that are reasons to claim no exponent."""
    reasons = tuple(text for rule in BLOCKING if (text := rule(evidence)))
    cautions = tuple(text for rule in CAUTIONS if (text := rule(evidence)))
    return (*reasons, *cautions, *evidence.notes), reasons


def compatible(evidence: Evidence) -> tuple[float, float]:
    """The exponents left open by sampling, by the fitted range, and by a rival law that is as good."""
    open_still = [*evidence.interval, evidence.exponent, *evidence.trimmed.values()]
    open_still += [exponent for exponent, gain in evidence.rivals.values() if gain > -AS_GOOD]
    finite = [value for value in open_still if np.isfinite(value)]
    return min(finite), max(finite)


def _too_few_x(e: Evidence) -> str | None:
    need = e.form.count + 2
    if e.distinct >= need:
        return None
    return f"{e.distinct} distinct {e.x_name} for {e.form.count} parameters; a claim needs {need}"


def _too_short(e: Evidence) -> str | None:
    if e.span >= MIN_SPAN:
        return None
    return f"{e.x_name} spans only a factor of {e.span:.2g}; a claim needs {MIN_SPAN:g}, a good one 10"


def _unidentified(e: Evidence) -> str | None:
    low, high = e.interval
    if np.isfinite(low) and high > MAX_FACTOR * low:
        return f"the exponent is not identified: its interval runs from {low:.2g} to {high:.2g}"
    return None


def _at_bound(e: Evidence) -> str | None:
    low, high = EXPONENT_BOUNDS
    if low * 1.01 < e.exponent < high / 1.01:
        return None
    return f"the exponent reached the end of its search range, {e.exponent:.3g}"


def _not_converged(e: Evidence) -> str | None:
    return None if e.law.converged[0] else "the solver did not converge"


def _moves_with_range(e: Evidence) -> str | None:
    far = [name for name in _outside(e) if not 1 / FAR < e.trimmed[name] / e.exponent < FAR]
    return _moved(e, far) if far else None


def _shifts_with_range(e: Evidence) -> str | None:
    if _moves_with_range(e):
        return None
    far = _outside(e)
    return _moved(e, far) if far else None


def _outside(e: Evidence) -> list[str]:
    low, high = e.interval
    return [name for name, value in e.trimmed.items() if value < 0.98 * low or value > 1.02 * high]


def _moved(e: Evidence, names: list[str]) -> str:
    parts = [f"without the {name} {e.x_name} it is {e.trimmed[name]:.3g}" for name in names]
    low, high = e.interval
    return f"the exponent depends on the fitted range: {', '.join(parts)}, outside [{low:.3g}, {high:.3g}]"


def _few_x(e: Evidence) -> str | None:
    if e.distinct >= 5 or _too_few_x(e):
        return None
    return f"only {e.distinct} distinct {e.x_name}; intervals from fewer than five are rough"


def _under_a_decade(e: Evidence) -> str | None:
    if e.span >= 10.0 or _too_short(e):
        return None
    return f"{e.x_name} spans less than a decade (a factor of {e.span:.2g})"


def _floor_at_bound(e: Evidence) -> str | None:
    if not e.form.floor or e.law.floor[0] > 0:
        return None
    return "the floor is at its bound 0: these points show none, which does not mean that there is none"


def _floor_correlated(e: Evidence) -> str | None:
    floors = e.replicates.floor
    if not e.form.floor or floors.size < 20 or e.law.floor[0] <= 0 or np.mean(floors > 0) < 0.5:
        return None
    spread = np.std(np.log(e.replicates.exponent))
    if spread < 0.05 or np.std(floors) == 0:
        return None
    r = float(np.corrcoef(np.log(e.replicates.exponent), floors)[0, 1])
    if abs(r) < 0.95:
        return None
    return f"floor and exponent trade against each other (correlation {r:.2f}): quote them together only"


def _not_needed(e: Evidence) -> str | None:
    idle = [
        f"a law without a {part} describes the points as well (its AICc is {_signed(-gain)}), "
        f"with exponent {exponent:.3g}"
        for part, (exponent, gain) in e.rivals.items()
        if _has(e, part) and gain > -AS_GOOD
    ]
    return "; ".join(idle) or None


def _missed(e: Evidence) -> str | None:
    return _better(e, lambda exponent: not _contradicts(e, exponent))


def _other_law(e: Evidence) -> str | None:
    return _better(e, lambda exponent: _contradicts(e, exponent))


def _better(e: Evidence, which: Callable[[float], bool]) -> str | None:
    missed = [
        f"a {part} describes the points better (AICc {gain:.1f} lower), with exponent {exponent:.3g}"
        for part, (exponent, gain) in e.rivals.items()
        if not _switched_on(e, part) and gain > BETTER and which(exponent)
    ]
    return "; ".join(missed) or None


def _contradicts(e: Evidence, exponent: float) -> bool:
    """Whether the exponent of a better law lies outside the interval, which then does not hold."""
    return not 0.98 * e.interval[0] <= exponent <= 1.02 * e.interval[1]


def _switched_on(e: Evidence, part: str) -> bool:
    return bool(getattr(e.form, part))


def _has(e: Evidence, part: str) -> bool:
    return _switched_on(e, part) and float(getattr(e.law, part)[0]) > 0


def _signed(difference: float) -> str:
    return f"{abs(difference):.1f} {'higher' if difference > 0 else 'lower'}"


def _bends(e: Evidence) -> str | None:
    """Von Neumann's ratio of the mean residuals in order of x: 2 for scatter, near 0 for a bend."""
    if e.distinct < 8 or e.clusters < e.x.size:
        return None
    group = np.unique(e.x, return_inverse=True)[1]
    mean = np.bincount(group, e.residuals) / np.bincount(group)
    n, power = mean.size, float(np.sum(mean**2))
    if power < n * 1e-20 or (2 - np.sum(np.diff(mean) ** 2) / power) < 3 * np.sqrt(4 * (n - 2) / (n**2 - 1)):
        return None
    return f"the points bend about the law instead of scattering: it is not the law of this range of {e.x_name}"


def _lack_of_fit(e: Evidence) -> str | None:
    """F test of the scatter between distinct x against the scatter of repeats at one x, at 0.1 %."""
    group = np.unique(e.x, return_inverse=True)[1]
    count = np.bincount(group)
    mean = np.bincount(group, e.residuals) / count
    between, within = e.distinct - e.form.count, e.x.size - e.distinct
    if between < 1 or within < 5 or e.clusters < e.x.size:
        return None
    noise = float(np.sum((e.residuals - mean[group]) ** 2) / within)
    ratio = float(np.sum(count * mean**2) / between) / max(noise, 1e-24)
    if fdtrc(between, within, ratio) > 1e-3:
        return None
    return (
        f"the points leave the law by {np.sqrt(ratio):.1f} x what repeats at one {e.x_name} explain: "
        "the law is not the whole story and the intervals hold sampling error only"
    )


def _replicates_failed(e: Evidence) -> str | None:
    bad = 1.0 - float(np.mean(e.replicates.converged)) if e.replicates.converged.size else 0.0
    return f"{100 * bad:.0f} % of the bootstrap refits did not converge" if bad > 0.05 else None


def _dropped(e: Evidence) -> str | None:
    if not e.dropped:
        return None
    rows = "row" if e.dropped == 1 else "rows"
    return f"{e.dropped} {rows} without a finite {e.y_name} (failed or diverged) left out"


Rule = Callable[[Evidence], str | None]
BLOCKING: tuple[Rule, ...] = (
    _too_few_x,
    _too_short,
    _at_bound,
    _unidentified,
    _moves_with_range,
    _other_law,
    _not_converged,
)
CAUTIONS: tuple[Rule, ...] = (
    _few_x,
    _under_a_decade,
    _shifts_with_range,
    _floor_at_bound,
    _floor_correlated,
    _not_needed,
    _missed,
    _bends,
    _lack_of_fit,
    _replicates_failed,
    _dropped,
)
