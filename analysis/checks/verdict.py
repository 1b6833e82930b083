"""What a table supports: claims of an exponent, of a floor and of an extrapolation."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar

from analysis.approaches.surface import fit_surface
from analysis.checks.agreement import Fitted, agree
from analysis.checks.claims import Claim, claim_exponent, claim_extrapolation, claim_floor
from analysis.checks.design_bias import design_bias
from analysis.checks.parts import attempt, ordered
from analysis.checks.predictors import rivals
from analysis.checks.sensitivity import sensitivity
from analysis.checks.validate import validate
from analysis.fits.law import fit_power_law
from analysis.fits.summary import Summary
from analysis.table import groups
from analysis.table.rows import refusals

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
        """The claims that hold, those that do not with their reasons, each told once, then the cautions."""
        told: set[str] = set()
        lines = []
        for claim in sorted((self.exponent, self.floor, self.extrapolation), key=lambda claim: not claim.supported):
            new = tuple(text for text in claim.reasons if text not in told)
            lines.append(str(replace(claim, reasons=new)))
            lines += ["  because of the reasons above"] * (len(new) < len(claim.reasons))
            told.update(new)
        return "\n".join([*lines, *(f"caution: {text}" for text in self.warnings)])


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

    No claim rests on a law that does not describe the table (`LawFit.rejected`). Where the points rule out the
    surface, the claims rest on the form that describes them best; where several forms describe them equally well,
    intervals are their union. An exponent is supported if its
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
    both = bias = laws = whole = None
    if len(names) == 1:
        fit: LawFit = fitted.law or fit_power_law(frame, names[0], y, pool=pool, **options)
    else:
        surface = fitted.surface or fit_surface(frame, names[0], names[1], y, pool=pool, **options)
        fit = surface = _described(surface, notes)
        both, bias = _approaches(table, order, surface, fitted, options, notes)
        laws, whole = rivals(surface), surface.alternatives
    moved = _check("the range", lambda: sensitivity(table, names, y, order=order, whole=fit, **options), notes)
    held_out = _check(
        "held-out budgets", lambda: validate(table, names, y, order=order, laws=laws, whole=whole, **options), notes
    )
    if fit.noise is None:
        notes.append("no repeats: the noise of a run is unknown, and the law was tested by its own residuals only")
    claims = (
        claim_exponent(fit, moved, both, bias, held_out),
        claim_floor(fit, moved, held_out),
        claim_extrapolation(held_out, float(table[order].max()), order, refusals(rows)),
    )
    cautions = [text for text in fit.warnings if text not in fit.reasons]
    warnings = tuple(dict.fromkeys((*notes, *(bias.warnings if bias else ()), *cautions)))
    return Verdict(*claims, fit, moved, held_out, both, bias, warnings)


def _described(surface: SurfaceFit, notes: list[str]) -> SurfaceFit:
    """The surface; or, with a note, the form that describes the table best where that is ruled out."""
    form = next(iter(surface.alternatives.values()))
    if form is not surface:
        notes.append(f"the points rule out the law {surface.name}: the claims rest on the law {form.name}")
    return form


def _approaches(
    table: pd.DataFrame, order: str, surface: SurfaceFit, fitted: Fitted, options: Draws, notes: list[str]
) -> tuple[Agreement | None, DesignBias | None]:
    """The three approaches compared, and the bias of the design of the first two."""
    (n, d), y, known = surface.x, surface.y, replace(fitted, surface=surface)
    both = _check("the approaches", lambda: agree(table, n, d, y, budget=order, fitted=known, **options), notes)
    bias = _check("the bias of the design", lambda: design_bias(table, n, d, y, budget=order, fit=surface), notes)
    return both, bias


def _check(what: str, run: Callable[[], T], notes: list[str]) -> T | None:
    """What `run()` returns; None, and a note, if the table does not allow the check."""
    result, why_not = attempt(run)
    if why_not:
        notes.append(f"{what} not checked: {why_not}")
    return result
