"""One call that says what a table can support: a claim of an exponent, of a floor, of an extrapolation."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from analysis.approaches.curves import by_budget, draw_curves
from analysis.approaches.surface import fit_surface
from analysis.checks.agreement import agree
from analysis.checks.design_bias import design_bias
from analysis.checks.sensitivity import sensitivity
from analysis.checks.validate import COVERED, ordered, validate
from analysis.fits.power_law import fit_power_law
from analysis.solver.fitting import FitError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import pandas as pd

    from analysis.approaches.surface import SurfaceFit
    from analysis.checks.agreement import Agreement
    from analysis.checks.design_bias import DesignBias
    from analysis.checks.sensitivity import Sensitivity
    from analysis.checks.validate import Validation
    from analysis.fits.power_law_fit import PowerLawFit
    from analysis.fits.quantity import Draws

T = TypeVar("T")
MARGIN = 1.05
"""A rival whose held-out error is within this factor predicts as well."""


@dataclass(frozen=True)
class Claim:
    """What might be claimed, whether the table supports it, the sentence, and why not."""

    name: str
    supported: bool
    statement: str
    reasons: tuple[str, ...]

    def __str__(self) -> str:
        verb = "supports" if self.supported else "does not support"
        return "\n".join([f"this table {verb} {self.statement}", *(f"  because {text}" for text in self.reasons)])


@dataclass(frozen=True, eq=False)
class Verdict:
    """What a table supports.

    Attributes:
        exponent, floor, extrapolation: the three claims.
        fit: the law behind them: a surface, or a power law with floor.
        sensitivity, validation, agreement, bias: the evidence; None where it could not be had, and `warnings` say
            why.
        warnings: what a reader must know beside the claims.
    """

    exponent: Claim
    floor: Claim
    extrapolation: Claim
    fit: SurfaceFit | PowerLawFit = field(repr=False)
    sensitivity: Sensitivity | None = field(repr=False)
    validation: Validation | None = field(repr=False)
    agreement: Agreement | None = field(repr=False)
    bias: DesignBias | None = field(repr=False)
    warnings: tuple[str, ...]

    def summary(self) -> str:
        """Three sentences with their reasons, then the cautions."""
        claims = (self.exponent, self.floor, self.extrapolation)
        return "\n".join([*map(str, claims), *(f"caution: {text}" for text in self.warnings)])

    def to_dict(self) -> dict[str, Any]:
        """The claims and all evidence, as JSON can hold it."""
        out: dict[str, Any] = {
            claim.name: {**vars(claim), "reasons": list(claim.reasons)}
            for claim in (self.exponent, self.floor, self.extrapolation)
        }
        for name in ("fit", "sensitivity", "validation", "agreement", "bias"):
            value = getattr(self, name)
            out[name] = value.to_dict() if value is not None else None
        return out | {"warnings": list(self.warnings)}

    def __str__(self) -> str:
        return self.summary()


def verdict(
    frame: pd.DataFrame | Mapping[str, Any],
    x: str | Sequence[str] = ("params", "examples"),
    y: str = "error",
    *,
    order: str | None = None,
    resamples: int = 400,
    level: float = 0.95,
    seed: int = 0,
) -> Verdict:
    """What the table supports: an exponent, a floor, an extrapolation.

    An exponent is supported when its fit gives no reason against it, the runs scatter about the surface by no more
    than their noise, the fitted range does not move it by a factor of 1.5 outside its interval, the approaches
    agree once the bias of the design is taken off, and a naive law does not predict the largest budgets as well. A
    floor is, when its interval excludes 0, the range does not move it that far and, with one input, a law without
    one predicts worse. An extrapolation is supported as far as held-out budgets were predicted with at least 80 %
    of the runs in the band.

    Args:
        frame: one row a run; of one input, what is to be fitted (a frontier, say).
        x: one input (a power law with floor), or params and examples (a surface).
        y: the column that was measured.
        order: the column whose ends are held out; default as for `validate`.
        resamples: bootstrap resamples, at least 20.
        level: nominal coverage of intervals.
        seed: of the resampling.

    Raises:
        ValueError: a column is missing or unfit.
        FitError: there is no law at all, e.g. y does not fall.
    """
    names = (x,) if isinstance(x, str) else tuple(x)
    table, order = ordered(frame, names, y, order)
    options: Draws = {"resamples": resamples, "level": level, "seed": seed}
    notes: list[str] = []
    moved = _try(lambda: sensitivity(table, names, y, order=order, **options), "the range", notes)
    held = _try(lambda: validate(table, names, y, order=order, **options), "held-out budgets", notes)
    if len(names) == 1:
        law = fit_power_law(table, names[0], y, **options)
        said = f"an exponent of {y} in {names[0]}, {law.quoted('exponent')}"
        exponent = _exponent(law.reasons, said, moved, "exponent")
        floor = _floor(law.floor, law.intervals["floor"], moved, held, y)
        claims = (exponent, floor, _extrapolation(held, law.x_range[1], order))
        return Verdict(*claims, law, moved, held, None, None, (*notes, *_others(law.warnings, law.reasons)))
    n, d = names
    fit = fit_surface(table, n, d, y, **options)
    both = _try(lambda: agree(table, n, d, y, budget=order, **options), "the approaches", notes)
    bias = _try(lambda: design_bias(table, n, d, y, budget=order, fit=fit), "the design", notes)
    said = f"an exponent of the best {n} in compute, {fit.quoted('params_exponent')}"
    off = _try(lambda: _misfit(table, fit, order), "the noise of a run", notes) or []
    against = (*fit.reasons, *off, *_disputed(both, bias), *_naive(held))
    exponent = _exponent(against, said, moved, "params_exponent")
    floor = _floor(fit["floor"], fit.intervals["floor"], moved, None, y)
    far = _extrapolation(held, float(table[order].max()), order)
    warnings = (*notes, *(bias.warnings if bias else ()), *_others(fit.warnings, fit.reasons))
    return Verdict(exponent, floor, far, fit, moved, held, both, bias, warnings)


def _try(make: Callable[[], T], what: str, notes: list[str]) -> T | None:
    try:
        return make()
    except (FitError, ValueError) as error:
        notes.append(f"{what} could not be looked at: {error}")
        return None


def _others(warnings: tuple[str, ...], reasons: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(text for text in warnings if text not in reasons)


def _exponent(against: tuple[str, ...], said: str, moved: Sensitivity | None, name: str) -> Claim:
    reasons = [*against, *([moved.said(name)] if moved and name in moved.far else [])]
    return Claim("exponent", not reasons, said, tuple(reasons))


def _misfit(table: pd.DataFrame, fit: SurfaceFit, order: str) -> list[str]:
    """Whether the runs leave the surface by more than the noise that curves through neighbours show."""
    found = draw_curves(table, by_budget(table, order), fit.x[0], fit.y, resamples=0, seed=0)
    ratio = found.misfit(fit.rms, fit.n, fit.solution.theta.size)
    return [f"the runs leave the surface by {ratio:.1f} x their noise: it is not the law of this table"][
        : ratio > 1
    ]


def _disputed(found: Agreement | None, bias: DesignBias | None) -> list[str]:
    """Approaches that contradict the surface even after the bias that the design gives them."""
    if found is None:
        return []
    rows = {row["approach"]: row for row in found.table.to_dict("records") if row["quantity"] == "n"}
    low, high = rows["surface"]["low"], rows["surface"]["high"]
    if not np.isfinite(high):
        return []
    out = []
    for approach, row in rows.items():
        off = bias.of(approach, "n") if bias and approach != "surface" else 0.0
        off = off if np.isfinite(off) else 0.0
        if np.isfinite(row["high"]) and (row["high"] - off < low or row["low"] - off > high):
            corrected = f"{row['value'] - off:.3g} after the bias of the design"
            out.append(f"{approach} says {corrected}, the surface [{low:.3g}, {high:.3g}]")
    return out


def _naive(held: Validation | None) -> list[str]:
    if held is None:
        return []
    scores = held.scores.set_index("law")["log_rmse"]
    if not {"chinchilla", "log-linear"} <= set(scores.index) or scores["log-linear"] > scores["chinchilla"]:
        return []
    numbers = f"{100 * scores['log-linear']:.2g} % against {100 * scores['chinchilla']:.2g} %"
    return [f"a log-linear law predicts the largest {held.order} better than the surface ({numbers} rms)"]


def _floor(
    value: float, ends: tuple[float, float], moved: Sensitivity | None, held: Validation | None, y: str
) -> Claim:
    reasons = []
    if not value > 0:
        reasons.append("the fit has none")
    elif not ends[0] > 0.01 * value:
        reasons.append(f"its interval reaches 0: [{ends[0]:.2g}, {ends[1]:.2g}]")
    if moved and "floor" in moved.far:
        reasons.append(moved.said("floor"))
    scores = dict(zip(held.scores["law"], held.scores["log_rmse"], strict=True)) if held else {}
    if {"power law", "power law with floor"} <= set(scores):
        bare, with_floor = scores["power law"], scores["power law with floor"]
        if bare <= MARGIN * with_floor:
            against = f"{100 * bare:.2g} % against {100 * with_floor:.2g} % rms"
            reasons.append(f"a law without one predicts as well ({against})")
    said = f"a floor of {y}, {value:.3g} [{ends[0]:.3g}, {ends[1]:.3g}]"
    return Claim("floor", not reasons, said, tuple(reasons))


def _extrapolation(held: Validation | None, largest: float, order: str) -> Claim:
    """As far beyond the data as the best law was right beyond a part of them."""
    if held is None:
        return Claim("extrapolation", False, "any extrapolation", ("too few levels to hold any out",))
    reach, off = held.reach()
    if reach <= 1.0 or not np.isfinite(off):
        said = f"an extrapolation beyond {largest:.3g} {order}"
        return Claim("extrapolation", False, said, (_why_no_reach(held),))
    said = f"an extrapolation to {reach:.2g} x the largest {order} ({largest:.3g}) by {held.best}"
    return Claim("extrapolation", True, f"{said}: held-out runs were within {100 * off:.2g} % rms", ())


def _why_no_reach(held: Validation) -> str:
    first = held.table[held.table["law"] == held.best].sort_values("reach").iloc[0]
    if first["covered"] < COVERED:
        share = f"{100 * first['covered']:.0f} % of the runs"
        return f"{first['reach']:.2g} x beyond its fit {held.best} had {share} in its band"
    off, apart = (f"{100 * np.expm1(first[name]):.2g} %" for name in ("log_rmse", "apart"))
    return (
        f"{first['reach']:.2g} x beyond the data the laws not ruled out reach {apart} from {held.best}, "
        f"which was off by {off} rms where it was tested"
    )
