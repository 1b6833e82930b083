"""How far the parameters of a law move with the fitted range."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np
import pandas as pd

from analysis.approaches.surface import fit_surface
from analysis.checks.parts import UNKNOWN, attempt, levels, ordered
from analysis.fits.law import fit_law, fit_power_law
from analysis.fits.quantity import Quantity
from analysis.fits.summary import Summary
from analysis.numbers import short

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from analysis.fits.quantity import Draws
    from analysis.fits.result import LawFit

FAR = 1.5
"""Values of a quantity that differ by this factor contradict each other."""


@dataclass(frozen=True, eq=False)
class Sensitivity(Summary):
    """The parameters of a law fitted to parts of a table.

    Attributes:
        order: the column whose smallest and largest levels were left out.
        table: one row per part: `without` (empty for all rows, else e.g. "2 largest"), `rows`, and for every
            quantity its value, `<name>_low` and `<name>_high` (NaN if the part has no law).
        intervals: quantity -> its interval from all rows.
        moved: quantities whose values from all rows and from some part lie outside each other's intervals.
        far: those that also differ by a factor of 1.5 or more.
    """

    order: str
    table: pd.DataFrame
    intervals: dict[str, tuple[float, float]]
    moved: tuple[str, ...]
    far: tuple[str, ...]

    @property
    def warnings(self) -> tuple[str, ...]:  # type: ignore[override]  # computed, not stored
        """A sentence for every quantity that moved."""
        return tuple(self.sentence(name) for name in self.moved)

    def sentence(self, name: str) -> str:
        """The values over which the fitted range moves a quantity, beside its interval."""
        values, (low, high) = self.table[name].dropna(), self.intervals[name]
        over = f"{short(values.min())} to {short(values.max())}"
        inside = f"[{short(low)}, {short(high)}]"
        return f"depending on the fitted range {_in_words(name)} is {over}, beyond its interval {inside}"

    def summary(self) -> str:
        """One line per part."""
        names = list(self.intervals)
        lines = [f"by the fitted range of {self.order}:"]
        for row in self.table.to_dict("records"):
            values = ", ".join(f"{name} {short(row[name])}" for name in names if np.isfinite(row[name]))
            part = f"without the {row['without']}" if row["without"] else "all"
            lines.append(f"  {part} ({row['rows']} rows): {values or 'no law'}")
        return "\n".join([*lines, *self.cautions()])


def _in_words(name: str) -> str:
    """A quantity of a law in a sentence."""
    of, _, last = name.rpartition("_")
    return f"the exponent of the best {of}" if of and last == "exponent" else f"the {name}"


def sensitivity(
    frame: pd.DataFrame | Mapping[str, Any],
    x: str | Sequence[str] = ("params", "examples"),
    y: str = "error",
    *,
    order: str | None = None,
    resamples: int = 200,
    level: float = 0.95,
    seed: int = 0,
    whole: LawFit | None = None,
) -> Sensitivity:
    """Refit without the one and two smallest and largest levels of `order`.

    Args:
        frame: one row per run.
        x: one input (a power law with floor is fitted) or params and examples (a surface).
        y: name of the measured column.
        order: the column whose levels are left out; default as for `validate`.
        resamples: bootstrap resamples of every fit, at least 20.
        level: nominal coverage of the intervals.
        seed: of the resampling.
        whole: the fit of all rows, if it exists already; its law is fitted to the parts.

    Raises:
        ValueError: a column is missing or unfit.
        FitError: the whole table has no law.
    """
    names = (x,) if isinstance(x, str) else tuple(x)
    table, order, _ = ordered(frame, names, y, order)
    options: Draws = {"resamples": resamples, "level": level, "seed": seed}
    default = "power-floor" if len(names) == 1 else "chinchilla"
    form = whole.name if whole else default
    every = _quantities(whole or _fit(table, names, y, form, **options))
    group = levels(table, order)
    most = int(group.max())
    parts = {
        "smallest": group > 0,
        "2 smallest": group > 1,
        "largest": group < most,
        "2 largest": group < most - 1,
    }
    rows = [_row("", len(table), every)]
    for without, kept in parts.items():
        fit, _ = attempt(lambda kept=kept: _fit(table[kept], names, y, form, **options))  # type: ignore[misc]
        rows.append(_row(without, int(kept.sum()), _quantities(fit) if fit else dict.fromkeys(every, UNKNOWN)))
    fits = pd.DataFrame(rows)
    moved = tuple(name for name in every if _moved(fits, name, 1.0))
    ends = {name: (value.low, value.high) for name, value in every.items()}
    return Sensitivity(order, fits, ends, moved, tuple(name for name in moved if _moved(fits, name, FAR)))


def _row(without: str, rows: int, fit: dict[str, Quantity]) -> dict[str, Any]:
    row: dict[str, Any] = {"without": without, "rows": rows}
    for name, value in fit.items():
        row |= {name: value.value, f"{name}_low": value.low, f"{name}_high": value.high}
    return row


def _fit(table: pd.DataFrame, names: tuple[str, ...], y: str, form: str, **options: Unpack[Draws]) -> LawFit:
    if len(names) > 1:
        return fit_surface(table, names[0], names[1], y, law=form, **options)
    if form not in ("power", "power-floor"):
        return fit_law(table, names[0], y, law=form, **options)
    return fit_power_law(table, names[0], y, floor=form == "power-floor", **options)


def _quantities(fit: LawFit) -> dict[str, Quantity]:
    """The exponents and the floor, those that the law has."""
    named = ("exponent", "floor") if len(fit.x) == 1 else ("alpha", "beta", "params_exponent", "floor")
    return {name: Quantity(fit[name], *fit.intervals[name], np.empty(0)) for name in named if name in fit.estimates}


def _moved(fits: pd.DataFrame, name: str, factor: float) -> bool:
    """Whether the whole (first row) and some part lie outside each other's intervals and differ by `factor`."""
    value, low, high = (fits[column].to_numpy(dtype=float) for column in (name, f"{name}_low", f"{name}_high"))
    slack, part = 0.02 * abs(value[0]), value[1:]
    outside = (part < low[0] - slack) | (part > high[0] + slack)
    outside &= (value[0] < low[1:] - slack) | (value[0] > high[1:] + slack)
    return bool(np.any(outside & ((part <= value[0] / factor) | (part >= value[0] * factor))))
