"""Results out of the table: an SQL condition on a frame, and the formats it can leave in."""

from __future__ import annotations

import sqlite3
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

_BRIEF = (
    *("sweep", "model", "dataset", "dataset_size", "lr", "seed", "state", "params", "examples", "flops"),
    *("error", "loss", "seconds"),
)
_ALLOWED = {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION}


class ExportError(ValueError):
    """A condition or a format that cannot be had; the message says why."""


def filtered(frame: pd.DataFrame, where: str) -> pd.DataFrame:
    """Rows of a frame that satisfy an SQL condition; ExportError where it is none.

    The condition is evaluated on a copy in memory under an authorizer that allows reading and nothing else.
    """
    if not where.strip():
        return frame
    with sqlite3.connect(":memory:") as memory:
        frame.reset_index(drop=True).to_sql("results", memory, index_label="_row")
        memory.set_authorizer(lambda action, *_: sqlite3.SQLITE_OK if action in _ALLOWED else sqlite3.SQLITE_DENY)
        try:
            kept = [row for (row,) in memory.execute(f"SELECT _row FROM results WHERE (\n{where}\n)")]  # noqa: S608
        except (sqlite3.Error, sqlite3.Warning) as error:
            raise ExportError(f"--where {where!r}: {error}; columns are {', '.join(frame.columns)}") from error
    if not set(kept) <= set(range(len(frame))):
        raise ExportError(f"--where {where!r}: this is more than a condition")
    return frame.iloc[kept]


def written(frame: pd.DataFrame, fmt: str, out: Path | None) -> None:
    """Write a frame as `table` (brief), `csv`, `json` (a list of rows) or `parquet`, to a file or stdout."""
    if fmt == "parquet":
        if out is None:
            raise ExportError("--format parquet needs --out FILE")
        try:
            frame.to_parquet(out)
        except ImportError as error:
            raise ExportError("parquet needs pyarrow: pip install 'isoflop[parquet]'") from error
        return
    if fmt == "csv":
        text = frame.to_csv(index=False)
    elif fmt == "json":
        text = frame.to_json(orient="records", indent=1) + "\n"
    else:
        brief = frame[[name for name in _BRIEF if name in frame] or list(frame.columns)]
        text = brief.to_string(index=False, na_rep="", float_format=lambda v: f"{v:.4g}") + "\n"
    if out is None:
        sys.stdout.write(text)
    else:
        out.write_text(text)
