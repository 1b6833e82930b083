"""The answer of an isoFLOP fit: a value that predicts, explains itself and carries its caveats."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.approaches.curves import Curve
from analysis.fits.quantity import plain
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
class IsoflopFit:
    """params*(C) and examples*(C): the optimum of every budget and the power laws through them.

    Attributes:
        n, d, y, budget: names of the columns.
        method: how each curve's minimum was found.
        n_exponent, d_exponent: n* ~ C^n_exponent, d* ~ C^d_exponent, NaN where too few budgets have a minimum.
        optima: one row a budget, by rising compute: `budget` (geometric mean of its cells), `sizes` (distinct n),
            `n`, `d`, `y` at the minimum with `<name>_low` and `<name>_high` (NaN where refused), `refused` (why,
            or empty).
        level, resamples, noise: of the intervals; `noise` is the sd of log y of one run behind them.
        scatter: how much farther the optima lie from the line than their own noise explains, as a ratio; the
            intervals of the exponents are widened by it where it exceeds 1 (Birge's ratio).
        warnings, reasons: as of a LawFit; with reasons no exponent is claimed.
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
    warnings: tuple[str, ...]
    reasons: tuple[str, ...]
    curves: tuple[IsoflopCurve, ...] = field(repr=False)
    lines: dict[str, Growth] = field(repr=False)

    @property
    def supported(self) -> bool:
        """Whether the optima support quoting exponents."""
        return not self.reasons

    def predict(self, budget: float | Array) -> pd.DataFrame:
        """The optimum at each `budget`: columns `budget`, `n`, `n_low`, `n_high`, `d`, `d_low`, `d_high`.

        Raises:
            ValueError: some budget is not a positive finite number.
        """
        at = np.atleast_1d(np.asarray(budget, dtype=float))
        if at.ndim != 1 or not np.all(np.isfinite(at) & (at > 0)):
            raise ValueError(f"predict needs positive finite budgets in one dimension, got {budget!r}")
        out = {"budget": at}
        for name, line in self.lines.items():
            out[name], out[f"{name}_low"], out[f"{name}_high"] = line.at(np.log(at), self.level)
        return pd.DataFrame(out)

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
            lines = [f"{self.n}* against {self.budget}: no exponent claimed", f"  {head}"]
            lines += [f"  because {text}" for text in self.reasons]
        refused = self.optima[self.optima["refused"] != ""]
        lines += [f"  {row.budget:.3g} refused: {row.refused}" for row in refused.itertuples()]
        return "\n".join([*lines, *(f"  caution: {text}" for text in self.warnings if text not in self.reasons)])

    def to_dict(self) -> dict[str, Any]:
        """Everything but the replicates, as JSON can hold it."""
        names = ("n", "d", "y", "budget", "method", "level", "resamples", "noise", "scatter")
        out: dict[str, Any] = {name: plain(getattr(self, name)) for name in names}
        out |= {"n_exponent": self.n_exponent.to_dict(), "d_exponent": self.d_exponent.to_dict()}
        optima = self.optima.astype(object).where(self.optima.notna(), None)
        return out | {
            "supported": self.supported,
            "optima": optima.to_dict("records"),
            "warnings": list(self.warnings),
            "reasons": list(self.reasons),
        }

    def __str__(self) -> str:
        return self.summary()


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
