"""The answer of `suggest`: the next runs, and what they are expected to settle."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

    from analysis.fits.quantity import Quantity


@dataclass(frozen=True, eq=False)
class Suggestion:
    """The next runs worth their FLOPs.

    Attributes:
        target: what they are to settle, in words.
        now: the target as the runs so far have it.
        expected: (low, high), the interval to expect after the suggested runs, about the same value.
        runs: one row a run: the columns of the candidates (sizes, examples, `flops`, ...), and `seeds`, how many
            runs of it; the most telling for its FLOPs first, `narrows` being the factor on the width of the
            interval that its runs alone bring.
        budget, spent: FLOPs allowed, and those of the suggested runs.
        sigma: noise of one run (sd of log y) assumed.
        level: of the intervals.
        warnings, reasons: as of the fit behind it.
    """

    target: str
    now: Quantity
    expected: tuple[float, float]
    runs: pd.DataFrame
    budget: float
    spent: float
    sigma: float
    level: float
    warnings: tuple[str, ...]
    reasons: tuple[str, ...]

    @property
    def narrows(self) -> float:
        """Expected width of the interval over its width now."""
        return (self.expected[1] - self.expected[0]) / (self.now.high - self.now.low)

    def summary(self) -> str:
        """The target now and then, and a line for every suggested run."""
        low, high = self.expected
        count = int(self.runs["seeds"].sum()) if len(self.runs) else 0
        lines = [
            f"{self.target}: {self.now} now, [{low:.3g}, {high:.3g}] expected after {count} more runs",
            f"  {self.spent:.3g} of {self.budget:.3g} FLOPs, at {100 * self.sigma:.2g} % noise a run",
        ]
        for row in self.runs.to_dict("records"):
            what = ", ".join(f"{name} {_short(value)}" for name, value in row.items() if name != "narrows")
            lines.append(f"  {what}; alone {row['narrows']:.2f} x the width")
        return "\n".join([*lines, *(f"  caution: {text}" for text in self.warnings)])

    def to_dict(self) -> dict[str, Any]:
        """As JSON can hold it."""
        out: dict[str, Any] = {"target": self.target, "now": self.now.to_dict(), "expected": list(self.expected)}
        runs = self.runs.astype(object).where(self.runs.notna(), None)
        out |= {name: getattr(self, name) for name in ("budget", "spent", "sigma", "level")}
        return out | {
            "runs": runs.to_dict("records"),
            "warnings": list(self.warnings),
            "reasons": list(self.reasons),
        }

    def __str__(self) -> str:
        return self.summary()


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
