"""Figures of laws: cells, training curves, and a law with its band; the laws of several groups side by side."""

from __future__ import annotations

import re
import textwrap
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from analysis.approaches.frontier import frontier
from analysis.checks.parts import attempt
from analysis.figures import chart
from analysis.figures.cells import cell_points, varies
from analysis.figures.chart import Chart, Line
from analysis.figures.registry import Figure, FigureError, Findings
from analysis.table import columns
from analysis.table.rows import measured

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from analysis.figures.legend import Look
    from analysis.fits.result import LawFit

REACH = 3.0
"""The line of a law extends the data by this factor at both ends."""
_LINE_POINTS = 200


def describe_law(
    frame: pd.DataFrame,
    fit: LawFit | None = None,
    *,
    x: str,
    y: str = "error",
    colour: str | None = "width",
    history: pd.DataFrame | None = None,
) -> Chart:
    """Describe `y` against `x`: cells, training curves, and the law with its band.

    An unsupported fit has no line. Points on the frontier, or used by the fit, are `strong`.

    Args:
        frame: one row per run. Rows without a finite `y` are left out.
        fit: the law to show; None shows the points with their frontier.
        x: column of the horizontal axis.
        y: column of the vertical axis.
        colour: positive column that colours points and curves; None, or a missing column, for one colour.
        history: records with `run_id`, `x` and `y`; without an `x` column (params, say) there are no curves.

    Raises:
        ValueError: a column is missing or unfit, or `fit` is of other columns.
    """
    if fit is not None and (*fit.x, fit.y) != (x, y):
        raise ValueError(f"the fit is of {fit.y!r} against {', '.join(fit.x)!r}; expected {y!r} against {x!r}")
    table = measured(frame, [x, y]).table
    shade = _shades(table, colour)
    points = cell_points(table, x, y, shade)
    curves = _curves(history, table, x, y, shade)
    return Chart(
        **chart.axes(x, y),
        points=points.assign(strong=_fitted(points, table, fit, x, y)),
        lines=(*curves, *law_line(fit)),
        shade_label=columns.label(colour) if colour and np.isfinite(shade).any() else "",
        marks=_marks(fit, averaged=points["seeds"].max() > 1),
        annotation=_annotation(fit),
    )


def describe_families(fits: Mapping[str, LawFit], *, annotation: tuple[str, ...] = ()) -> Chart:
    """Describe families or recipes side by side: the points of each fit, its law and its band, by name.

    `annotation` holds lines of text above the axes. Raises ValueError for fits of different columns, or no fits.
    """
    pairs = {(*fit.x, fit.y) for fit in fits.values()}
    if len(pairs) != 1:
        raise ValueError(f"fits are of {sorted(pairs) or 'nothing'}; expected one pair of columns")
    ((x, y),) = pairs
    shades = {float(k): name for k, name in enumerate(fits, start=1)}
    parts: list[pd.DataFrame] = []
    lines: list[Line] = []
    for (shade, name), fit in zip(shades.items(), fits.values(), strict=True):
        table = fit.points
        parts.append(cell_points(table, x, y, np.full(len(table), shade)).assign(group=name))
        lines += law_line(fit, shade=shade)
    exponents = [f"{name}: exponent {_exponent(fit)}" for name, fit in fits.items()]
    return Chart(
        **chart.axes(x, y),
        points=pd.concat(parts, ignore_index=True),
        lines=tuple(lines),
        shades=shades,
        marks={"band": f"{100 * next(iter(fits.values())).level:g} % interval"},
        annotation=(*(text.replace("$", r"\$") for text in exponents), *annotation),
    )


def law_line(fit: LawFit | None, *, shade: float = np.nan, name: str = "") -> tuple[Line, ...]:
    """The law with its band, dashed where it extrapolates; none for an unsupported fit."""
    if fit is None or not fit.supported:
        return ()
    low, high = fit.x_range
    at = np.unique(np.append(np.geomspace(low / REACH, high * REACH, _LINE_POINTS), [low, high]))
    law, inside = fit.predict(at), (at >= low) & (at <= high)
    return (chart.line(at, law["y"], low=law["low"], high=law["high"], inside=inside, shade=shade, name=name),)


def _fitted(points: pd.DataFrame, table: pd.DataFrame, fit: LawFit | None, x: str, y: str) -> NDArray[np.bool_]:
    """Whether each cell was fitted: a fit of a frontier uses some cells, a plain fit all rows."""
    if fit is not None and "seeds" not in fit.points:
        return np.ones(len(points), dtype=bool)
    chosen = fit.points if fit is not None else frontier(table, x, y)
    used = set(zip(chosen[x].astype(float), chosen[y].astype(float), strict=True))
    return np.array([pair in used for pair in zip(points["x"], points["y"], strict=True)], dtype=bool)


def _shades(table: pd.DataFrame, colour: str | None) -> NDArray[np.float64]:
    """The colour value of each row; NaN if it is not a positive number."""
    if colour is None or colour not in table or not pd.api.types.is_numeric_dtype(table[colour]):
        return np.full(len(table), np.nan)
    values = table[colour].to_numpy(dtype=float, na_value=np.nan)
    return np.where(np.isfinite(values) & (values > 0), values, np.nan)


def _curves(
    history: pd.DataFrame | None, table: pd.DataFrame, x: str, y: str, shade: NDArray[np.float64]
) -> tuple[Line, ...]:
    """The training curve of each run, in order of its first x."""
    run = columns.RUN
    if history is None or x not in history or y not in history or run not in history or run not in table:
        return ()
    shades = dict(zip(table[run], shade, strict=True))
    models = dict(zip(table[run], table["model"], strict=True)) if "model" in table else {}
    good = history[history[run].isin(shades) & (history[x] > 0) & (history[y] > 0) & np.isfinite(history[y])]
    return tuple(
        chart.line(
            *(part[x], part[y]),
            style="curve",
            shade=float(shades[run_id]),
            name=str(run_id),
            group=str(models.get(run_id, "")),
        )
        for run_id, part in good.sort_values(x, kind="stable").groupby(run, sort=False)
    )


def _marks(fit: LawFit | None, *, averaged: bool) -> dict[Look, str]:
    run = "mean of seeds" if averaged else "run"
    if fit is None or not fit.supported:
        return {"strong": f"{run}, on the frontier" if fit is None or "seeds" in fit.points else run}
    return {"strong": f"{run}, fitted", "band": f"{100 * fit.level:g} % interval"}


def _annotation(fit: LawFit | None) -> tuple[str, ...]:
    if fit is None:
        return ()
    if not fit.supported:
        return refused(fit)
    measured = [name for name in fit.law.exponents if name not in fit.law.constraints.fix]
    claims = [f"{name} {fit.quoted(name)}, {100 * fit.level:g} % interval" for name in measured]
    return (mathtext(fit.formula()), *claims)


def refused(fit: LawFit) -> tuple[str, ...]:
    """Why an unsupported fit claims nothing, as lines of text above the axes."""
    return tuple(textwrap.wrap(f"{fit.refusal()}: {fit.reasons[0]}".replace("$", r"\$"), 48)[:5])


def _exponent(fit: LawFit) -> str:
    return fit.quoted("exponent") if fit.supported else "not identified"


def mathtext(formula: str) -> str:
    """A formula in mathtext, its names upright; as it is where it is no plain sum of powers."""
    if not re.fullmatch(r"[\w\s.+\-*/()=^]+", formula) or "^(" in formula:
        return formula.replace("$", r"\$")
    return f"${_PARTS.sub(_in_mathtext, formula)}$"


_PARTS = re.compile(r"\^(-?\d[\d.]*)|(\d[\d.]*)e(-?\d+)|([^\W\d]\w*)| ")


def _in_mathtext(part: re.Match[str]) -> str:
    """A power, a number with a power of ten, a name or a space in mathtext."""
    power, mantissa, of_ten, name = part.groups()
    if power:
        return f"^{{{power}}}"
    if mantissa:
        return rf"{mantissa}{{\times}}10^{{{of_ten}}}"
    escaped = (name or "").replace("_", r"\_")
    return rf"\mathrm{{{escaped}}}" if name else r"\ "


def _error_against(x: str, heading: str) -> Figure:
    def describe(findings: Findings) -> Chart:
        if x not in findings.axes:
            raise FigureError(f"{findings.y} against {x} is not a law of this task")
        fit, why_not = attempt(lambda: findings.law(x))
        if fit is None and findings.done[x].nunique() < 2:
            raise FigureError(why_not)
        colour = "width" if varies(findings.done, "width") else None
        records = findings.history if x == "flops" else None
        return describe_law(findings.done, fit, x=x, y=findings.y, colour=colour, history=records)

    def together(parts: Mapping[str, Findings]) -> Chart:
        tried = {name: attempt(lambda part=part: part.law(x)) for name, part in parts.items()}  # type: ignore[misc]
        fits = {name: fit for name, (fit, _) in tried.items() if fit is not None}
        if not fits:
            raise FigureError("; ".join(f"{name}: {why_not}" for name, (_, why_not) in tried.items()))
        return describe_families(fits)

    return Figure(heading, describe, together=together)


ERROR_VS_FLOPS = _error_against("flops", "Error against compute")
ERROR_VS_PARAMS = _error_against("params", "Error against parameters")
ERROR_VS_EXAMPLES = _error_against("examples", "Error against examples")
