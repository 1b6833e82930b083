"""Claims from evidence: of an exponent, of a floor, of an extrapolation. Nothing is fitted here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from analysis.checks.validate import COVERED
from analysis.fits.thresholds import LEAST_HELD, MOST_SCATTER
from analysis.numbers import short
from analysis.table.columns import COMPUTE

if TYPE_CHECKING:
    from analysis.checks.agreement import Agreement
    from analysis.checks.design_bias import DesignBias
    from analysis.checks.sensitivity import Sensitivity
    from analysis.checks.validate import Validation
    from analysis.fits.result import LawFit

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


def claim_exponent(
    fit: LawFit,
    moved: Sensitivity | None,
    both: Agreement | None,
    bias: DesignBias | None,
    held_out: Validation | None,
) -> Claim:
    """The claim of the exponent of a law, or on a surface of the best size in compute."""
    one = len(fit.x) == 1
    name = "exponent" if one else "params_exponent"
    best = f"an exponent of the best {fit.x[0]} in compute ~ {' x '.join((fit.x[0], fit.x[-1]))}"
    what = f"an exponent of {fit.y} in {fit.x[0]}" if one else best
    bent = () if one else _no_power(fit)
    reasons = (*fit.reasons, *bent, *_moved(moved, name), *_disputed(both, bias), *_log_linear(fit, held_out))
    return Claim("exponent", not reasons, f"{what}, {fit.quoted(name)}, {_by(fit)}", reasons)


def named(law: str) -> str:
    """A law in a sentence: `the law coupled`, `the power law with floor`."""
    return f"the {law}" if "law" in law.split() else f"the law {law}"


def _by(fit: LawFit) -> str:
    """The laws that an interval rests on."""
    if len(fit.alternatives) == 1:
        return f"by {named(fit.name)}"
    return f"the union over the laws {', '.join(fit.alternatives)}, which describe the table equally well"


def _no_power(fit: LawFit) -> tuple[str, ...]:
    """A reason if the best size of the surface is no power of compute."""
    return (f"the best {fit.x[0]} by the law {fit.name} is no power law of compute",) * ("gamma" in fit.estimates)


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
            corrected = f"{short(row['value'] - off)} without the bias of the design"
            out.append(f"{approach} gives {corrected}, the surface [{short(low)}, {short(high)}]")
    return tuple(out)


def _log_linear(fit: LawFit, held_out: Validation | None) -> tuple[str, ...]:
    """A reason if a log-linear law predicts held-out budgets at least as well as the surface."""
    if held_out is None:
        return ()
    scores = held_out.scores.set_index("law")["log_rmse"]
    if not {fit.name, "log-linear"} <= set(scores.index) or scores["log-linear"] > scores[fit.name]:
        return ()
    numbers = f"{short(100 * scores['log-linear'], 2)} % against {short(100 * scores[fit.name], 2)} %"
    return (f"a log-linear law predicts the largest {held_out.order} better than the surface ({numbers} rms)",)


def claim_floor(fit: LawFit, moved: Sensitivity | None, held_out: Validation | None) -> Claim:
    """The claim of the floor of a law."""
    if "floor" not in fit.estimates:
        return Claim("floor", False, f"a floor of {fit.y}", (f"the law {fit.name} was fitted, which has none",))
    reasons = (*fit.floor_reasons, *_moved(moved, "floor"), *_bare(held_out))
    statement = f"a floor of {fit.y}, {fit.quoted('floor')}, {_by(fit)}"
    return Claim("floor", not reasons, statement, reasons)


def _bare(held_out: Validation | None) -> tuple[str, ...]:
    """A reason if a law without a floor predicts held-out levels as well."""
    scores = held_out.scores.set_index("law")["log_rmse"].to_dict() if held_out else {}
    if not {"power law", "power law with floor"} <= set(scores):
        return ()
    bare, with_floor = scores["power law"], scores["power law with floor"]
    if bare > MARGIN * with_floor:
        return ()
    both = f"{short(100 * bare, 2)} % against {short(100 * with_floor, 2)} % rms"
    return (f"a law without a floor predicts as well ({both})",)


def claim_extrapolation(
    held_out: Validation | None, largest: float, order: str, refused: tuple[str, ...] = ()
) -> Claim:
    """The claim of an extrapolation beyond the `largest` value of `order` by the law that predicted best.

    `refused` are reasons of the table against any.
    """
    if held_out is None:
        return Claim("extrapolation", False, "any extrapolation", ("too few levels to hold any out",))
    best, (reach, off) = held_out.best, held_out.reach()
    unit = "FLOPs" if order in COMPUTE else order
    reasons = (*refused, *held_out.rejected[best], *_few_held(held_out))
    if reach <= 1.0 or not np.isfinite(off):
        reasons = (*reasons, _why_no_reach(held_out))
    elif off > MOST_SCATTER:
        most = f"a claim needs at most {100 * MOST_SCATTER:g} %"
        reasons = (*reasons, f"held-out runs were off by {100 * off:.0f} % rms; {most}")
    if reasons:
        statement = f"an extrapolation beyond {short(largest)} {unit} by {named(best)}"
        return Claim("extrapolation", False, statement, reasons)
    statement = f"an extrapolation to {short(reach, 2)} x the largest {order} ({short(largest)}) by {named(best)}"
    return Claim("extrapolation", True, f"{statement}: held-out runs were within {short(100 * off, 2)} % rms", ())


def _few_held(held_out: Validation) -> tuple[str, ...]:
    """A reason if too few runs were held out for their error to tell that of the law."""
    if held_out.held >= LEAST_HELD:
        return ()
    runs = "run was" if held_out.held == 1 else "runs were"
    return (
        f"only {held_out.held} {runs} held out; a claim needs {LEAST_HELD}: add runs, or repeats of the largest",
    )


def _why_no_reach(held_out: Validation) -> str:
    best = held_out.best
    first = held_out.table[held_out.table["law"] == best].sort_values("reach").iloc[0]
    if first["covered"] < COVERED:
        share = f"{100 * first['covered']:.0f} % of the runs"
        return f"{short(first['reach'], 2)} x beyond the range of its fit, {share} lay in the band of {named(best)}"
    off, apart = (f"{short(100 * np.expm1(first[name]), 2)} %" for name in ("log_rmse", "apart"))
    return (
        f"{short(first['reach'], 2)} x beyond the data, the laws that are not ruled out reach {apart} from {best}, "
        f"which was off by {off} rms on held-out runs"
    )
