"""The answer of `allocate`: how to spend a budget."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

    from analysis.approaches.optimum import Price
    from analysis.fits.quantity import Quantity


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
