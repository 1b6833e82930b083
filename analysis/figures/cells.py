"""The points of a figure: one per cell, the mean of its seeds, with a name that distinguishes it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from analysis.figures import chart
from analysis.numbers import short
from analysis.table import columns, seeds

if TYPE_CHECKING:
    from numpy.typing import NDArray

NAMING = (
    *("sweep", "model", "family", "dataset", "dataset_size", "epochs", "examples", "batch_size", "lr", "optimizer"),
    *("weight_decay", "schedule", "augment", "stage"),
)
"""Columns that name a cell if they vary."""
_IDS = 3


def cell_points(table: pd.DataFrame, x: str, y: str, shade: NDArray[np.float64] | None = None) -> pd.DataFrame:
    """The cells of a checked table as `Chart.points`, with `sd` and `seeds`, in order of first appearance.

    `low` and `high` are one standard deviation of the seeds about the mean, as a factor. `shade` [rows] must be
    constant inside cells; that of the first row is used.
    """
    cell = seeds.cell_index(table)
    first = np.unique(cell, return_index=True)[1]
    averaged = seeds.average_seeds(table, y)
    mean, sd = averaged[y].to_numpy(dtype=float), averaged[f"{y}_sd"].to_numpy(dtype=float)
    return chart.points(
        seeds.cell_means(cell, table[x].to_numpy(dtype=float)),
        mean,
        low=mean / (1 + sd / mean),
        high=mean * (1 + sd / mean),
        shade=np.full(len(mean), np.nan) if shade is None else shade[first],
        name=_names(table, cell, first),
        group=table["model"].iloc[first].astype(str) if "model" in table else "",
    ).assign(sd=sd, seeds=averaged["seeds"].to_numpy())


def varies(frame: pd.DataFrame, column: str) -> bool:
    """Whether a frame has a column with two values or more; a missing value counts as one."""
    return column in frame and len(frame[column].unique()) > 1


def _names(table: pd.DataFrame, cell: NDArray[np.intp], first: NDArray[np.intp]) -> list[str]:
    """`B-1/Wi-64, dataset_size 360, 5 seeds, runs 1a2b3c4d 5e6f7a8b and 3 more` of each cell."""
    naming = [name for name in NAMING if name in table and (name == "model" or varies(table, name))]
    values = [[_text(name, value) for name, value in row.items()] for row in _rows(table.iloc[first][naming])]
    parts = [values, [[f"{n} seeds"] if n > 1 else [] for n in np.bincount(cell)]]
    if columns.RUN in table:
        parts.append([[_runs(ids)] for ids in table[columns.RUN].astype(str).str[:8].groupby(cell).unique()])
    return [", ".join(word for words in row for word in words if word) for row in zip(*parts, strict=True)]


def _runs(ids: NDArray[np.object_]) -> str:
    more = f" and {len(ids) - _IDS} more" if len(ids) > _IDS else ""
    return f"{'runs' if len(ids) > 1 else 'run'} {' '.join(ids[:_IDS])}{more}"


def _rows(frame: pd.DataFrame) -> list[dict[str, object]]:
    return [dict(zip(frame.columns, row, strict=True)) for row in frame.itertuples(index=False)]


def _text(name: str, value: object) -> str:
    if pd.isna(value):  # type: ignore[call-overload]
        return ""
    if name in ("model", "sweep", "family", "dataset"):
        return str(value)
    return f"{name} {short(value, 6)}" if isinstance(value, float | np.floating) else f"{name} {value}"
