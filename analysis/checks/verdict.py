"""What a table supports: claims of an exponent, of a floor and of an extrapolation."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from analysis.approaches.surface import fit_surface
from analysis.checks.agreement import Fitted, agree
from analysis.checks.design_bias import design_bias
from analysis.checks.parts import attempt, ordered
from analysis.checks.sensitivity import sensitivity
from analysis.checks.validate import COVERED, validate
from analysis.fits.law import fit_power_law
from analysis.fits.summary import Summary
from analysis.table import groups
from analysis.table.rows import Refusal

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
        """The claims that hold, those that do not with the reasons against them, then the cautions."""
        claims = sorted((self.exponent, self.floor, self.extrapolation), key=lambda claim: not claim.supported)
        return "\n".join([*map(str, claims), *(f"caution: {text}" for text in self.warnings)])


def verdict(  # noqa: PLR0913 - the columns, the resampling and what is known
    frame: pd.DataFrame | Mapping[str, Any],
    x: str | Sequence[str] = ("params", "examples"),
    y: str = "error",
    *,
    order: str | None = None,
    resamples: int = 400,
    level: float = 0.95,
    seed: int = 0,
    pool: bool = False,
    fitted: Fitted | None = None,
) -> Verdict:
    """Check which claims a table supports: an exponent, a floor, an extrapolation.

    No claim rests on a law that does not describe the table (`LawFit.rejected`). An exponent is supported if its
    fit has no reason against it, the fitted range does not move it by a factor of 1.5 outside its interval, the
    approaches agree after the bias of the design is subtracted, and a log-linear law predicts the largest budgets
    worse. A floor is supported if the fit shows one (`LawFit.floor_reasons`), the range does not move it that far
    and, with one input, a law without a floor predicts worse. An extrapolation is supported as far as the law that
    predicted held-out budgets best had at least 80 % of the runs in its band.

    Args:
        frame: one row per run; with one input, the rows to fit (a frontier, say).
        x: one input (a power law with floor), or params and examples (a surface).
        y: name of the measured column.
        order: the column whose ends are held out; default as for `validate`.
        resamples: bootstrap resamples, at least 20.
        level: nominal coverage of intervals.
        seed: of the resampling.
        pool: as for `Options`.
        fitted: fits of these runs that exist already: the law behind the claims, and those of the approaches.

    Raises:
        ValueError: a column is missing or unfit.
        FitError: there is no law, e.g. y does not fall.
    """
    names = (x,) if isinstance(x, str) else tuple(x)
    table, order, rows = ordered(frame, names, y, order)
    options: Draws = {"resamples": resamples, "level": level, "seed": seed}
    notes, fitted = list(rows), fitted or Fitted()
    if pool:  # the law behind the claims says what is pooled; its checks need not
        table = table.drop(columns=list(groups.axes(table, names, (y,))))
    both = bias = None
    if len(names) == 1:
        fit: LawFit = fitted.law or fit_power_law(frame, names[0], y, pool=pool, **options)
    else:
        n, d = names
        fit = surface = fitted.surface or fit_surface(frame, n, d, y, pool=pool, **options)
        known = replace(fitted, surface=surface)
        both = _check("the approaches", lambda: agree(table, n, d, y, budget=order, fitted=known, **options), notes)
        bias = _check(
            "the bias of the design", lambda: design_bias(table, n, d, y, budget=order, fit=surface), notes
        )
    moved = _check(
        "the fitted range", lambda: sensitivity(table, names, y, order=order, whole=fit, **options), notes
    )
    held_out = _check("held-out budgets", lambda: validate(table, names, y, order=order, **options), notes)
    if fit.noise is None:
        notes.append("no repeats: the noise of a run is unknown, and the law was tested by its own residuals only")
    claims = (
        _exponent(fit, moved, (*_disputed(both, bias), *_log_linear(held_out))),
        _floor(fit, moved, held_out),
        _extrapolation(
            held_out, float(table[order].max()), order, [text for text in rows if isinstance(text, Refusal)]
        ),
    )
    cautions = [text for text in fit.warnings if text not in fit.reasons]
    warnings = tuple(dict.fromkeys((*notes, *(bias.warnings if bias else ()), *cautions)))
    return Verdict(*claims, fit, moved, held_out, both, bias, warnings)


def _check(what: str, run: Callable[[], T], notes: list[str]) -> T | None:
    """What `run()` returns; None, and a note, if the table does not allow the check."""
    result, why_not = attempt(run)
    if why_not:
        notes.append(f"{what} not checked: {why_not}")
    return result


def _exponent(fit: LawFit, moved: Sensitivity | None, disputed: tuple[str, ...]) -> Claim:
    one = len(fit.x) == 1
    name = "exponent" if one else "params_exponent"
    best = f"an exponent of the best {fit.x[0]} in compute ~ {' x '.join((fit.x[0], fit.x[-1]))}"
    what = f"an exponent of {fit.y} in {fit.x[0]}" if one else best
    reasons = (*fit.reasons, *_moved(moved, name), *disputed)
    return Claim("exponent", not reasons, f"{what}, {fit.quoted(name)}, by the law {fit.name}", reasons)


def _moved(moved: Sensitivity | None, name: str) -> tuple[str, ...]:
    return (moved.sentence(name),) if moved and name in moved.far else ()


def _disputed(both: Agreement | None, bias: DesignBias | None) -> tuple[str, ...]:
    """The approaches that contradict the surface after the bias of the design is subtracted."""
    if both is None:
        return ()
    rows = {row["approach"]: row for row in both.table.to_dict("records") if row["quantity"] == "n"}
    low, high = rows["surface"]["low"], rows["surface"]["high"]
    if not np.isfinite(high):
        return ()
    out = []
    for approach, row in rows.items():
        off = bias.of(approach, "n") if bias and approach != "surface" else 0.0
        off = off if np.isfinite(off) else 0.0
        if np.isfinite(row["high"]) and (row["high"] - off < low or row["low"] - off > high):
            corrected = f"{row['value'] - off:.3g} without the bias of the design"
            out.append(f"{approach} gives {corrected}, the surface [{low:.3g}, {high:.3g}]")
    return tuple(out)


def _log_linear(held_out: Validation | None) -> tuple[str, ...]:
    """A reason if a log-linear law predicts held-out budgets at least as well as the surface."""
    if held_out is None:
        return ()
    scores = held_out.scores.set_index("law")["log_rmse"]
    if not {"chinchilla", "log-linear"} <= set(scores.index) or scores["log-linear"] > scores["chinchilla"]:
        return ()
    numbers = f"{100 * scores['log-linear']:.2g} % against {100 * scores['chinchilla']:.2g} %"
    return (f"a log-linear law predicts the largest {held_out.order} better than the surface ({numbers} rms)",)


def _floor(fit: LawFit, moved: Sensitivity | None, held_out: Validation | None) -> Claim:
    if "floor" not in fit.estimates:
        return Claim("floor", False, f"a floor of {fit.y}", (f"the law {fit.name} was fitted, which has none",))
    reasons = (*fit.floor_reasons, *_moved(moved, "floor"), *_bare(held_out))
    statement = f"a floor of {fit.y}, {fit.quoted('floor')}, by the law {fit.name}"
    return Claim("floor", not reasons, statement, reasons)


def _bare(held_out: Validation | None) -> tuple[str, ...]:
    """A reason if a law without a floor predicts held-out levels as well."""
    scores = held_out.scores.set_index("law")["log_rmse"].to_dict() if held_out else {}
    if not {"power law", "power law with floor"} <= set(scores):
        return ()
    bare, with_floor = scores["power law"], scores["power law with floor"]
    if bare > MARGIN * with_floor:
        return ()
    return (f"a law without a floor predicts as well ({100 * bare:.2g} % against {100 * with_floor:.2g} % rms)",)


def _extrapolation(held_out: Validation | None, largest: float, order: str, refused: Sequence[str]) -> Claim:
    """A claim of the reach up to which the best law predicted held-out runs."""
    if held_out is None:
        return Claim("extrapolation", False, "any extrapolation", ("too few levels to hold any out",))
    best, (reach, off) = held_out.best, held_out.reach()
    reasons = (*refused, *held_out.rejected[best])
    if reach <= 1.0 or not np.isfinite(off):
        reasons = (*reasons, _why_no_reach(held_out))
    if reasons:
        statement = f"an extrapolation beyond {largest:.3g} {order} by the law {best}"
        return Claim("extrapolation", False, statement, reasons)
    statement = f"an extrapolation to {reach:.2g} x the largest {order} ({largest:.3g}) by the law {best}"
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
