"""Design bias: how far each approach lands from the truth on the runs that were made, with no noise at all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from analysis.approaches.frontier import fit_frontier
from analysis.approaches.isoflop import prepare
from analysis.approaches.optimum import exponents, fit_price
from analysis.approaches.surface import fit_surface
from analysis.checks.agreement import QUANTITIES, approaches
from analysis.solver.fitting import FitError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from analysis.approaches.surface import SurfaceFit

_BOTTLENECKS = {"alpha": "exponent of error in params, examples free", "beta": "exponent in examples, params free"}


@dataclass(frozen=True, eq=False)
class DesignBias:
    """Each approach on noiseless values of one surface at the runs of one design.

    Attributes:
        table: one row an approach and quantity: `approach`, `quantity` (n, d, y of the optimum; alpha, beta of the
            bottleneck laws), `truth` of the surface, `landed` (NaN where the approach has no answer), `bias` =
            landed - truth, `why_not`.
        power: of the price of an example, C ~ N^power D, that the truth holds for.
        warnings: the biases beyond a tenth of the truth.
    """

    table: pd.DataFrame
    power: float
    warnings: tuple[str, ...]

    def of(self, approach: str, quantity: str) -> float:
        """The bias of one approach in one quantity, NaN where it has no answer.

        Raises:
            KeyError: there is no such row.
        """
        row = self.table[(self.table["approach"] == approach) & (self.table["quantity"] == quantity)]
        if not len(row):
            raise KeyError(
                f"no row {approach!r}, {quantity!r}; there are {self.table['approach'].unique().tolist()}"
            )
        return float(row["bias"].iloc[0])

    def summary(self) -> str:
        """A line for every approach and quantity that has an answer."""
        lines = [
            f"  {row.approach}, {row.quantity}: {row.landed:.3g} where the truth is {row.truth:.3g}"
            for row in self.table.dropna(subset=["landed"]).itertuples()
        ]
        head = "on this design, with no noise, each approach lands"
        return "\n".join([head, *lines, *(f"  caution: {text}" for text in self.warnings)])

    def to_dict(self) -> dict[str, Any]:
        """As JSON can hold it."""
        table = self.table.astype(object).where(self.table.notna(), None)
        return {"table": table.to_dict("records"), "power": self.power, "warnings": list(self.warnings)}

    def __str__(self) -> str:
        return self.summary()


def design_bias(
    frame: pd.DataFrame | Mapping[str, Any],
    n: str = "params",
    d: str = "examples",
    y: str = "error",
    *,
    budget: str | None = None,
    fit: SurfaceFit | None = None,
) -> DesignBias:
    """Push a surface through the actual design and report how far every approach lands from its exponents.

    The grid of sizes and subsets alone can move an exponent further than noise does: a frontier keeps the nearest
    cell and not the optimum, a parabola's vertex is off where a curve is lopsided, a bottleneck law is bent by what
    was not varied far enough. The bias holds for the fitted surface, and roughly for laws near it.

    Args:
        frame: one row a run; its y is used only to fit the surface.
        n: name of the column of sizes.
        d: name of the column of examples; without one, C / (6 n).
        y: name of the column that was measured.
        budget: the column of compute; default `budget` where there is one, else `flops`.
        fit: a surface of `n` and `d` to push through, e.g. what you expect before any run; default: fitted here.

    Raises:
        ValueError: a column is missing or unfit, or `fit` is no surface floor + A N^-alpha + B D^-beta.
        FitError: y does not fall with both, so that there is no truth to compare with.
    """
    table, budget, _ = prepare(frame, n, y, d, budget)
    fit = fit or fit_surface(table, n, d, y, resamples=0)
    if fit.name != "chinchilla":
        raise ValueError(f"the law is {fit.name!r}; design bias knows the exponents of 'chinchilla' only")
    if set(fit.at_bounds) - {"floor"}:
        raise FitError(f"{y!r} does not fall with both {n!r} and {d!r}: {'; '.join(fit.warnings)}")
    clean = table.assign(**{y: fit.predict(table[n].to_numpy(), table[d].to_numpy())["y"].to_numpy()})
    power = fit_price(table, n, d, budget).power
    truth = {name: float(value) for name, value in exponents(fit["alpha"], fit["beta"], power).items()}
    truth |= {"alpha": fit["alpha"], "beta": fit["beta"]}
    rows = approaches(clean, (n, d, y, budget), resamples=0, level=0.95, seed=0)
    rows += [_bottleneck(clean, column, y, name) for column, name in ((n, "alpha"), (d, "beta"))]
    found = [_compared(row, truth) for row in rows if row["approach"] != "surface"]
    return DesignBias(pd.DataFrame(found), power, tuple(_warnings(found)))


def _bottleneck(clean: pd.DataFrame, x: str, y: str, name: str) -> dict[str, Any]:
    row = {"approach": "bottleneck", "quantity": name, "value": np.nan, "why_not": ""}
    try:
        return row | {"value": fit_frontier(clean, x=x, y=y, kind="each", resamples=0).exponent}
    except (FitError, ValueError) as error:
        return row | {"why_not": str(error)}


def _compared(row: dict[str, Any], truth: dict[str, float]) -> dict[str, Any]:
    known, landed = truth[row["quantity"]], row["value"]
    out = {"approach": row["approach"], "quantity": row["quantity"], "truth": known, "landed": landed}
    return out | {"bias": landed - known, "why_not": row["why_not"]}


def _warnings(rows: list[dict[str, Any]]) -> list[str]:
    names = QUANTITIES | _BOTTLENECKS
    return [
        f"{names[row['quantity']]}: this design alone moves {row['approach']} from {row['truth']:.3g} to "
        f"{row['landed']:.3g}"
        for row in rows
        if abs(row["bias"]) > 0.1 * row["truth"]
    ]
