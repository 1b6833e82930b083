"""What a table supports: claims of an exponent, of a floor and of an extrapolation."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from analysis.approaches.curves import by_budget, draw_curves
from analysis.approaches.surface import fit_surface
from analysis.checks.agreement import agree
from analysis.checks.design_bias import design_bias
from analysis.checks.parts import attempt, ordered
from analysis.checks.sensitivity import sensitivity
from analysis.checks.validate import COVERED, validate
from analysis.fits.law import fit_power_law
from analysis.fits.summary import Summary

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import pandas as pd

    from analysis.approaches.surface import SurfaceFit
    from analysis.checks.agreement import Agreement
    from analysis.checks.design_bias import DesignBias
    from analysis.checks.sensitivity import Sensitivity
    from analysis.checks.validate import Validation
    from analysis.fits.quantity import Draws
    from analysis.fits.result import LawFit

T = TypeVar("T")
MARGIN = 1.05
"""A law whose held-out error is within this factor of another predicts as well."""


@dataclass(frozen=True)
class Claim:
    """A claim: its name, whether the table supports it, the statement, and the reasons against it."""

    name: str
    supported: bool
    statement: str
    reasons: tuple[str, ...]

    def __str__(self) -> str:
        verb = "supports" if self.supported else "does not support"
        return "\n".join([f"this table {verb} {self.statement}", *(f"  because {text}" for text in self.reasons)])


@dataclass(frozen=True, eq=False)
class Verdict(Summary):
    """What a table supports.

    Attributes:
        exponent, floor, extrapolation: the three claims.
        fit: the law behind them: a surface, or a power law with floor.
        sensitivity, validation, agreement, bias: the evidence; None if a check was not possible, and `warnings` say
            why.
        warnings: cautions, one sentence each.
    """

    exponent: Claim
    floor: Claim
    extrapolation: Claim
    fit: SurfaceFit | LawFit = field(repr=False)
    sensitivity: Sensitivity | None = field(repr=False)
    validation: Validation | None = field(repr=False)
    agreement: Agreement | None = field(repr=False)
    bias: DesignBias | None = field(repr=False)
    warnings: tuple[str, ...]

    def summary(self) -> str:
        """The claims with the reasons against them, then the cautions."""
        claims = (self.exponent, self.floor, self.extrapolation)
        return "\n".join([*map(str, claims), *(f"caution: {text}" for text in self.warnings)])


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
    """Check which claims a table supports: an exponent, a floor, an extrapolation.

    An exponent is supported if its fit has no reason against it, the runs scatter about the surface by no more than
    their noise, the fitted range does not move it by a factor of 1.5 outside its interval, the approaches agree
    after the bias of the design is subtracted, and a log-linear law predicts the largest budgets worse. The
    second condition is skipped if the noise of a run cannot be estimated. A floor is supported if its interval
    excludes 0, the range does not move it that far and, with one input, a law without a floor predicts worse. An
    extrapolation is supported as far as held-out budgets were predicted with at least 80 % of the runs in the band.

    Args:
        frame: one row per run; with one input, the rows to fit (a frontier, say).
        x: one input (a power law with floor), or params and examples (a surface).
        y: name of the measured column.
        order: the column whose ends are held out; default as for `validate`.
        resamples: bootstrap resamples, at least 20.
        level: nominal coverage of intervals.
        seed: of the resampling.

    Raises:
        ValueError: a column is missing or unfit.
        FitError: there is no law, e.g. y does not fall.
    """
    names = (x,) if isinstance(x, str) else tuple(x)
    table, order = ordered(frame, names, y, order)
    options: Draws = {"resamples": resamples, "level": level, "seed": seed}
    notes: list[str] = []
    moved = _check("the fitted range", lambda: sensitivity(table, names, y, order=order, **options), notes)
    held_out = _check("held-out budgets", lambda: validate(table, names, y, order=order, **options), notes)
    if len(names) == 1:
        law = fit_power_law(table, names[0], y, **options)
        statement = f"an exponent of {y} in {names[0]}, {law.quoted('exponent')}"
        exponent = _exponent(law.reasons, statement, moved, "exponent")
        floor = _floor(law.floor, law.intervals["floor"], moved, held_out, y)
        claims = (exponent, floor, _extrapolation(held_out, law.x_range[1], order))
        return Verdict(*claims, law, moved, held_out, None, None, (*notes, *_cautions(law)))
    n, d = names
    fit = fit_surface(table, n, d, y, **options)
    both = _check("the approaches", lambda: agree(table, n, d, y, budget=order, **options), notes)
    bias = _check("the bias of the design", lambda: design_bias(table, n, d, y, budget=order, fit=fit), notes)
    misfit = _check("the noise of a run", lambda: _misfit(table, fit, order), notes) or []
    statement = f"an exponent of the best {n} in compute, {fit.quoted('params_exponent')}"
    against = (*fit.reasons, *misfit, *_disputed(both, bias), *_log_linear(held_out))
    exponent = _exponent(against, statement, moved, "params_exponent")
    floor = _floor(fit["floor"], fit.intervals["floor"], moved, None, y)
    far = _extrapolation(held_out, float(table[order].max()), order)
    warnings = (*notes, *(bias.warnings if bias else ()), *_cautions(fit))
    return Verdict(exponent, floor, far, fit, moved, held_out, both, bias, warnings)


def _check(what: str, run: Callable[[], T], notes: list[str]) -> T | None:
    """What `run()` returns; None, and a note, if the table does not allow the check."""
    result, why_not = attempt(run)
    if why_not:
        notes.append(f"{what} not checked: {why_not}")
    return result


def _cautions(fit: SurfaceFit | LawFit) -> tuple[str, ...]:
    return tuple(text for text in fit.warnings if text not in fit.reasons)


def _exponent(against: tuple[str, ...], statement: str, moved: Sensitivity | None, name: str) -> Claim:
    reasons = [*against, *([moved.sentence(name)] if moved and name in moved.far else [])]
    return Claim("exponent", not reasons, statement, tuple(reasons))


def _misfit(table: pd.DataFrame, fit: SurfaceFit, order: str) -> list[str]:
    """A reason if the runs scatter about the surface by more than their noise."""
    curves = draw_curves(table, by_budget(table, order), fit.x[0], fit.y, resamples=0, seed=0)
    ratio = curves.misfit(fit.rms, fit.n, fit.solution.theta.size)
    if ratio <= 1:
        return []
    return [f"the runs scatter about the surface by {ratio:.1f} x their noise: it is not the law of this table"]


def _disputed(both: Agreement | None, bias: DesignBias | None) -> list[str]:
    """The approaches that contradict the surface after the bias of the design is subtracted."""
    if both is None:
        return []
    rows = {row["approach"]: row for row in both.table.to_dict("records") if row["quantity"] == "n"}
    low, high = rows["surface"]["low"], rows["surface"]["high"]
    if not np.isfinite(high):
        return []
    out = []
    for approach, row in rows.items():
        off = bias.of(approach, "n") if bias and approach != "surface" else 0.0
        off = off if np.isfinite(off) else 0.0
        if np.isfinite(row["high"]) and (row["high"] - off < low or row["low"] - off > high):
            corrected = f"{row['value'] - off:.3g} without the bias of the design"
            out.append(f"{approach} gives {corrected}, the surface [{low:.3g}, {high:.3g}]")
    return out


def _log_linear(held_out: Validation | None) -> list[str]:
    """A reason if a log-linear law predicts held-out budgets at least as well as the surface."""
    if held_out is None:
        return []
    scores = held_out.scores.set_index("law")["log_rmse"]
    if not {"chinchilla", "log-linear"} <= set(scores.index) or scores["log-linear"] > scores["chinchilla"]:
        return []
    numbers = f"{100 * scores['log-linear']:.2g} % against {100 * scores['chinchilla']:.2g} %"
    return [f"a log-linear law predicts the largest {held_out.order} better than the surface ({numbers} rms)"]


def _floor(
    value: float, ends: tuple[float, float], moved: Sensitivity | None, held_out: Validation | None, y: str
) -> Claim:
    reasons = []
    if not value > 0:
        reasons.append("the fit has no floor")
    elif not ends[0] > 0.01 * value:
        reasons.append(f"its interval reaches 0: [{ends[0]:.2g}, {ends[1]:.2g}]")
    if moved and "floor" in moved.far:
        reasons.append(moved.sentence("floor"))
    scores = held_out.scores.set_index("law")["log_rmse"].to_dict() if held_out else {}
    if {"power law", "power law with floor"} <= set(scores):
        bare, with_floor = scores["power law"], scores["power law with floor"]
        if bare <= MARGIN * with_floor:
            against = f"{100 * bare:.2g} % against {100 * with_floor:.2g} % rms"
            reasons.append(f"a law without a floor predicts as well ({against})")
    statement = f"a floor of {y}, {value:.3g} [{ends[0]:.3g}, {ends[1]:.3g}]"
    return Claim("floor", not reasons, statement, tuple(reasons))


def _extrapolation(held_out: Validation | None, largest: float, order: str) -> Claim:
    """A claim of the reach up to which the best law predicted held-out runs."""
    if held_out is None:
        return Claim("extrapolation", False, "any extrapolation", ("too few levels to hold any out",))
    reach, off = held_out.reach()
    if reach <= 1.0 or not np.isfinite(off):
        statement = f"an extrapolation beyond {largest:.3g} {order}"
        return Claim("extrapolation", False, statement, (_why_no_reach(held_out),))
    statement = f"an extrapolation to {reach:.2g} x the largest {order} ({largest:.3g}) by {held_out.best}"
    return Claim("extrapolation", True, f"{statement}: held-out runs were within {100 * off:.2g} % rms", ())


def _why_no_reach(held_out: Validation) -> str:
    best = held_out.best
    first = held_out.table[held_out.table["law"] == best].sort_values("reach").iloc[0]
    if first["covered"] < COVERED:
        share = f"{100 * first['covered']:.0f} % of the runs"
        return f"{first['reach']:.2g} x beyond its fit, {best} had {share} in its band"
    off, apart = (f"{100 * np.expm1(first[name]):.2g} %" for name in ("log_rmse", "apart"))
    return (
        f"{first['reach']:.2g} x beyond the data, the laws that are not ruled out reach {apart} from {best}, "
        f"which was off by {off} rms on held-out runs"
    )
