"""The result of an isoFLOP fit: a value that predicts, explains itself and carries its warnings."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.approaches.curves import Curve
from analysis.fits.summary import Summary, as_json
from analysis.numbers import short
from analysis.solver import bootstrap

if TYPE_CHECKING:
    from analysis.fits.quantity import Quantity

Array = NDArray[np.float64]
Method = Literal["akima", "parabola", "joint"]


@dataclass(frozen=True, eq=False)
class IsoflopCurve(Curve):
    """The curve of one budget: compute `budget`, sizes `x` [P], their examples `d` [P], the best mean `y` [P]."""

    d: Array
    budget: float


@dataclass(frozen=True, eq=False)
class IsoflopFit(Summary):
    """The optimum of every budget, and the power laws of optimal size and examples in compute.

    Attributes:
        n, d, y, budget: names of the columns.
        method: how each curve's minimum was found.
        n_exponent, d_exponent: n* ~ C^n_exponent, d* ~ C^d_exponent, NaN where too few budgets have a minimum.
        optima: one row a budget, by rising compute: `budget` (geometric mean of its cells), `sizes` (distinct n),
            `n`, `d`, `y` at the minimum with `<name>_low` and `<name>_high` (NaN where refused), `refused` (why,
            or empty).
        level, resamples, noise: of the intervals; `noise` is the sd of log y of one run behind them.
        scatter: distance of the optima from their line over what their noise explains (Birge's ratio); where it
            exceeds 1 the intervals of the exponents are wider by it.
        warnings, reasons: as of a `LawFit`.
        curves: the points behind each budget, their `x` being n.
        lines: n and d against compute, with their replicates.
    """

    n: str
    d: str
    y: str
    budget: str
    method: Method
    n_exponent: Quantity
    d_exponent: Quantity
    optima: pd.DataFrame
    level: float
    resamples: int
    noise: float
    scatter: float
    curves: tuple[IsoflopCurve, ...] = field(repr=False)
    lines: dict[str, Growth] = field(repr=False)
    warnings: tuple[str, ...]
    reasons: tuple[str, ...]

    def predict(self, budget: float | Array) -> pd.DataFrame:
        """The optimum at each `budget`: columns `budget`, `n`, `n_low`, `n_high`, `d`, `d_low`, `d_high`.

        Raises:
            ValueError: some budget is not a positive finite number.
        """
        at = np.atleast_1d(np.asarray(budget, dtype=float))
        if at.ndim != 1 or not np.all(np.isfinite(at) & (at > 0)):
            raise ValueError(f"predict needs positive finite budgets in one dimension, got {budget!r}")
        columns = {"budget": at}
        for name, line in self.lines.items():
            columns[name], columns[f"{name}_low"], columns[f"{name}_high"] = line.at(np.log(at), self.level)
        return pd.DataFrame(columns)

    def summary(self) -> str:
        """A few lines of text; a line for every refused budget."""
        used = self.optima[self.optima["refused"] == ""]
        head = f"optimum of {len(used)} of {len(self.optima)} budgets by {self.method}"
        if self.supported:
            lines = [
                f"{self.n}* ~ {self.budget}^{self.n_exponent}, {self.d}* ~ {self.budget}^{self.d_exponent}",
                f"  {head}, {100 * self.level:g} % over {self.resamples} resamples",
            ]
        else:
            lines = [f"{self.n}* against {self.budget}: exponent not identified", f"  {head}"]
            lines += [f"  because {text}" for text in self.reasons]
        refused = self.optima[self.optima["refused"] != ""]
        lines += [f"  {short(row.budget)} refused: {row.refused}" for row in refused.itertuples()]
        return "\n".join([*lines, *self.cautions()])

    def to_dict(self) -> dict[str, Any]:
        """Everything but the replicates, as JSON can hold it."""
        names = (
            *("n", "d", "y", "budget", "method", "level", "resamples", "noise", "scatter"),
            *("n_exponent", "d_exponent", "supported", "optima", "warnings", "reasons"),
        )
        return {name: as_json(getattr(self, name)) for name in names}


@dataclass(frozen=True, eq=False)
class Growth:
    """log q = intercept + slope (log C - centre): the estimate, its replicates [B], and their stretching."""

    centre: float
    intercept: float
    slope: float
    intercepts: Array
    slopes: Array
    wider: float

    def drawn(self, log_c: float) -> tuple[float, Array]:
        """The quantity at log compute, the estimate and its finite replicates [at most B]."""
        reach = log_c - self.centre
        replicates = np.exp(self.intercepts + self.slopes * reach)
        return float(np.exp(self.intercept + self.slope * reach)), replicates[np.isfinite(replicates)]

    def at(self, log_c: Array, level: float) -> tuple[Array, Array, Array]:
        """The quantity at log compute [n], and its interval, NaN without replicates."""
        reach = log_c - self.centre
        middle = self.intercept + self.slope * reach
        replicates = self.intercepts[:, None] + self.slopes[:, None] * reach
        replicates = replicates[np.all(np.isfinite(replicates), axis=1)]
        if not replicates.size:
            return np.exp(middle), np.full(reach.shape, np.nan), np.full(reach.shape, np.nan)
        low, high = np.exp(bootstrap.percentile(replicates, middle, level, self.wider))
        return np.exp(middle), low, high
