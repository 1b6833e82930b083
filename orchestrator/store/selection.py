"""Rows of results in order, the best of them, and means over groups."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.store.columns import METRIC_COLUMNS, require

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

_SPREAD = ("error", "val_error", "loss", "val_loss")


def in_order(frame: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Return the rows in order of some columns, a leading `-` for falling values; missing values come last."""
    names = [name.removeprefix("-") for name in by]
    require(names, list(map(str, frame.columns)), "sort")
    rising = [not name.startswith("-") for name in by]
    return frame.sort_values(names, ascending=rising, kind="stable", na_position="last")


def best(frame: pd.DataFrame, number: int, y: str = "error") -> pd.DataFrame:
    """Return the finished runs, or groups of runs, with the lowest `y`, at most so many, the best first."""
    require([y], list(map(str, frame.columns)), "y")
    done = frame[frame["state"] == "done"] if "state" in frame else frame
    return done.dropna(subset=[y]).sort_values(y, kind="stable").head(number)


def group_means(frame: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Return a row for each group of finished runs: their number `n`, and means of what was measured.

    Errors and losses have their standard deviation beside them (`error_sd`), which is missing for a single run.
    Groups are in the order of their first runs.
    """
    require(by, list(map(str, frame.columns)), "group-by")
    done = frame[frame["state"] == "done"]
    names = [name for name in dict.fromkeys((*_SPREAD, *METRIC_COLUMNS)) if name in done and name not in by]
    measured = [name for name in names if done[name].notna().any()]
    groups = done.groupby(list(by), sort=False, dropna=False)
    rows = groups.size().rename("n").to_frame()
    for name in measured:
        rows[name] = groups[name].mean()
        if name in _SPREAD:
            rows[f"{name}_sd"] = groups[name].std()
    return rows.reset_index()
