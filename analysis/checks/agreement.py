"""The three approaches of Hoffmann et al. 2022 on one table, compared.

Where y = floor + A N^-alpha + B D^-beta and C = k N D, the optimum at C is N* ~ C^n with n = beta / (alpha + beta),
D* ~ C^d with d = alpha / (alpha + beta), and y* - floor falls as C^-(alpha beta / (alpha + beta)).
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.approaches.curves import by_budget
from analysis.approaches.frontier import fit_frontier, frontier
from analysis.approaches.isoflop import fit_isoflop, prepare
from analysis.approaches.optimum import BENT, exponents, fit_price, growth
from analysis.approaches.surface import fit_surface
from analysis.checks.parts import UNKNOWN, attempt
from analysis.fits.forms import union
from analysis.fits.law import fit_power_law
from analysis.fits.quantity import Draws, Quantity, quantity
from analysis.fits.summary import Summary
from analysis.solver import bootstrap, quantiles
from analysis.solver.fitting import FitError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from analysis.approaches.isoflop_fit import IsoflopFit, Method
    from analysis.approaches.surface import SurfaceFit
    from analysis.fits.forms import Forms
    from analysis.fits.result import LawFit

Array = NDArray[np.float64]

QUANTITIES = {
    "n": "exponent of the best params in compute",
    "d": "exponent of the best examples in compute",
    "y": "exponent of the lowest reducible error in compute",
}


@dataclass(frozen=True, eq=False)
class Fitted:
    """Fits of a table that exist already, so that each quantity has one value; None where there is none.

    Attributes:
        law: of y against the one input, or of the frontier against compute.
        isoflop: the minima by Akima splines.
        surface: y against sizes and examples.
    """

    law: LawFit | None = None
    isoflop: IsoflopFit | None = None
    surface: SurfaceFit | None = None


@dataclass(frozen=True, eq=False)
class Agreement(Summary):
    """The exponents n, d, y of QUANTITIES by each approach.

    Attributes:
        table: one row per approach and quantity: `approach`, `quantity`, `value`, `low`, `high`, and `why_not` if
            the approach has no answer (value NaN).
        conflicts: pairs of approaches whose intervals do not overlap, one sentence each.
        level: of the intervals.
        warnings: the conflicts and other cautions.
    """

    table: pd.DataFrame
    conflicts: tuple[str, ...]
    level: float
    warnings: tuple[str, ...]

    @property
    def agrees(self) -> bool:
        """Whether all intervals overlap."""
        return not self.conflicts

    def summary(self) -> str:
        """One line per quantity, with the value of each approach."""
        lines = ["the approaches agree" if self.agrees else "the approaches do not agree"]
        for name, text in QUANTITIES.items():
            rows = self.table[(self.table["quantity"] == name) & self.table["value"].notna()]
            values = [f"{row['approach']} {_interval(row)}" for row in rows.to_dict("records")]
            lines.append(f"  {text}: {'; '.join(values) or 'no answer'}")
        silent = self.table.groupby("approach", sort=False).filter(lambda rows: rows["value"].isna().all())
        silent = silent.drop_duplicates("approach")
        lines += [f"  {row.approach} has no answer: {row.why_not}" for row in silent.itertuples()]
        return "\n".join([*lines, *self.cautions()])

    def to_dict(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return {**super().to_dict(), "agrees": self.agrees}


def agree(  # noqa: PLR0913 - the columns and the resampling
    frame: pd.DataFrame | Mapping[str, Any],
    n: str = "params",
    d: str = "examples",
    y: str = "error",
    *,
    budget: str | None = None,
    resamples: int = 400,
    level: float = 0.95,
    seed: int = 0,
    fitted: Fitted | None = None,
) -> Agreement:
    """Run approach 1 (frontier), 2 (isoFLOP minima, by Akima splines and by parabolas) and 3 (surface).

    Intervals that do not overlap are a conflict: the surface is not the law of this table, or the design biases an
    approach (see `design_bias`). Agreement proves little, since the approaches share their data. The interval of
    the surface is the union over its forms that are not ruled out.

    Args:
        frame: one row per run.
        n: name of the column of sizes.
        d: name of the column of examples; if absent, C / (6 n).
        y: name of the measured column.
        budget: name of the column of compute; default `budget` if present, else `flops`.
        resamples: bootstrap resamples of every approach.
        level: nominal coverage of the intervals.
        seed: of the resampling.
        fitted: fits of these runs that exist already; they are not fitted again.

    Raises:
        ValueError: a column is missing or unfit.
    """
    table, budget, notes = prepare(frame, n, y, d, budget)
    names, options = (n, d, y, budget), Draws(resamples=resamples, level=level, seed=seed)
    fitted = fitted or Fitted()
    surface, why_not = fitted.surface, ""
    if surface is None:
        surface, why_not = attempt(lambda: fit_surface(table, n, d, y, **options))
    rows = by_approach(table, names, replace(fitted, surface=surface), **options)
    rows += _answers("surface", lambda: _surface(table, names, surface), why_not)
    conflicts = tuple(_conflicts(rows))
    price = fit_price(table, n, d, budget)
    if abs(price.power - 1) > 0.02:
        cost = f"{budget} per example grows as {n}^{price.power:.2f}, not as {n}"
        notes = (*notes, f"{cost}; the exponents of the surface take this into account")
    return Agreement(pd.DataFrame(rows), conflicts, level, (*conflicts, *notes))


def by_approach(
    table: pd.DataFrame,
    names: tuple[str, str, str, str],
    fitted: Fitted,
    *,
    resamples: int,
    level: float,
    seed: int,
) -> list[dict[str, Any]]:
    """Rows of `Agreement.table` of approaches 1 and 2, for a table checked by `prepare`.

    `names` are the columns n, d, y, budget. Of `fitted.surface` only the comparison of forms is used.
    """
    options = Draws(resamples=resamples, level=level, seed=seed)
    forms = fitted.surface.forms if fitted.surface else None
    return [
        *_answers("frontier", lambda: _frontier(table, names, fitted.law, forms, **options)),
        *_answers("isoflop akima", lambda: _isoflop(table, names, "akima", fitted.isoflop, **options)),
        *_answers("isoflop parabola", lambda: _isoflop(table, names, "parabola", None, **options)),
    ]


def _answers(approach: str, run: Callable[[], dict[str, Quantity]], why_not: str = "") -> list[dict[str, Any]]:
    """The rows of one approach; `why_not` tells why it cannot answer, where that is known before."""
    values, refusal = attempt(run)
    rows = []
    for name in QUANTITIES:
        at = (values or {}).get(name, UNKNOWN)
        row = {"approach": approach, "quantity": name, "value": at.value, "low": at.low, "high": at.high}
        rows.append(row | {"why_not": why_not or refusal or ("" if np.isfinite(at.value) else "not determined")})
    return rows


def _frontier(
    table: pd.DataFrame,
    names: tuple[str, str, str, str],
    fit: LawFit | None,
    forms: Forms | None,
    **options: Unpack[Draws],
) -> dict[str, Quantity]:
    """Approach 1: slopes of log n and log d along the frontier.

    Resamples draw its points with replacement and move each by up to half a step of the grid of sizes, since a
    frontier cell is the best of those that were run.
    """
    n, d, y, budget = names
    points = frontier(table, x=budget, y=y)
    fit = fit or fit_frontier(table, x=budget, y=y, forms=forms, **options)
    log_c, count = np.log(points[budget].to_numpy(dtype=float)), len(points)
    rng = np.random.default_rng(options["seed"])
    weights = bootstrap.resample(np.arange(count), log_c, options["resamples"], rng, 2)
    every, wider = np.concatenate([np.ones((1, count)), weights]), quantiles.widening(count, 2, options["level"])
    off = _grid_step(table, n, budget) * rng.uniform(-0.5, 0.5, every.shape)
    off[0] = 0.0
    out = {}
    for name, column, sign in (("n", n, 1.0), ("d", d, -1.0)):
        slopes = _slopes(log_c, np.log(points[column].to_numpy(dtype=float)) + sign * off, every)
        out[name] = quantity(float(slopes[0]), slopes[1:], options["level"], wider=wider)
    return out | {"y": _exponent(fit.exponent, fit.intervals["exponent"], fit.replicates["exponent"])}


def _isoflop(
    table: pd.DataFrame,
    names: tuple[str, str, str, str],
    method: Method,
    fit: IsoflopFit | None,
    **options: Unpack[Draws],
) -> dict[str, Quantity]:
    n, d, y, budget = names
    fit = fit or fit_isoflop(table, n, y, d=d, budget=budget, method=method, **options)
    if not fit.supported:
        raise FitError("; ".join(fit.reasons))
    values = {"n": fit.n_exponent, "d": fit.d_exponent}
    used = fit.optima[fit.optima["refused"] == ""]
    if len(used) > 3:
        lowest = fit_power_law(used, x="budget", y="y", **options)
        values["y"] = _exponent(lowest.exponent, lowest.intervals["exponent"], lowest.replicates["exponent"])
    return values


def _surface(table: pd.DataFrame, names: tuple[str, str, str, str], fit: SurfaceFit | None) -> dict[str, Quantity]:
    """Approach 3: the exponents of the surface, or of the best form where that is ruled out.

    Intervals are unions over the forms that are not ruled out.

    Raises:
        FitError: there is no surface, or its exponents are not identified.
    """
    if fit is None:
        return {}
    n, d, _, budget = names
    power = fit_price(table, n, d, budget).power
    forms = list(fit.alternatives.values())
    if forms[0].reasons:
        raise FitError("; ".join(forms[0].reasons))
    parts = [_at_optimum(form, power) for form in forms]
    return {key: union([part[key] for part in parts if key in part]) for key in parts[0]}


def _at_optimum(fit: SurfaceFit, power: float) -> dict[str, Quantity]:
    """The exponents in compute at the optimum of one form; those of a form that overfits are the ones far out."""
    both = []
    for p in ({key: np.array([value]) for key, value in fit.estimates.items()}, fit.replicates):
        n = growth(p, power)
        both.append(exponents(p["alpha"], p["beta"], power) | {"n": n, "d": 1.0 - power * n})
    values, drawn = both
    return {
        key: quantity(float(values[key][0]), drawn[key], fit.level, wider=fit.wider, log=True)
        for key in (("n", "d") if fit.name in BENT else QUANTITIES)
    }


def _exponent(value: float, ends: tuple[float, float], replicates: Array) -> Quantity:
    return Quantity(value, *ends, replicates)


def _grid_step(table: pd.DataFrame, n: str, budget: str) -> float:
    """The median step of log n between neighbouring sizes of one budget; 0 if budgets cannot be separated."""
    group, _ = attempt(lambda: by_budget(table, budget))
    if group is None:
        return 0.0
    steps = [np.diff(np.unique(np.log(sizes))) for _, sizes in table[n].groupby(group)]
    every = np.concatenate(steps)
    return float(np.median(every)) if every.size else 0.0


def _slopes(x: Array, y: Array, weights: Array) -> Array:
    """Weighted least-squares slopes of y [n] on x [n] for every row of weights [B, n]; y [n] or [B, n]."""
    total = weights.sum(axis=1)
    reach = x - ((weights @ x) / total)[:, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        slopes: Array = (weights * reach * y).sum(axis=1) / (weights * reach**2).sum(axis=1)
    return slopes


def _conflicts(rows: list[dict[str, Any]]) -> list[str]:
    bounded = [row for row in rows if np.isfinite(row["high"] - row["low"])]
    return [
        f"{QUANTITIES[a['quantity']]}: {a['approach']} {_interval(a)} contradicts {b['approach']} {_interval(b)}"
        for a, b in itertools.combinations(bounded, 2)
        if a["quantity"] == b["quantity"] and (a["high"] < b["low"] or b["high"] < a["low"])
    ]


def _interval(row: Mapping[Any, Any]) -> str:
    return str(Quantity(row["value"], row["low"], row["high"], np.empty(0)))
