"""Rows of a frame by an SQL condition, and the formats in which results are written."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import sys
import time
from typing import TYPE_CHECKING, Any

from analysis.table.columns import LABELS
from orchestrator.store.engine import name_of, path_of
from orchestrator.store.schema import metadata
from trainer.errors import UserError
from trainer.host import installation
from trainer.spec import SETTINGS

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

_FUNCTIONS = {
    *("abs", "avg", "ceil", "coalesce", "count", "exp", "floor", "glob", "ifnull", "iif", "instr", "length"),
    *("like", "ln", "log", "log10", "log2", "lower", "max", "min", "mod", "nullif", "pow", "power", "round"),
    *("sign", "sqrt", "substr", "sum", "total", "trim", "typeof", "upper"),
}
_LIMITS = {
    sqlite3.SQLITE_LIMIT_LENGTH: 1_000_000,
    sqlite3.SQLITE_LIMIT_SQL_LENGTH: 10_000,
    sqlite3.SQLITE_LIMIT_EXPR_DEPTH: 100,
    sqlite3.SQLITE_LIMIT_COMPOUND_SELECT: 2,
    sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH: 100,
    sqlite3.SQLITE_LIMIT_ATTACHED: 0,
}
LONGEST = 10.0
"""Seconds that a condition may take."""


FORMATS = ("table", "csv", "json", "parquet", "duckdb", "datasette")


class ExportError(UserError, ValueError):
    """An invalid condition, or a format that is not available; the message says why."""


def filtered(frame: pd.DataFrame, where: str) -> pd.DataFrame:
    """The rows of a frame that satisfy an SQL condition. Raises ExportError if it is not a valid condition.

    It is evaluated on a copy in memory, with an authorizer that allows only reading that copy and some functions,
    and with limits on its size and time.
    """
    if not where.strip():
        return frame
    with contextlib.closing(sqlite3.connect(":memory:")) as memory:
        _flat(frame).reset_index(drop=True).to_sql("results", memory, index_label="_row")
        for limit, most in _LIMITS.items():
            memory.setlimit(limit, most)
        memory.set_authorizer(_allowed)
        latest = time.monotonic() + LONGEST
        memory.set_progress_handler(lambda: time.monotonic() > latest, 10_000)
        try:
            kept = [row for (row,) in memory.execute(f"SELECT _row FROM results WHERE (\n{where}\n)")]  # noqa: S608
        except (sqlite3.Error, sqlite3.Warning, MemoryError) as error:
            why = (
                f"it takes longer than {LONGEST:g} s"
                if str(error) == "interrupted"
                else " ".join(str(error).split())
            )
            raise ExportError(f"--where {where!r}: {why}; columns are {', '.join(frame.columns)}") from error
    if not set(kept) <= set(range(len(frame))):
        raise ExportError(f"--where {where!r}: this is more than a condition")
    return frame.iloc[kept]


def _flat(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with lists (of sweeps) as text, "one, two": for formats whose cells hold single values."""
    texts = [name for name in frame if frame[name].dtype == object]
    lists = [name for name in texts if frame[name].map(lambda value: isinstance(value, list)).any()]
    return frame.assign(**{str(name): frame[name].map(", ".join) for name in lists})


def _allowed(action: int, what: str | None, name: str | None, *_: object) -> int:
    fine = (
        action == sqlite3.SQLITE_SELECT
        or (action == sqlite3.SQLITE_READ and what == "results")
        or (action == sqlite3.SQLITE_FUNCTION and str(name).lower() in _FUNCTIONS)
    )
    return sqlite3.SQLITE_OK if fine else sqlite3.SQLITE_DENY


def written(frame: pd.DataFrame, fmt: str, out: Path | None, name: str = "runs") -> None:
    """Write a frame in one of FORMATS, to a file or stdout; in a DuckDB database it becomes the table `name`.

    `json` is a list of rows. JSON, parquet and DuckDB keep a list of sweeps as a list, the others
    write it as text.
    """
    if fmt == "duckdb":
        _write_duckdb(frame, out, name)
        return
    if fmt == "parquet":
        if out is None:
            raise ExportError("--format parquet needs --out FILE")
        try:
            frame.to_parquet(out)
        except ImportError as error:
            raise ExportError(f"parquet needs pyarrow; run: {installation.install_extra('parquet')}") from error
        return
    csv = fmt == "csv"
    text = _flat(frame).to_csv(index=False) if csv else frame.to_json(orient="records", indent=1) + "\n"
    if out is None:
        sys.stdout.write(text)
    else:
        out.write_text(text)


def _write_duckdb(frame: pd.DataFrame, out: Path | None, name: str) -> None:
    if out is None:
        raise ExportError("--format duckdb needs --out FILE")
    try:
        import duckdb
    except ImportError as error:
        raise ExportError(f"duckdb is missing; run: {installation.install_extra('duckdb')}") from error
    try:
        with duckdb.connect(str(out)) as database:
            database.register("_frame", frame)
            database.execute(f'CREATE OR REPLACE TABLE "{name}" AS SELECT * FROM _frame')  # noqa: S608 - our name
    except duckdb.Error as error:
        raise ExportError(f"{out}: {' '.join(str(error).split())}") from error


def write_metadata(store: str, out: Path | None) -> None:
    """Write Datasette's metadata of a SQLite store: what its columns mean, with units; to a file or stdout."""
    path = path_of(store)
    if path is None:
        raise ExportError(f"--format datasette needs a SQLite file; {name_of(store)} is none")
    tables: dict[str, dict[str, Any]] = {
        "runs": {"title": "Runs", "description": "one row a run", "facets": ["state", "model", "dataset"]},
        "history": {"title": "Records", "description": "the metrics of each run as it trained"},
        "attempts": {"title": "Attempts", "description": "who trained what and when, and how it ended"},
    }
    for name, table in tables.items():
        table["columns"] = {
            column.name: text for column in metadata.tables[name].c if (text := _meaning(column.name))
        }
    whole = {"title": "Results of isoflop", "databases": {path.stem: {"tables": tables}}}
    text = json.dumps(whole, indent=1) + "\n"
    if out is None:
        sys.stdout.write(text)
    else:
        out.write_text(text)


def _meaning(column: str) -> str:
    """What a column means: its label with a unit, or what a sweep file's reference says of it."""
    if column in LABELS:
        return LABELS[column]
    return SETTINGS[column].doc if column in SETTINGS else ""
