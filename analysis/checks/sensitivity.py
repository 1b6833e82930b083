"""How far a law's parameters move with the range that is fitted: the cheapest look at the error of the law."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np
import pandas as pd

from analysis.approaches.surface import fit_surface
from analysis.checks.validate import levels, ordered
from analysis.fits.power_law import fit_power_law
from analysis.fits.quantity import Quantity
from analysis.solver.fitting import FitError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from analysis.fits.quantity import Draws

FAR = 1.5
"""Values of an exponent that differ by this factor are different claims."""


@dataclass(frozen=True, eq=False)
class Sensitivity:
    """The parameters of a law fitted to parts of a table.

    Attributes:
        order: the column whose smallest and largest levels were left out.
        table: one row a part: `without` (empty for all rows, else e.g. "2 largest"), `rows`, and for every quantity
            its value, `<name>_low` and `<name>_high` (NaN where the part carries no law).
        intervals: quantity -> its interval from all rows.
        moved: quantities for which the whole and some part lie outside each other's intervals.
        far: those of them that differ from the whole by a factor of 1.5 or more.
    """

    order: str
    table: pd.DataFrame
    intervals: dict[str, tuple[float, float]]
    moved: tuple[str, ...]
    far: tuple[str, ...]

    @property
    def warnings(self) -> tuple[str, ...]:
        """A sentence for every quantity that moved."""
        return tuple(self.said(name) for name in self.moved)

    def said(self, name: str) -> str:
        """Over which values the range alone moves a quantity."""
        values, (low, high) = self.table[name].dropna(), self.intervals[name]
        over = f"{values.min():.3g} to {values.max():.3g}"
        return f"the fitted range moves {name} over {over}, where sampling allows [{low:.3g}, {high:.3g}]"

    def summary(self) -> str:
        """A line for every part."""
        names = list(self.intervals)
        lines = [f"by the range of {self.order} that is fitted:"]
        for row in self.table.to_dict("records"):
            values = ", ".join(f"{name} {row[name]:.3g}" for name in names if np.isfinite(row[name]))
            part = f"without the {row['without']}" if row["without"] else "all"
            lines.append(f"  {part} ({row['rows']} rows): {values or 'no law'}")
        return "\n".join([*lines, *(f"  caution: {text}" for text in self.warnings)])

    def to_dict(self) -> dict[str, Any]:
        """As JSON can hold it."""
        table = self.table.astype(object)
        out = {"order": self.order, "table": table.where(table.notna(), None).to_dict("records")}
        ends = {name: [float(end) for end in ends] for name, ends in self.intervals.items()}
        return out | {"intervals": ends, "moved": list(self.moved), "far": list(self.far)}

    def __str__(self) -> str:
        return self.summary()


def sensitivity(
    frame: pd.DataFrame | Mapping[str, Any],
    x: str | Sequence[str] = ("params", "examples"),
    y: str = "error",
    *,
    order: str | None = None,
    resamples: int = 200,
    level: float = 0.95,
    seed: int = 0,
) -> Sensitivity:
    """Refit without the one and two smallest and largest levels of `order`.

    Args:
        frame: one row a run.
        x: one input (a power law with floor is fitted) or params and examples (a surface).
        y: the column that was measured.
        order: the column whose levels are left out; default as for `validate`.
        resamples: bootstrap resamples of every fit, at least 20.
        level: nominal coverage of the intervals.
        seed: of the resampling.

    Raises:
        ValueError: a column is missing or unfit.
        FitError: all rows together have no law.
    """
    names = (x,) if isinstance(x, str) else tuple(x)
    table, order = ordered(frame, names, y, order)
    options: Draws = {"resamples": resamples, "level": level, "seed": seed}
    whole = _fit(table, names, y, **options)
    group = levels(table, order)
    most = int(group.max())
    parts = {
        "smallest": group > 0,
        "2 smallest": group > 1,
        "largest": group < most,
        "2 largest": group < most - 1,
    }
    rows = [_row("", len(table), whole)]
    for without, kept in parts.items():
        try:
            found = _fit(table[kept], names, y, **options)
        except (FitError, ValueError):
            found = {name: Quantity(np.nan, np.nan, np.nan, np.empty(0)) for name in whole}
        rows.append(_row(without, int(kept.sum()), found))
    told = pd.DataFrame(rows)
    moved = tuple(name for name in whole if _moved(told, name, 1.0))
    ends = {name: (value.low, value.high) for name, value in whole.items()}
    return Sensitivity(order, told, ends, moved, tuple(name for name in moved if _moved(told, name, FAR)))


def _row(without: str, rows: int, found: dict[str, Quantity]) -> dict[str, Any]:
    row: dict[str, Any] = {"without": without, "rows": rows}
    for name, value in found.items():
        row |= {name: value.value, f"{name}_low": value.low, f"{name}_high": value.high}
    return row


def _fit(table: pd.DataFrame, names: tuple[str, ...], y: str, **options: Unpack[Draws]) -> dict[str, Quantity]:
    if len(names) == 1:
        law = fit_power_law(table, names[0], y, **options)
        values = {name: (float(getattr(law, name)), law.intervals[name]) for name in ("exponent", "floor")}
    else:
        fit = fit_surface(table, names[0], names[1], y, **options)
        values = {name: (fit[name], fit.intervals[name]) for name in ("alpha", "beta", "params_exponent", "floor")}
    return {name: Quantity(value, *ends, np.empty(0)) for name, (value, ends) in values.items()}


def _moved(told: pd.DataFrame, name: str, factor: float) -> bool:
    """Whether the whole (first row) and some part lie outside each other's intervals, and a factor apart."""
    value, low, high = (told[column].to_numpy(dtype=float) for column in (name, f"{name}_low", f"{name}_high"))
    slack, part = 0.02 * abs(value[0]), value[1:]
    outside = (part < low[0] - slack) | (part > high[0] + slack)
    outside &= (value[0] < low[1:] - slack) | (value[0] > high[1:] + slack)
    return bool(np.any(outside & ((part <= value[0] / factor) | (part >= value[0] * factor))))
