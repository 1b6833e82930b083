"""Figures of runs as they are, told apart by colour, marker and line; and of families side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from analysis.figures import chart
from analysis.figures.cells import cell_points
from analysis.figures.chart import Chart, Line
from analysis.figures.law import law_line
from analysis.figures.style import DASHES, MARKERS
from analysis.table import columns, seeds

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from analysis.fits.power_law_fit import PowerLawFit

MOST_MARKERS, MOST_LINES = len(MARKERS), len(DASHES)
"""Kinds of points and of lines that an eye tells apart."""
_MOST_NAMES = 8


def describe_runs(
    frame: pd.DataFrame,
    x: str = "flops",
    y: str = "error",
    *,
    colour: str | None = "model",
    marker: str | None = "dataset_size",
    line: str | None = "epochs",
) -> Chart:
    """Cells as points (mean of seeds, bar of one standard deviation), the best of each kind joined by lines.

    The paper's figure of error against FLOPs: colour is the model, marker the size of the dataset, line the epochs.
    Of several cells of one colour, marker and line (other learning rates, say) the one of lowest `y` is `strong`
    and on the line.

    Args:
        frame: one row a run. Rows without a finite `y` are left out.
        x: column of the horizontal axis, positive.
        y: column of the vertical axis, positive.
        colour: a positive column, or one of names: those are ordered by `params`, where there is such a column.
        marker: a column of at most MOST_MARKERS values; None for one marker.
        line: a column of at most MOST_LINES values whose cells are joined; None joins all of one colour.

    Raises:
        ValueError: a column is missing or unfit, or has more values than can be told apart.
    """
    table, _ = columns.check(frame, [x, y])
    for name in (colour, marker, line):
        if name is not None:
            columns.require(table, name)
    shade, names, label = _shade(table, colour)
    first = np.unique(seeds.cell_index(table), return_index=True)[1]
    kind, markers = _kinds(table, marker, MOST_MARKERS)
    dash, dashes = _kinds(table, line, MOST_LINES)
    points = cell_points(table, x, y, shade).assign(marker=kind[first], dash=dash[first])
    same = points.fillna({"shade": 0.0}).groupby(["shade", "dash", "marker", *([] if marker else ["x"])])["y"]
    points = points.assign(strong=points["y"] == same.transform("min"))
    return Chart(
        x=x,
        y=y,
        x_label=columns.label(x),
        y_label=columns.label(y),
        points=points.drop(columns="dash"),
        lines=tuple(_links(points[points["strong"]])),
        shade_label=label,
        shades=names,
        markers=markers,
        marker_label=marker.replace("_", " ") if marker and len(markers) > 1 else "",
        dashes=dashes,
        dash_label=line.replace("_", " ") if line and len(dashes) > 1 else "",
    )


def describe_families(fits: Mapping[str, PowerLawFit], *, annotation: tuple[str, ...] = ()) -> Chart:
    """Two or more families or recipes side by side: the points of each fit, its law and its band, by name.

    `annotation` is for what a comparison found. Raises ValueError for fits of different columns, or none.
    """
    pairs = {(fit.x, fit.y) for fit in fits.values()}
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
    said = [f"{name}: exponent {_exponent(fit)}" for name, fit in fits.items()]
    return Chart(
        x=x,
        y=y,
        x_label=columns.label(x),
        y_label=columns.label(y),
        points=pd.concat(parts, ignore_index=True),
        lines=tuple(lines),
        shades=shades,
        annotation=(*(text.replace("$", r"\$") for text in said), *annotation),
    )


def few(frame: pd.DataFrame, column: str, most: int) -> str | None:
    """`column` where the frame has it with 2 to `most` values, so that a figure can tell them apart; else None."""
    return column if column in frame and 1 < len(_told_apart(frame[column])[1]) <= most else None


def _exponent(fit: PowerLawFit) -> str:
    return fit.quoted("exponent") if fit.supported else "not claimed"


def _shade(table: pd.DataFrame, colour: str | None) -> tuple[NDArray[np.float64], dict[float, str], str]:
    """The shade of each row, names for shades, the label of the colour bar. Names are shaded by their `params`."""
    if colour is None:
        return np.full(len(table), np.nan), {}, ""
    if pd.api.types.is_numeric_dtype(table[colour]):
        values = columns.check(table, [colour])[0][colour].to_numpy(dtype=float)
        return values, {}, columns.label(colour)
    text = table[colour].astype(str)
    size = table["params"].astype(float).groupby(text).mean() if "params" in table else None
    if size is None or size.nunique() < len(size):
        order = sorted(text.unique())
        size = pd.Series(np.arange(1.0, len(order) + 1), index=order)
    shade = np.asarray(text.map(size), dtype=float)
    if len(size) > _MOST_NAMES:
        return shade, {}, columns.label("params") if "params" in table else columns.label(colour)
    return shade, {float(value): str(name) for name, value in size.sort_values().items()}, columns.label(colour)


def _kinds(table: pd.DataFrame, column: str | None, most: int) -> tuple[NDArray[np.intp], tuple[str, ...]]:
    """Which kind each row is by the values of a column, and the names of the kinds."""
    if column is None:
        return np.zeros(len(table), dtype=np.intp), ("",)
    kind, names = _told_apart(table[column])
    if len(names) > most:
        raise ValueError(f"column {column!r} has {len(names)} values; a figure tells {most} apart")
    return kind, names


def _told_apart(values: pd.Series) -> tuple[NDArray[np.intp], tuple[str, ...]]:
    """The kind of each value, from 0 in sorted order, and the kinds' names.

    Numbers within 10 % of the next are one kind: whole steps leave epochs at 1.96, 1.98 and 2.
    """
    at, inverse = np.unique(
        values.fillna(0) if pd.api.types.is_numeric_dtype(values) else values.astype(str), return_inverse=True
    )
    if not np.issubdtype(at.dtype, np.number):
        return inverse, tuple(map(str, at))
    kind = np.concatenate([[0], np.cumsum(at[1:] > 1.1 * at[:-1])])
    largest = [float(at[kind == k].max()) for k in range(int(kind[-1]) + 1)]
    alone = np.bincount(kind) == 1
    return kind[inverse], tuple(f"{v:,.10g}" if one else f"{v:.2g}" for v, one in zip(largest, alone, strict=True))


def _links(best: pd.DataFrame) -> list[Line]:
    """A line through the best cells of each colour and dash, in order of x."""
    return [
        chart.line(
            *(part["x"], part["y"]),
            style="link",
            shade=float(part["shade"].iloc[0]),
            dash=int(part["dash"].iloc[0]),
            group=str(part["group"].iloc[0]),
        )
        for _, part in best.sort_values("x", kind="stable").groupby(["shade", "dash"], dropna=False)
        if len(part) > 1
    ]
