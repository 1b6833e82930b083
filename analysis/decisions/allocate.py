"""From a budget to params and examples: the optimum of a fit, and the models nearest to it that can be built."""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.approaches.isoflop_fit import IsoflopFit
from analysis.approaches.optimum import SIX_N_D, Optimum, Price, fit_price, inputs, optima, optimum
from analysis.decisions.reach import too_far
from analysis.fits.diagnosis.rejection import require_answerable
from analysis.fits.forms import Forms, union
from analysis.fits.quantity import Quantity, quantity
from analysis.fits.summary import Summary
from analysis.numbers import short
from analysis.solver.fitting import FitError
from analysis.table import columns

if TYPE_CHECKING:
    from analysis.approaches.surface import SurfaceFit

Array = NDArray[np.float64]

NEAREST = 5
"""Most candidates that are returned."""
_WINDOW = np.log(4.0)
"""Parameter counts are converted by a power law through models within this factor of the optimum."""


@dataclass(frozen=True, eq=False)
class Allocation(Summary):
    """How to spend a budget.

    Attributes:
        budget: FLOPs to spend.
        n, d, y: names of the columns of sizes, of examples and of the measured quantity.
        params, examples: the optimum, each with its interval.
        lowest: y at the optimum; NaN from an isoFLOP fit, which has only the position of the minimum.
        price: FLOPs per example as a function of size; None if an isoFLOP fit read examples off its curves.
        counts: one row per parameter count: `count` (column), `value`, `low`, `high` at the optimum, `exponent` in
            compute. The exponent depends on which parameters are counted.
        models: candidates that can be built, the best first: their columns, `examples` that the budget pays for,
            `y`, `low`, `high` predicted there (NaN from an isoFLOP fit) and `share` of resamples in which it is
            the best of all candidates. Empty without candidates.
        reach: budget over the largest fitted compute; above 1 the answer extrapolates.
        level: of the intervals.
        warnings, reasons: those of the fit and of the allocation; with reasons it is not supported.
    """

    budget: float
    n: str
    d: str
    y: str
    params: Quantity
    examples: Quantity
    lowest: Quantity
    price: Price | None
    counts: pd.DataFrame
    models: pd.DataFrame
    reach: float
    level: float
    warnings: tuple[str, ...]
    reasons: tuple[str, ...]

    def summary(self) -> str:
        """The optimum, each parameter count, and the nearest models."""
        head = f"{short(self.budget)} FLOPs: {self.n} {self.params}, {self.d} {self.examples}"
        lines = [head + (f", {self.y} {self.lowest}" if self.lowest.replicates.size else "")]
        lines += [f"  not supported: {text}" for text in self.reasons]
        for row in self.counts.itertuples():
            lines.append(
                f"  {row.count} {short(row.value)} [{short(row.low)}, {short(row.high)}], "
                f"~ C^{short(row.exponent, 2)}"
            )
        lines += [f"  {text}" for text in self._models()]
        return "\n".join([*lines, *self.cautions()])

    def _models(self) -> list[str]:
        lines = []
        for row in self.models.to_dict("records"):
            name = row.get("model", f"{short(row[self.n])} {self.n}")
            known = math.isfinite(row["y"])
            y = f", {self.y} {short(row['y'])} [{short(row['low'])}, {short(row['high'])}]" if known else ""
            share = f"best in {100 * row['share']:.0f} % of resamples"
            lines.append(f"{name}: {short(row['examples'])} {self.d}{y}, {share}")
        return lines


def allocate(
    fit: SurfaceFit | Forms | IsoflopFit,
    budget: float,
    *,
    price: Price | None = None,
    candidates: pd.DataFrame | None = None,
    dataset_size: float | None = None,
    flops: str = "flops",
) -> Allocation:
    """Return the best params and examples at `budget` according to `fit`, with intervals.

    The optimum of a surface is searched along C = scale n^power d; that of an isoFLOP fit is read off its lines.
    All forms of a surface that the points do not rule out count: values are those of `fit`, or of the best form
    where `fit` is ruled out, and intervals are their union.
    Other parameter counts (columns `params_...` of the candidates, or of the fitted rows) are converted by a power
    law through the models near the optimum.

    Args:
        fit: a surface of params and examples, all forms of one, or an isoFLOP fit.
        budget: FLOPs to spend, positive.
        price: FLOPs per example as a function of size; default: fitted to the rows (column `flops`), else 6 n d.
        candidates: models that can be built, one per row: the column of sizes, `flops_per_example`, and any columns
            that name them. `trainer.cost` has the paper's family in closed form.
        dataset_size: distinct examples available, for a surface that distinguishes repeated ones.
        flops: name of the column of compute in the fitted rows.

    Raises:
        ValueError: the budget is not positive, or `candidates` lack a column, or `dataset_size` is missing or
            does not apply.
        FitError: the fit has no optimum, or is of populations that do not share a law.
    """
    if not (np.isfinite(budget) and budget > 0):
        raise ValueError(f"budget is {budget!r}; expected positive FLOPs")
    require_answerable(fit.reasons)
    if isinstance(fit, IsoflopFit):
        return _from_isoflop(fit, budget, candidates)
    fit = cast("SurfaceFit", fit.best) if isinstance(fit, Forms) else fit
    n, d = fit.x[0], fit.x[-1]
    notes: list[str] = []
    if price is None and flops not in fit.points:
        notes.append(f"no column {flops!r}: FLOPs per example are taken as 6 {n}")
    if price is None:
        price = fit_price(fit.points, n, d, flops) if flops in fit.points else SIX_N_D
    return _from_surface(fit, budget, price, candidates, dataset_size, notes)


def _from_surface(
    fit: SurfaceFit,
    budget: float,
    price: Price,
    candidates: pd.DataFrame | None,
    dataset_size: float | None,
    notes: list[str],
) -> Allocation:
    n, d = fit.x[0], fit.x[-1]
    if price.off > 0.1:
        rule = f"{short(price.scale)} {n}^{short(price.power)}"
        notes.append(f"FLOPs per example differ from {rule} by up to {100 * price.off:.0f} %")
    parts = _optima(fit, budget, price, dataset_size)
    asked, fit = fit, next(iter(parts))
    if fit is not asked:
        notes.append(f"the form {asked.name!r} is ruled out: {fit.name!r} takes its place")
    params, examples, lowest = (union([getattr(at, name) for at in parts.values()]) for name in ("n", "d", "y"))
    around = optima(fit, np.log(budget) + np.array([-1.0, 1.0]), price, dataset_size)[0][0]
    compute = price.scale * fit.points[n] ** price.power * fit.points[d]
    reach = budget / float(compute.max())
    models = _surface_models(tuple(parts), budget, candidates, dataset_size)
    return Allocation(
        budget=float(budget),
        n=n,
        d=d,
        y=fit.y,
        params=params,
        examples=examples,
        lowest=lowest,
        price=price,
        counts=_counts(candidates, fit.points, n, params, float(np.diff(around)[0] / 2)),
        models=models,
        reach=reach,
        level=fit.level,
        warnings=(*fit.warnings, *notes, *_warnings(reach, params, fit.ranges[n], n, models)),
        reasons=(*fit.reasons, *_out_of_reach(fit, compute, budget, params, examples, dataset_size)),
    )


def _out_of_reach(
    fit: SurfaceFit,
    compute: pd.Series,
    budget: float,
    params: Quantity,
    examples: Quantity,
    dataset_size: float | None,
) -> tuple[str, ...]:
    """Why the budget, or the optimum there, is out of reach of the fitted runs."""
    at = {fit.x[0]: params.value, fit.x[-1]: examples.value}
    if dataset_size is not None:
        at[fit.x[1]] = min(dataset_size, examples.value)  # of more than are seen every one is new
    places = [(name, value, fit.points[name].to_numpy(dtype=float)) for name, value in at.items()]
    asked = ("FLOPs", budget, compute.to_numpy(dtype=float))
    return tuple(text for place in (asked, *places) for text in too_far(*place))


def _optima(fit: SurfaceFit, budget: float, price: Price, dataset_size: float | None) -> dict[SurfaceFit, Optimum]:
    """The optimum by every form that is not ruled out and has one, the first that of `fit` or of the best form."""
    forms = list(fit.alternatives.values())
    found = {forms[0]: optimum(forms[0], budget, price, dataset_size=dataset_size)}
    for form in forms[1:]:
        with suppress(FitError):  # a form without an optimum
            found[form] = optimum(form, budget, price, dataset_size=dataset_size)
    return found


def _from_isoflop(fit: IsoflopFit, budget: float, candidates: pd.DataFrame | None) -> Allocation:
    params, examples = (
        quantity(*fit.lines[name].drawn(np.log(budget)), fit.level, wider=fit.lines[name].wider, log=True)
        for name in ("n", "d")
    )
    if not np.isfinite(params.value):
        raise FitError(f"no optimum: {'; '.join(fit.reasons)}")
    used = fit.optima.loc[fit.optima["refused"] == "", "budget"].to_numpy(dtype=float)
    sizes, seen = (np.concatenate([getattr(curve, name) for curve in fit.curves]) for name in ("x", "d"))
    reach = budget / float(used.max())
    asked = ("FLOPs", budget, used), (fit.n, params.value, sizes), (fit.d, examples.value, seen)
    models = _isoflop_models(fit, params, budget, candidates)
    rows = pd.DataFrame({fit.n: sizes})
    return Allocation(
        budget=float(budget),
        n=fit.n,
        d=fit.d,
        y=fit.y,
        params=params,
        examples=examples,
        lowest=Quantity(np.nan, np.nan, np.nan, np.empty(0)),
        price=None,
        counts=_counts(candidates, rows, fit.n, params, fit.n_exponent.value),
        models=models,
        reach=reach,
        level=fit.level,
        warnings=(*fit.warnings, *_warnings(reach, params, (sizes.min(), sizes.max()), fit.n, models)),
        reasons=(*fit.reasons, *(text for place in asked for text in too_far(*place))),
    )


def _counts(
    candidates: pd.DataFrame | None, points: pd.DataFrame, n: str, at: Quantity, exponent: float
) -> pd.DataFrame:
    """`Allocation.counts`: the optimum in `n` and in every other parameter count."""
    models = points if candidates is None else candidates
    rows = [{"count": n, "value": at.value, "low": at.low, "high": at.high, "exponent": exponent}]
    for name in [c for c in models if str(c).startswith("params") and c != n]:
        logs = models[[n, name]].drop_duplicates().to_numpy(dtype=float)
        logs = np.log(logs[np.all(logs > 0, axis=1)])
        logs = logs[np.argsort(np.abs(logs[:, 0] - np.log(at.value)), kind="stable")]
        near = max(3, int(np.sum(np.abs(logs[:, 0] - np.log(at.value)) < _WINDOW)))
        if np.unique(logs[:near, 0]).size < 2:
            continue
        slope, intercept = np.polyfit(logs[:near, 0] - np.log(at.value), logs[:near, 1], 1)
        values = {"value": at.value, "low": at.low, "high": at.high}
        ends = {end: float(np.exp(intercept)) * (value / at.value) ** slope for end, value in values.items()}
        rows.append({"count": name, **ends, "exponent": exponent * float(slope)})
    return pd.DataFrame(rows)


def _priced(candidates: pd.DataFrame | None, n: str, budget: float) -> pd.DataFrame:
    if candidates is None:
        return pd.DataFrame()
    table, _ = columns.check(candidates, [n, "flops_per_example"])
    return table.assign(examples=budget / table["flops_per_example"])


def _surface_models(
    forms: tuple[SurfaceFit, ...], budget: float, candidates: pd.DataFrame | None, dataset_size: float | None
) -> pd.DataFrame:
    """The best candidates by the first of the forms; bands and shares over all of them."""
    table = _priced(candidates, forms[0].x[0], budget)
    if not len(table):
        return table
    sizes, examples = table[forms[0].x[0]].to_numpy(dtype=float), table["examples"].to_numpy(dtype=float)
    at = inputs(forms[0], sizes, examples, dataset_size)
    bands = [form.predict(*at) for form in forms]
    drawn = np.concatenate([form.drawn(*at) for form in forms])
    best = drawn.argmin(axis=1) if len(drawn) else np.array([bands[0]["y"].to_numpy().argmin()])
    share = np.bincount(best, minlength=len(table)) / best.size
    low, high = np.min([band["low"] for band in bands], axis=0), np.max([band["high"] for band in bands], axis=0)
    scored = table.assign(y=bands[0]["y"], low=low, high=high, share=share)
    return scored.sort_values("y", kind="stable").head(NEAREST).reset_index(drop=True)


def _isoflop_models(
    fit: IsoflopFit, params: Quantity, budget: float, candidates: pd.DataFrame | None
) -> pd.DataFrame:
    table = _priced(candidates, fit.n, budget)
    if not len(table):
        return table
    log_n = np.log(table[fit.n].to_numpy(dtype=float))
    drawn = np.log(params.replicates) if params.replicates.size else np.log([params.value])
    share = np.bincount(np.abs(drawn[:, None] - log_n).argmin(axis=1), minlength=len(table)) / drawn.size
    scored = table.assign(y=np.nan, low=np.nan, high=np.nan, share=share)
    nearest = np.argsort(np.abs(log_n - np.log(params.value)), kind="stable")[:NEAREST]
    return scored.iloc[nearest].reset_index(drop=True)


def _warnings(
    reach: float, params: Quantity, sizes: tuple[float, float], n: str, models: pd.DataFrame
) -> list[str]:
    out = []
    if reach > 1.001:
        out.append(
            f"extrapolates to {short(reach)} x the largest fitted compute: intervals ignore errors of the law"
        )
    if not sizes[0] <= params.value <= sizes[1]:
        out.append(
            f"{n} {short(params.value)} lies outside the fitted range, {short(sizes[0])} to {short(sizes[1])}"
        )
    if len(models) and not models[n].min() / 2 <= params.value <= models[n].max() * 2:
        out.append(f"no candidate is within a factor of 2 of {n} {short(params.value)}")
    return out
