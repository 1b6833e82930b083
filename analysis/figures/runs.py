"""Figures of all runs by colour, marker and line; and of two families compared."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from analysis.figures import chart
from analysis.figures.cells import cell_points, varies
from analysis.figures.chart import Chart, Line
from analysis.figures.law import describe_families
from analysis.figures.registry import Figure, FigureError, Findings
from analysis.figures.style import DASHES, MARKERS
from analysis.numbers import short
from analysis.table import columns, seeds
from analysis.table.rows import measured

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from analysis.figures.legend import Look

MOST_MARKERS, MOST_LINES = len(MARKERS), len(DASHES)
"""Most kinds of points and of lines in one figure."""
_SET_BY_SUBSET = ("flops", "examples")  # of one model, at the same epochs


def describe_runs(
    frame: pd.DataFrame,
    x: str = "flops",
    y: str = "error",
    *,
    colour: str | None = "model",
    marker: str | None = "dataset_size",
    line: str | None = "epochs",
) -> Chart:
    """Describe cells as points (mean and standard deviation of seeds), the best of each kind joined by lines.

    As in the paper's figure of error against FLOPs, colour is the model, marker the dataset size, line the epochs.
    Of several cells of one colour, marker and line (other learning rates, say) the one of lowest `y` is `strong`
    and on the line. A line stays within one data set, and within one subset of it, except where `line` and the
    subset together set x (`flops` or `examples` at the same epochs): there it joins the subsets.

    Args:
        frame: one row per run. Rows without a finite `y` are left out.
        x: column of the horizontal axis, positive.
        y: column of the vertical axis, positive.
        colour: a positive column, or a column of names, which are ordered by `params` if that column is present.
        marker: a column of at most MOST_MARKERS values; None for one marker.
        line: a column of at most MOST_LINES values whose cells are joined; None joins those of one subset.

    Raises:
        ValueError: a column is missing or unfit, or has too many values.
    """
    table = measured(frame, [x, y]).table
    for name in (colour, marker, line):
        if name is not None:
            columns.require(table, name)
    shade, names, label = _shade(table, colour)
    first = np.unique(seeds.cell_index(table), return_index=True)[1]
    kind, markers = _kinds(table, marker, MOST_MARKERS)
    dash, dashes = _kinds(table, line, MOST_LINES)
    across = line is not None and x in _SET_BY_SUBSET
    held = [name for name in ("dataset", "stage", *([] if across else ["dataset_size"])) if name in table]
    subset = table.groupby(held, dropna=False).ngroup().to_numpy() if held else np.zeros(len(table), dtype=int)
    points = cell_points(table, x, y, shade).assign(marker=kind[first], dash=dash[first], subset=subset[first])
    alike = ["shade", "dash", "marker", "subset", *([] if across and marker else ["x"])]
    points = points.assign(strong=points["y"] == points.groupby(alike, dropna=False)["y"].transform("min"))
    named: dict[Look, str] = {"strong": "best of its group", "pale": "not the best"}
    return Chart(
        **chart.axes(x, y),
        points=points.drop(columns=["dash", "subset"]),
        lines=tuple(_links(points[points["strong"]], ["shade", "dash", "subset", *([] if across else ["marker"])])),
        shade_label=label,
        shades=names,
        markers=markers,
        marker_label=marker.replace("_", " ") if marker and len(markers) > 1 else "",
        dashes=dashes,
        dash_label=line.replace("_", " ") if line and len(dashes) > 1 else "",
        marks={} if points["strong"].all() else named,
    )


def few(frame: pd.DataFrame, column: str, most: int, *, least: int = 2) -> str | None:
    """`column` if the frame has it with `least` to `most` values, as many as a figure can show; else None."""
    return column if column in frame and least <= len(_classes(frame[column])[1]) <= most else None


def _shade(table: pd.DataFrame, colour: str | None) -> tuple[NDArray[np.float64], dict[float, str], str]:
    """The shade of each row, the names of shades, and the label of the colour bar. Names are shaded by `params`."""
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
    if len(size) > MOST_MARKERS:
        return shade, {}, columns.label("params") if "params" in table else columns.label(colour)
    return shade, {float(value): str(name) for name, value in size.sort_values().items()}, columns.label(colour)


def _kinds(table: pd.DataFrame, column: str | None, most: int) -> tuple[NDArray[np.intp], tuple[str, ...]]:
    """Which kind each row is by the values of a column, and the names of the kinds."""
    if column is None:
        return np.zeros(len(table), dtype=np.intp), ("",)
    kind, names = _classes(table[column])
    if len(names) > most:
        raise ValueError(f"column {column!r} has {len(names)} values; a figure shows at most {most}")
    return kind, names


def _classes(values: pd.Series) -> tuple[NDArray[np.intp], tuple[str, ...]]:
    """The kind of each value, from 0 in sorted order, and the names of the kinds.

    Numbers within 10 % of the next are one kind: rounding to whole steps gives epochs of 1.96, 1.98 and 2.
    """
    at, inverse = np.unique(
        values.fillna(0) if pd.api.types.is_numeric_dtype(values) else values.astype(str), return_inverse=True
    )
    if not np.issubdtype(at.dtype, np.number):
        return inverse, tuple(map(str, at))
    kind = np.concatenate([[0], np.cumsum(at[1:] > 1.1 * at[:-1])])
    largest = [float(at[kind == k].max()) for k in range(int(kind[-1]) + 1)]
    alone = np.bincount(kind) == 1
    return kind[inverse], tuple(f"{v:,.10g}" if one else short(v, 2) for v, one in zip(largest, alone, strict=True))


def _links(best: pd.DataFrame, by: list[str]) -> list[Line]:
    """A line through the best cells that agree in the columns `by`, in order of x."""
    return [
        chart.line(
            *(part["x"], part["y"]),
            style="link",
            shade=float(part["shade"].iloc[0]),
            dash=int(part["dash"].iloc[0]),
            group=str(part["group"].iloc[0]),
        )
        for _, part in best.sort_values("x", kind="stable").groupby(by, dropna=False)
        if len(part) > 1
    ]


def _runs(findings: Findings) -> Chart:
    colour = "model" if varies(findings.done, "model") else None
    return describe_runs(findings.done, y=findings.y, colour=colour, **_kinds_of(findings.done))


def _batch_sizes(findings: Findings) -> Chart:
    if not varies(findings.done, "batch_size"):
        raise FigureError("one batch size; a figure needs 2")
    return describe_runs(findings.done, x="batch_size", y=findings.y, **_kinds_of(findings.done))


def _kinds_of(done: pd.DataFrame) -> dict[str, Any]:
    return {"marker": few(done, "dataset_size", MOST_MARKERS), "line": few(done, "epochs", MOST_LINES, least=1)}


def _families(findings: Findings) -> Chart:
    names = list(dict.fromkeys(findings.done["family"]))
    if len(names) != 2:
        raise FigureError(f"{len(names)} families ({', '.join(names)}); the figure is of 2")
    comparison = findings.comparison
    ratios = [line for line in comparison.summary().splitlines() if " needs " in line]
    fits = {str(name).upper(): fit for name, fit in zip(comparison.names, comparison.fits, strict=True)}
    return describe_families(fits, annotation=tuple(textwrap.wrap(ratios[0], 52)) if ratios else ())


RUNS = Figure("Every run", _runs, whole=True)
BATCH_SIZE = Figure("Batch sizes", _batch_sizes, whole=True)
FAMILIES = Figure("Families side by side", _families, whole=True)
