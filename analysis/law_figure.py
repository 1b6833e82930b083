"""A law's figure described: exactly what will be drawn, as plain data, before any drawing library."""

from __future__ import annotations

import math
import textwrap
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from analysis import columns, seeds
from analysis.frontier import frontier
from analysis.law import quote

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from analysis.law import PowerLawFit

REACH = 3.0
"""The fit line extrapolates by this factor beyond the data on either side."""
_LINE_POINTS = 200


@dataclass(frozen=True, eq=False)
class Curve:
    """A run's training curve: its `run_id`, the colour value (NaN without one), x and y [records]."""

    run_id: str
    colour: float
    x: NDArray[np.float64]
    y: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class LawFigure:
    """What will be drawn.

    Attributes:
        x, y: names of the columns.
        x_label, y_label, colour_label: texts with units; an empty `colour_label` means one colour for all.
        points: one row a cell, columns `x`, `y` (mean over seeds), `sd` (NaN for one seed), `seeds`, `colour`
            (NaN without one), `fitted` (on the frontier, or used by the fit).
        curves: training curves of runs, in the order of the history.
        line: the law, columns `x`, `y`, `low`, `high`, `inside` (within the fitted range); empty without a
            supported fit: a line through points that carry no law would be read as one.
        annotation: lines of text above the axes, mathtext between dollar signs.
    """

    x: str
    y: str
    x_label: str
    y_label: str
    colour_label: str
    points: pd.DataFrame = field(repr=False)
    curves: tuple[Curve, ...] = field(repr=False)
    line: pd.DataFrame = field(repr=False)
    annotation: tuple[str, ...]


def describe_law(
    frame: pd.DataFrame,
    fit: PowerLawFit | None = None,
    *,
    x: str,
    y: str = "error",
    colour: str | None = "width",
    history: pd.DataFrame | None = None,
) -> LawFigure:
    """The figure of `y` against `x`: cells, curves, and the law with its band.

    Args:
        frame: one row a run. Rows without a finite `y` are left out.
        fit: the law to show; None shows the points with their frontier.
        x: column of the horizontal axis.
        y: column of the vertical axis.
        colour: positive column that colours points and curves; one colour where it is None, absent or not
            constant within cells.
        history: records with `run_id`, `x` and `y`; without an `x` column (params, say) there are no curves.

    Raises:
        ValueError: a column is missing or unfit, or `fit` is of other columns.
    """
    if fit is not None and (fit.x, fit.y) != (x, y):
        raise ValueError(f"the fit is of {fit.y!r} against {fit.x!r}; expected {y!r} against {x!r}")
    table, _ = columns.check(frame, [x, y])
    points, coloured = _points(table, x, y, colour, fit)
    return LawFigure(
        x=x,
        y=y,
        x_label=columns.label(x),
        y_label=columns.label(y),
        colour_label=columns.label(colour) if coloured and colour else "",
        points=points,
        curves=_curves(history, table, x, y, colour if coloured else None),
        line=_line(fit),
        annotation=_annotation(fit),
    )


def _points(
    table: pd.DataFrame, x: str, y: str, colour: str | None, fit: PowerLawFit | None
) -> tuple[pd.DataFrame, bool]:
    averaged = seeds.average_seeds(table, y)
    at = seeds.cell_means(seeds.cell_index(table), table[x].to_numpy(dtype=float))
    shades = _shades(averaged, colour)
    chosen = fit.points if fit is not None else frontier(table, x, y)
    every = fit is not None and "seeds" not in fit.points
    used = set(zip(chosen[x].astype(float), chosen[y].astype(float), strict=True))
    mean = averaged[y].to_numpy(dtype=float)
    points = pd.DataFrame(
        {
            "x": at,
            "y": mean,
            "sd": averaged[f"{y}_sd"],
            "seeds": averaged["seeds"],
            "colour": shades,
            "fitted": [every or pair in used for pair in zip(at, mean, strict=True)],
        }
    )
    return points, bool(np.isfinite(shades).any())


def _shades(frame: pd.DataFrame, colour: str | None) -> NDArray[np.float64]:
    """The colour value of each row, NaN where it is not a positive number."""
    if colour is None or colour not in frame or not pd.api.types.is_numeric_dtype(frame[colour]):
        return np.full(len(frame), np.nan)
    values = frame[colour].to_numpy(dtype=float, na_value=np.nan)
    return np.where(np.isfinite(values) & (values > 0), values, np.nan)


def _curves(
    history: pd.DataFrame | None, table: pd.DataFrame, x: str, y: str, colour: str | None
) -> tuple[Curve, ...]:
    run = columns.RUN
    if history is None or x not in history or y not in history or run not in history or run not in table:
        return ()
    shades = dict(zip(table[run], _shades(table, colour), strict=True))
    good = history[history[run].isin(shades) & (history[x] > 0) & (history[y] > 0) & np.isfinite(history[y])]
    return tuple(
        Curve(str(name), float(shades[name]), part[x].to_numpy(dtype=float), part[y].to_numpy(dtype=float))
        for name, part in good.sort_values(x, kind="stable").groupby(run, sort=False)
    )


def _line(fit: PowerLawFit | None) -> pd.DataFrame:
    if fit is None or not fit.supported:
        return pd.DataFrame({name: pd.Series(dtype=float) for name in ("x", "y", "low", "high")}).assign(
            inside=pd.Series(dtype=bool)
        )
    low, high = fit.x_range
    at = np.unique(np.append(np.geomspace(low / REACH, high * REACH, _LINE_POINTS), [low, high]))
    return fit.predict(at).assign(inside=(at >= low) & (at <= high))


def _annotation(fit: PowerLawFit | None) -> tuple[str, ...]:
    if fit is None:
        return ()
    if not fit.supported:
        low, high = fit.compatible
        head = f"no exponent claimed: {low:.2g} to {high:.2g} are compatible"
        return (head, *textwrap.wrap(fit.reasons[0].replace("$", r"\$"), 48)[:3])
    return (_formula(fit), f"exponent {fit.quoted('exponent')}, {100 * fit.level:g} % interval")


def _formula(fit: PowerLawFit) -> str:
    """The law in mathtext as floor + (x / scale)^-exponent: the coefficient's unit would mean nothing."""
    x, y = (columns.SYMBOLS.get(name, letter) for name, letter in ((fit.x, "x"), (fit.y, "y")))
    log_scale = float(fit.law.log_coefficient[0]) / fit.exponent / math.log(10)
    exponent = quote(fit.exponent, fit.intervals["exponent"])
    above = rf"({x} + {power_of_ten(math.log10(fit.shift))})" if fit.shift > 0 else x
    floor = f"{quote(fit.floor, fit.intervals['floor'])} + " if fit.floor > 0 else ""
    return rf"${y} = {floor}({above} \,/\, {power_of_ten(log_scale)})^{{-{exponent}}}$"


def power_of_ten(log10: float) -> str:
    """10^log10 to two digits in mathtext: plain from 0.01 to 9999, otherwise 1.2 x 10^9."""
    if -2 <= log10 < 4:
        return f"{10**log10:.2g}" if log10 < 2 else f"{10**log10:.0f}"
    whole = math.floor(log10)
    return rf"{10 ** (log10 - whole):.1f}{{\times}}10^{{{whole}}}"
