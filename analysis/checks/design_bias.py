"""Design bias: how far each approach lands from the truth on noiseless values at the runs of a design."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from analysis.approaches.frontier import fit_frontier
from analysis.approaches.isoflop import prepare
from analysis.approaches.optimum import CLOSED, exponents, fit_price
from analysis.approaches.surface import fit_surface
from analysis.checks.agreement import QUANTITIES, Fitted, by_approach
from analysis.checks.parts import attempt
from analysis.fits.summary import Summary
from analysis.numbers import short
from analysis.solver.fitting import FitError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from analysis.approaches.surface import SurfaceFit

_BOTTLENECKS = {"alpha": "exponent of error in params, examples free", "beta": "exponent in examples, params free"}


@dataclass(frozen=True, eq=False)
class DesignBias(Summary):
    """Each approach on noiseless values of one surface at the runs of one design.

    Attributes:
        table: one row per approach and quantity that the surface has: `approach`, `quantity` (n, d of the optimum;
            y of it without a ceiling; of an additive surface also alpha, beta of the bottleneck laws), `truth` of
            the surface, `landed` (NaN if the approach has no answer), `bias` = landed - truth, `why_not`.
        power: exponent of the FLOPs per example in params, C ~ N^power D, for which the truth holds.
        warnings: the biases beyond a tenth of the truth.
    """

    table: pd.DataFrame
    power: float
    warnings: tuple[str, ...]

    def of(self, approach: str, quantity: str) -> float:
        """The bias of one approach in one quantity; NaN if it has no answer.

        Raises:
            KeyError: there is no such row.
        """
        row = self.table[(self.table["approach"] == approach) & (self.table["quantity"] == quantity)]
        if not len(row):
            raise KeyError(
                f"no row {approach!r}, {quantity!r}; there are {', '.join(self.table['approach'].unique())}"
            )
        return float(row["bias"].iloc[0])

    def summary(self) -> str:
        """One line per approach and quantity that has an answer."""
        lines = [
            f"  {row.approach}, {row.quantity}: {short(row.landed)} where the truth is {short(row.truth)}"
            for row in self.table.dropna(subset=["landed"]).itertuples()
        ]
        head = "on this design, with no noise, each approach lands"
        return "\n".join([head, *lines, *self.cautions()])


def design_bias(
    frame: pd.DataFrame | Mapping[str, Any],
    n: str = "params",
    d: str = "examples",
    y: str = "error",
    *,
    budget: str | None = None,
    fit: SurfaceFit | None = None,
) -> DesignBias:
    """Evaluate a surface at the runs of a design and report how far each approach lands from its exponents.

    The grid of sizes and subsets alone can move an exponent further than noise does: a frontier keeps the nearest
    cell instead of the optimum, the vertex of a parabola is off if a curve is asymmetric, a bottleneck law is bent
    by an input that was not varied far enough. The bias holds for the fitted surface, and roughly for similar laws.

    Args:
        frame: one row per run; its y is used only to fit the surface.
        n: name of the column of sizes.
        d: name of the column of examples; if absent, C / (6 n).
        y: name of the measured column.
        budget: name of the column of compute; default `budget` if present, else `flops`.
        fit: the surface of `n` and `d` to evaluate, e.g. the one expected before any run; default: the additive
            one fitted here, or the form that describes the runs best where that is ruled out.

    Raises:
        ValueError: a column is missing or unfit, or the optimum of `fit` is no power law of compute.
        FitError: y does not fall with both inputs, so there is no truth to compare with.
    """
    table, budget, _ = prepare(frame, n, y, d, budget)
    fit = fit or next(iter(fit_surface(table, n, d, y, resamples=0).alternatives.values()))
    if fit.name not in (*CLOSED, "kaplan"):
        raise ValueError(
            f"the optimum of the law {fit.name!r} is no power law of compute: a design has no bias in it"
        )
    if set(fit.at_bounds) - {"floor"}:
        raise FitError(f"{y!r} does not fall with both {n!r} and {d!r}: {'; '.join(fit.warnings)}")
    clean = table.assign(**{y: fit.predict(table[n].to_numpy(), table[d].to_numpy())["y"].to_numpy()})
    power = fit_price(table, n, d, budget).power
    truth = {name: float(value) for name, value in exponents(fit["alpha"], fit["beta"], power).items()}
    rows = by_approach(clean, (n, d, y, budget), Fitted(surface=fit), resamples=0, level=0.95, seed=0)
    if fit.name == "bounded":
        del truth["y"]
    if fit.name == "chinchilla":
        truth |= {"alpha": fit["alpha"], "beta": fit["beta"]}
        rows += [_bottleneck(clean, column, y, name) for column, name in ((n, "alpha"), (d, "beta"))]
    compared = [_compared(row, truth) for row in rows if row["quantity"] in truth]
    return DesignBias(pd.DataFrame(compared), power, tuple(_warnings(compared)))


def _bottleneck(clean: pd.DataFrame, x: str, y: str, name: str) -> dict[str, Any]:
    fit, why_not = attempt(lambda: fit_frontier(clean, x=x, y=y, kind="each", resamples=0))
    value = fit.exponent if fit else np.nan
    return {"approach": "bottleneck", "quantity": name, "value": value, "why_not": why_not}


def _compared(row: dict[str, Any], truth: dict[str, float]) -> dict[str, Any]:
    true, landed = truth[row["quantity"]], row["value"]
    out = {"approach": row["approach"], "quantity": row["quantity"], "truth": true, "landed": landed}
    return out | {"bias": landed - true, "why_not": row["why_not"]}


def _warnings(rows: list[dict[str, Any]]) -> list[str]:
    names = QUANTITIES | _BOTTLENECKS
    return [
        f"{names[row['quantity']]}: this design alone moves {row['approach']} from {short(row['truth'])} to "
        f"{short(row['landed'])}"
        for row in rows
        if abs(row["bias"]) > 0.1 * row["truth"]
    ]
