"""A table ready to be fitted: columns checked, centred and weighted, and the clusters that are resampled."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from analysis.table import columns, seeds
from analysis.table.rows import measured

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd

    from analysis.table.options import Options

Array = NDArray[np.float64]
_PRIOR_SEEDS = 4.0
"""Degrees of freedom of the pooled deviation, against those of a cell's own seeds."""


@dataclass(frozen=True)
class Data:
    """A table ready to be fitted: logarithms from their centre, weights and precision, sorted by inputs."""

    x: Array
    y: Array
    centre_x: Array
    centre_y: float
    weights: Array
    precision: Array
    cluster: NDArray[np.intp]
    points: pd.DataFrame
    dropped: int
    notes: tuple[str, ...] = ()
    pool: bool = False
    populations: Mapping[str, float] | None = None
    """Column that splits the table, as `groups.listed` -> `groups.share_law`; None: not tested yet."""

    def rows(self, keep: NDArray[np.bool_]) -> Data:
        """Some of the rows, centred anew."""
        x, y = self.x[:, keep], self.y[keep]
        return replace(
            self,
            x=x,
            y=y,
            centre_x=np.log(x).mean(axis=1),
            centre_y=float(np.median(np.log(y))),
            weights=self.weights[keep],
            precision=self.precision[keep],
            cluster=np.unique(self.cluster[keep], return_inverse=True)[1],
            points=self.points.loc[keep].reset_index(drop=True),
        )

    @cached_property
    def distinct(self) -> int:
        """Number of distinct points of the inputs."""
        return int(np.unique(self.x, axis=1).shape[1])

    @property
    def clusters(self) -> int:
        """Number of units that are resampled."""
        return int(self.cluster.max()) + 1

    @property
    def logs(self) -> Array:
        """Logarithms of the inputs from their centre, [k, n]."""
        return np.log(self.x) - self.centre_x[:, None]

    @property
    def log_y(self) -> Array:
        """Logarithms of y from their median, [n]."""
        return np.asarray(np.log(self.y) - self.centre_y)


def read(frame: pd.DataFrame | Mapping[str, Any], x: Sequence[str], y: str, options: Options) -> Data:
    """The columns of a table checked, sorted and centred.

    Raises:
        ValueError: a column is missing or unfit, or no row has a finite `y`.
    """
    extra = [name for name in (options.weights,) if name]
    table, dropped, notes = measured(frame, [*x, *extra, y], run=options.run, cell=options.cell)
    _require_below(options, table[y])
    table = table.sort_values(
        [*x, y], kind="stable", ignore_index=True
    )  # the result must not depend on the order of rows
    at = table[list(x)].to_numpy(dtype=float).T.copy()
    values = table[y].to_numpy(dtype=float)
    cluster, cautions = _clusters(table, y, options.by)
    weights = table[options.weights].to_numpy(dtype=float) if options.weights else np.ones(values.size)
    return Data(
        x=at,
        y=values,
        centre_x=np.log(at).mean(axis=1),
        centre_y=float(np.median(np.log(values))),
        weights=weights / weights.mean(),
        precision=_precision(table, y, options),
        cluster=cluster,
        points=table,
        dropped=dropped,
        notes=(*cautions, *notes),
        pool=options.pool,
    )


def _require_below(options: Options, y: pd.Series) -> None:
    """Raise a ValueError if a floor was set above everything that was measured."""
    constraints, largest = options.constraints, float(y.max())
    floor = constraints.fix.get("floor", constraints.bounds.get("floor", (0.0, 0.0))[0])
    if floor >= largest:
        raise ValueError(f"'floor' cannot be {floor:g}; the largest {y.name!r} is {largest:g}")


def _clusters(table: pd.DataFrame, y: str, by: str) -> tuple[NDArray[np.intp], tuple[str, ...]]:
    """The cluster of each row, [n] from 0, and warnings about the clusters."""
    runs = seeds.cluster_index(table)
    if by == "seed":
        return runs, _single(table, y)
    one_run = len(table) > 1 and runs.max() == 0
    if by == "auto" and not one_run:
        return _apart(table, y, runs)
    cluster = np.arange(len(table)) if by in ("auto", "row") else _column(table, by)
    split = np.unique(np.stack([runs, cluster]), axis=1).shape[1] > runs.max() + 1
    text = "records of one run are resampled as if they were independent: the intervals are too narrow"
    return cluster, (text,) if split else ()


def _apart(table: pd.DataFrame, y: str, runs: NDArray[np.intp]) -> tuple[NDArray[np.intp], tuple[str, ...]]:
    """Runs as clusters; or cells, with a warning, where all repeats are equal: they are no more than one run."""
    cell = seeds.cell_index(table)
    repeated = runs.max() + 1 == len(table) > cell.max() + 1
    if not (repeated and seeds.are_equal(cell, table[y].to_numpy(dtype=float))):
        return runs, ()
    return cell, (f"repeats are exactly equal and count as one run: {seeds.EQUAL}",)


def _column(table: pd.DataFrame, by: str) -> NDArray[np.intp]:
    columns.require(table, by)
    return np.asarray(table.groupby(by, sort=False, dropna=False).ngroup().to_numpy(), dtype=np.intp)


def _single(table: pd.DataFrame, y: str) -> tuple[str, ...]:
    """A warning if cells without repeats leave their noise unknown.

    Raises:
        ValueError: the repeats of every cell are equal.
    """
    cell, values = seeds.cell_index(table), table[y].to_numpy(dtype=float)
    count = np.bincount(cell)
    if count.max() > 1 and seeds.are_equal(cell, values):
        raise ValueError(f"by is 'seed' and the repeats of every cell have exactly equal {y!r}: {seeds.EQUAL}")
    if count.min() > 1:
        return ()
    return (f"{np.sum(count == 1)} of {count.size} cells have one run: the noise of their seeds cannot be drawn",)


def _precision(table: pd.DataFrame, y: str, options: Options) -> Array:
    """One over the relative (or raw) deviation of each row, from its geometric mean: [n]."""
    if options.sd is None:
        return np.ones(len(table))
    columns.require(table, options.sd)
    scale = table[y].to_numpy(dtype=float) if options.residuals == "log" else 1.0
    variance = (table[options.sd].to_numpy(dtype=float, na_value=np.nan) / scale) ** 2
    finite = np.isfinite(variance)
    if not finite.any() or not np.max(variance[finite]) > 0:
        raise ValueError(f"column {options.sd!r} holds no standard deviation > 0; leave `sd` out")
    spare = np.where(finite, _spare(table), 0.0)
    pooled = float(np.average(variance[finite], weights=spare[finite]))
    moderate = (_PRIOR_SEEDS * pooled + spare * np.where(finite, variance, 0.0)) / (_PRIOR_SEEDS + spare)
    logs = np.log(np.maximum(moderate, 1e-4 * pooled))
    return np.asarray(np.exp(-0.5 * (logs - logs.mean())))


def _spare(table: pd.DataFrame) -> Array:
    """Degrees of freedom of each standard deviation; without a column `seeds`, so many that none is moderated."""
    if "seeds" not in table:
        return np.full(len(table), 1e9)
    return np.maximum(table["seeds"].to_numpy(dtype=float) - 1.0, 1e-9)
