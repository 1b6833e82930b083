"""From a budget to params and examples: the optimum of a fit, in every count, and the models that can be built."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.approaches.isoflop_fit import IsoflopFit
from analysis.approaches.optimum import SIX_N_D, Price, fit_price, inputs, optima, optimum
from analysis.fits.quantity import Quantity, quantity
from analysis.solver.fitting import FitError
from analysis.table import columns

if TYPE_CHECKING:
    from analysis.approaches.surface import SurfaceFit

Array = NDArray[np.float64]

NEAREST = 5
"""How many candidates are returned."""
_WINDOW = np.log(4.0)
"""Counts are converted by a power law through models within this factor of the optimum."""


@dataclass(frozen=True, eq=False)
class Allocation:
    """How to spend a budget.

    Attributes:
        budget: FLOPs to spend.
        n, d, y: names of the columns of sizes, examples and what was measured.
        params, examples: the optimum, each with its interval.
        lowest: y at the optimum; NaN from an isoFLOP fit, which knows only where the minimum is.
        price: what an example costs at a size; None where an isoFLOP fit read examples off its curves.
        counts: one row a parameter count: `count` (column), `value`, `low`, `high` at the optimum, `exponent` in
            compute. The optimum's size is one thing; how fast it seems to grow depends on what is counted.
        models: candidates that can be built, the best first: their columns, `examples` that the budget pays for,
            `y`, `low`, `high` predicted there (NaN from an isoFLOP fit) and `share` of resamples in which it is
            the best of all candidates. Empty without candidates.
        reach: budget over the largest compute that was fitted; above 1 the answer extrapolates.
        level: of the intervals.
        warnings, reasons: as of a fit; with reasons the allocation is not supported.
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

    @property
    def supported(self) -> bool:
        """Whether the fit behind it supports its exponents."""
        return not self.reasons

    def summary(self) -> str:
        """The optimum, every count, and the nearest models."""
        head = f"{self.budget:.3g} FLOPs: {self.n} {self.params}, {self.d} {self.examples}"
        lines = [head + (f", {self.y} {self.lowest}" if self.lowest.replicates.size else "")]
        lines += [f"  not supported: {text}" for text in self.reasons]
        for row in self.counts.itertuples():
            lines.append(f"  {row.count} {row.value:.3g} [{row.low:.3g}, {row.high:.3g}], ~ C^{row.exponent:.2g}")
        lines += [f"  {text}" for text in self._models()]
        return "\n".join([*lines, *(f"  caution: {text}" for text in self.warnings if text not in self.reasons)])

    def to_dict(self) -> dict[str, Any]:
        """As JSON can hold it."""
        out: dict[str, Any] = {
            name: getattr(self, name) for name in ("budget", "n", "d", "y", "level", "supported")
        }
        out |= {name: getattr(self, name).to_dict() for name in ("params", "examples", "lowest")}
        out |= {"price": vars(self.price) if self.price else None, "reach": self.reach}
        for name in ("counts", "models"):
            table = getattr(self, name).astype(object)
            out[name] = table.where(table.notna(), None).to_dict("records")
        return out | {"warnings": list(self.warnings), "reasons": list(self.reasons)}

    def __str__(self) -> str:
        return self.summary()

    def _models(self) -> list[str]:
        out = []
        for row in self.models.to_dict("records"):
            name = row.get("model", f"{row[self.n]:.3g} {self.n}")
            y = (
                f", {self.y} {row['y']:.3g} [{row['low']:.3g}, {row['high']:.3g}]"
                if math.isfinite(row["y"])
                else ""
            )
            out.append(
                f"{name}: {row['examples']:.3g} {self.d}{y}, best in {100 * row['share']:.0f} % of resamples"
            )
        return out


def allocate(
    fit: SurfaceFit | IsoflopFit,
    budget: float,
    *,
    price: Price | None = None,
    candidates: pd.DataFrame | None = None,
    dataset_size: float | None = None,
    flops: str = "flops",
) -> Allocation:
    """How many params and examples `fit` calls best at `budget`, with intervals.

    The optimum of a surface is searched along C = scale n^power d; of an isoFLOP fit it is read off its lines.
    Other parameter counts (columns `params_...` of the candidates, or of the fitted rows) are converted by a power
    law through the models near the optimum.

    Args:
        fit: a surface of params and examples, or an isoFLOP fit.
        budget: FLOPs to spend, positive.
        price: of an example; default: as the fitted rows paid (column `flops`), else 6 n d.
        candidates: models that can be built, one a row: the column of sizes, `flops_per_example`, and whatever
            names them. `trainer.cost` has the paper's family in closed form; this package takes any.
        dataset_size: distinct examples there are, for a surface that knows repeated ones.
        flops: the column of compute in the fitted rows.

    Raises:
        ValueError: the budget is not positive, or `candidates` lack a column, or `dataset_size` is missing or
            not asked for.
        FitError: the fit has no optimum.
    """
    if not (np.isfinite(budget) and budget > 0):
        raise ValueError(f"budget is {budget!r}; expected positive FLOPs")
    if isinstance(fit, IsoflopFit):
        return _from_isoflop(fit, budget, candidates)
    notes: list[str] = []
    n, d = fit.x[0], fit.x[-1]
    if price is None:
        price = fit_price(fit.points, n, d, flops) if flops in fit.points else SIX_N_D
        notes += [] if flops in fit.points else [f"no column {flops!r}: examples are priced at 6 {n}"]
    if price.off > 0.1:
        notes.append(
            f"FLOPs of the runs leave {price.scale:.3g} {n}^{price.power:.3g} by up to {100 * price.off:.0f} %"
        )
    at = optimum(fit, budget, price, dataset_size=dataset_size)
    around = optima(fit, np.log(budget) + np.array([-1.0, 1.0]), price, dataset_size)[0][0]
    compute = price.scale * fit.points[n] ** price.power * fit.points[d]
    reach = budget / float(compute.max())
    models = _surface_models(fit, budget, candidates, dataset_size)
    return Allocation(
        budget=float(budget),
        n=n,
        d=d,
        y=fit.y,
        params=at.n,
        examples=at.d,
        lowest=at.y,
        price=price,
        counts=_counts(candidates, fit.points, n, at.n, float(np.diff(around)[0] / 2), fit.level),
        models=models,
        reach=reach,
        level=fit.level,
        warnings=(*fit.warnings, *notes, *_cautions(reach, at.n, fit.ranges[n], n, models)),
        reasons=fit.reasons,
    )


def _from_isoflop(fit: IsoflopFit, budget: float, candidates: pd.DataFrame | None) -> Allocation:
    params, examples = (
        quantity(*fit.lines[name].drawn(np.log(budget)), fit.level, wider=fit.lines[name].wider, log=True)
        for name in ("n", "d")
    )
    if not np.isfinite(params.value):
        raise FitError(f"no optimum to read off: {'; '.join(fit.reasons)}")
    used = fit.optima[fit.optima["refused"] == ""]
    sizes = np.concatenate([curve.x for curve in fit.curves])
    reach = budget / float(used["budget"].max()) if len(used) else np.nan
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
        counts=_counts(candidates, rows, fit.n, params, fit.n_exponent.value, fit.level),
        models=models,
        reach=reach,
        level=fit.level,
        warnings=(*fit.warnings, *_cautions(reach, params, (sizes.min(), sizes.max()), fit.n, models)),
        reasons=fit.reasons,
    )


def _counts(
    candidates: pd.DataFrame | None, points: pd.DataFrame, n: str, at: Quantity, exponent: float, level: float
) -> pd.DataFrame:
    """The optimum in every other parameter count, and in `n` itself."""
    models = points if candidates is None else candidates
    rows = [{"count": n, "value": at.value, "low": at.low, "high": at.high, "exponent": exponent}]
    for name in [c for c in models if str(c).startswith("params") and c != n]:
        known = models[[n, name]].drop_duplicates().to_numpy(dtype=float)
        known = np.log(known[np.all(known > 0, axis=1)])
        known = known[np.argsort(np.abs(known[:, 0] - np.log(at.value)), kind="stable")]
        near = max(3, int(np.sum(np.abs(known[:, 0] - np.log(at.value)) < _WINDOW)))
        if np.unique(known[:near, 0]).size < 2:
            continue
        slope, intercept = np.polyfit(known[:near, 0] - np.log(at.value), known[:near, 1], 1)
        drawn = np.exp(intercept) * (at.replicates / at.value) ** slope
        other = quantity(float(np.exp(intercept)), drawn, level, log=True)
        ends = {"value": other.value, "low": other.low, "high": other.high}
        rows.append({"count": name, **ends, "exponent": exponent * float(slope)})
    return pd.DataFrame(rows)


def _checked(candidates: pd.DataFrame | None, n: str, budget: float) -> pd.DataFrame:
    if candidates is None:
        return pd.DataFrame()
    table, _ = columns.check(candidates, [n, "flops_per_example"])
    return table.assign(examples=budget / table["flops_per_example"])


def _surface_models(
    fit: SurfaceFit, budget: float, candidates: pd.DataFrame | None, dataset_size: float | None
) -> pd.DataFrame:
    table = _checked(candidates, fit.x[0], budget)
    if not len(table):
        return table
    sizes, examples = table[fit.x[0]].to_numpy(dtype=float), table["examples"].to_numpy(dtype=float)
    at = inputs(fit, sizes, examples, dataset_size)
    band, drawn = fit.predict(*at), fit.drawn(*at)
    best = drawn.argmin(axis=1) if len(drawn) else np.array([band["y"].to_numpy().argmin()])
    share = np.bincount(best, minlength=len(table)) / best.size
    scored = table.assign(y=band["y"], low=band["low"], high=band["high"], share=share)
    return scored.sort_values("y", kind="stable").head(NEAREST).reset_index(drop=True)


def _isoflop_models(
    fit: IsoflopFit, params: Quantity, budget: float, candidates: pd.DataFrame | None
) -> pd.DataFrame:
    table = _checked(candidates, fit.n, budget)
    if not len(table):
        return table
    log_n = np.log(table[fit.n].to_numpy(dtype=float))
    drawn = np.log(params.replicates) if params.replicates.size else np.log([params.value])
    share = np.bincount(np.abs(drawn[:, None] - log_n).argmin(axis=1), minlength=len(table)) / drawn.size
    scored = table.assign(y=np.nan, low=np.nan, high=np.nan, share=share)
    nearest = np.argsort(np.abs(log_n - np.log(params.value)), kind="stable")[:NEAREST]
    return scored.iloc[nearest].reset_index(drop=True)


def _cautions(
    reach: float, params: Quantity, sizes: tuple[float, float], n: str, models: pd.DataFrame
) -> list[str]:
    out = []
    if reach > 1.001:
        out.append(f"extrapolates to {reach:.3g} x the largest compute fitted: intervals hold no error of the law")
    if not sizes[0] <= params.value <= sizes[1]:
        out.append(f"{n} {params.value:.3g} lies outside those fitted, {sizes[0]:.3g} to {sizes[1]:.3g}")
    if len(models) and not models[n].min() / 2 <= params.value <= models[n].max() * 2:
        out.append(f"no candidate is within a factor of 2 of {n} {params.value:.3g}")
    return out
