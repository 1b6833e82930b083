"""Column names that this package expects, and the check that columns hold numbers."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

CELL, RUN, SEED, STEP = "cell_id", "run_id", "seed", "step"
COMPUTE = ("flops", "flops_paper", "flops_6nd", "budget", "seconds")
"""Columns that measure cost: more of it for a higher error is never better, so the frontier only falls."""

FREE_BESIDE = {
    "params": ("examples", "dataset_size"),
    "params_body": ("examples", "dataset_size"),
    "width": ("examples", "dataset_size"),
    "examples": ("params", "width"),
    "dataset_size": ("params", "width"),
}
"""Columns that vary together with a column along an isoFLOP curve, but not along an axis of a grid."""

LABELS: dict[str, str] = {
    "flops": "training compute C (FLOPs)",
    "flops_paper": "training compute C (FLOPs, the paper's count)",
    "flops_6nd": "training compute 6ND (FLOPs)",
    "budget": "compute budget C (FLOPs)",
    "params": "parameters N",
    "params_body": "body parameters N",
    "examples": "training examples D",
    "dataset_size": "distinct training examples",
    "epochs": "epochs",
    "steps": "steps",
    "seconds": "training time (s)",
    "width": "width",
    "depth": "depth",
    "lr": "learning rate",
    "batch_size": "batch size (examples)",
    "error": "test error",
    "loss": "test loss (nats)",
}
SYMBOLS: dict[str, str] = {
    "flops": "C",
    "flops_paper": "C",
    "flops_6nd": "C",
    "budget": "C",
    "params": "N",
    "params_body": "N",
    "examples": "D",
    "dataset_size": "D",
    "error": "E",
    "loss": "L",
}
_NAMED = 3
"""Rows that a message names; of more it tells how many."""


def label(column: str) -> str:
    """Axis label of a column with its unit; an unknown column is its own label."""
    return LABELS.get(column, column)


def symbol(column: str) -> str:
    """The letter that stands for a column in a formula; an unknown column is its own symbol."""
    return SYMBOLS.get(column, column)


def check(
    frame: pd.DataFrame | Mapping[str, Any], columns: Sequence[str], *, positive: bool = True
) -> tuple[pd.DataFrame, int]:
    """A clean copy of `frame` whose `columns` are finite floats, and how many rows were dropped.

    The last of `columns` is what was measured: rows where it is NaN or infinite (failed and diverged runs)
    are dropped and counted. The other columns must be there in every remaining row. The index is renumbered;
    other columns pass through untouched.

    Raises:
        ValueError: a column is missing (the nearest name is suggested), repeated, not numeric, holds gaps,
            or (with `positive`) values that are zero or negative.
    """
    table = frame.reset_index(drop=True) if isinstance(frame, pd.DataFrame) else pd.DataFrame(dict(frame))
    values = {name: _numbers(table, name) for name in columns}
    finite = np.isfinite(values[columns[-1]])
    for name in columns:
        _require_valid(table[finite], name, values[name][finite], positive=positive)
    clean = table.loc[finite].assign(**{name: column[finite] for name, column in values.items()})
    return clean.reset_index(drop=True), int(np.sum(~finite))


def require(frame: pd.DataFrame, name: str) -> None:
    """Raise a ValueError that suggests the nearest column when `frame` has no column `name`.

    Raises:
        ValueError: there is no such column, or more than one.
    """
    count = int(np.sum(frame.columns == name))
    if count > 1:
        raise ValueError(f"column {name!r} appears {count} times; keep one of them")
    if count == 1:
        return
    names = [str(column) for column in frame.columns]
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else f"the columns are {', '.join(names) or 'none'}"
    raise ValueError(f"no column {name!r}; {hint}")


def _numbers(frame: pd.DataFrame, name: str) -> NDArray[np.float64]:
    require(frame, name)
    column = frame[name]
    plain = pd.api.types.is_object_dtype(column)
    if pd.api.types.is_bool_dtype(column) or (
        plain and any(isinstance(value, bool | np.bool_) for value in column)
    ):
        raise ValueError(f"column {name!r} holds booleans; expected numbers")
    if getattr(column.dtype, "kind", "") in "mMc":
        raise ValueError(f"column {name!r} has type {column.dtype}; expected numbers")
    if not pd.api.types.is_numeric_dtype(column):
        texts = np.array([isinstance(value, str) for value in column], dtype=bool)
        if texts.any():
            found = f"column {name!r} holds text such as {column[texts].iloc[0]!r} in {which(frame, texts)}"
            raise ValueError(f"{found}; expected numbers")
    try:
        return np.asarray(pd.to_numeric(column).to_numpy(dtype=float, na_value=np.nan))
    except (TypeError, ValueError):
        raise ValueError(f"column {name!r} has type {column.dtype}; expected numbers") from None


def _require_valid(table: pd.DataFrame, name: str, values: NDArray[np.float64], *, positive: bool) -> None:
    gaps = ~np.isfinite(values)
    if gaps.any():
        rows = f"{gaps.sum()} of {values.size} rows ({which(table, gaps)})"
        raise ValueError(f"column {name!r} has no finite value in {rows}; fill or drop them")
    low = values <= 0
    if positive and low.any():
        rows = f"{low.sum()} of {values.size} rows ({which(table, low)})"
        kept = f"{name if name.isidentifier() else f'`{name}`'} > 0"
        remedy = f"""leave them out with frame.query("{kept}") or --where "{name} > 0\""""
        raise ValueError(
            f"column {name!r} is {values[low][0]:g} in {rows}; a law needs values > 0: correct them or {remedy}"
        )


def which(table: pd.DataFrame, chosen: NDArray[np.bool_]) -> str:
    """The first rows chosen, by their run where the table names it, else by their number from 0."""
    places = np.flatnonzero(chosen)
    named = RUN in table and table[RUN].notna().to_numpy()[places[:_NAMED]].all()
    names = [str(table[RUN].iloc[place]) for place in places[:_NAMED]] if named else places[:_NAMED].astype(str)
    what = ("run" if named else "row") + "s" * (len(names) > 1)
    return f"{what} {', '.join(names)}{f' and {places.size - _NAMED} more' if places.size > _NAMED else ''}"
