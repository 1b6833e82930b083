"""Any file of runs as a frame: CSV as it comes, Parquet, JSON lines, Excel, and the stores of trackers."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from analysis.table.foreign import text, trackers
from analysis.table.foreign.numbers import Numbers, decimals, parse
from analysis.table.foreign.text import ReadError, Sheet

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

SUFFIXES = (
    *(".csv", ".tsv", ".txt", ".dat", ".tab", ".psv", ".md", ".json", ".jsonl", ".ndjson"),
    *(".parquet", ".pq", ".xlsx", ".xls", ".gz", ".bz2", ".xz", ".zip"),
)
"""What the names of tables end in; the content decides how they are read."""
LINE = "line"
"""Name of the index of a table: where a row stands in its file."""
_WHOLE = 1e6
"""Whole numbers below this are integers; larger ones are floats, whose products do not overflow."""
_TENSORBOARD = re.compile(r"(?:run-)?(.+?)-tag-(.+)", re.DOTALL)


def read_table(path: str | Path) -> pd.DataFrame:
    """The table in a file or folder: numbers where most cells of a column are numbers, texts elsewhere.

    CSV, TSV and their relatives as they come: any delimiter, decimal commas, thousands marks, units (12.5 %, 1.2B),
    comments, a byte order mark, UTF-16, gzip. Parquet, JSON, JSON lines and Excel (with openpyxl). A store of
    MLflow (`mlruns`, `mlflow.db`), a folder of TensorBoard's event files, or a folder of tables, each one run.
    W&B's charts, one column per run, become one row per record.

    Returns:
        A frame with the columns of the file; its index `line` is the line of a row (in Excel, Parquet and JSON its
        number from 1). `attrs["notes"]` lists what was left out and how open numbers were read, and
        `attrs["texts"]` the first text without a number in each column of numbers: name -> (line, text).

    Raises:
        ReadError: it holds no table, or a package is missing; a ValueError.
        OSError: it cannot be read.
    """
    path = Path(path)
    try:
        frame = _of_folder(path) if path.is_dir() else _of_file(path)
    except ReadError as error:
        raise ReadError(f"{path}: {error}") from error
    if not len(frame):
        raise ReadError(f"{path}: it has no rows")
    return trackers.unprefixed(trackers.long(frame))


def is_table(path: str | Path) -> bool:
    """Whether a path is a file, or would be a table by its name, or is the folder of a tracker."""
    path = Path(path)
    if path.is_dir():
        return trackers.kind(path) != "" or any(map(_is_text_table, path.iterdir()))
    return path.is_file() or path.suffix.lower() in SUFFIXES


def _is_text_table(path: Path) -> bool:
    return path.is_file() and path.suffix.lower() in (".csv", ".tsv")


def _of_folder(path: Path) -> pd.DataFrame:
    if trackers.kind(path):
        return _typed(trackers.runs(path))
    files = sorted(filter(_is_text_table, path.iterdir()))
    if not files:
        raise ReadError("no table here; expected CSV files, MLflow's mlruns or TensorBoard's event files")
    parts = []
    for file in files:
        try:
            part = _of_file(file)
        except ReadError as error:
            raise ReadError(f"{file.name}: {error}") from error
        if match := _TENSORBOARD.fullmatch(file.stem):
            part = part.rename(columns={"Value": match[2]})
        parts.append(part.assign(run=match[1] if match else file.stem))
    return pd.concat(parts)


def _of_file(path: Path) -> pd.DataFrame:
    data = text.unpacked(path.read_bytes())
    if data.startswith(b"SQLite format 3\0"):
        return _typed(trackers.runs(path))
    if data.startswith(b"PAR1"):
        return _typed(_parquet(data))
    if data.startswith(b"PK\x03\x04") and path.suffix.lower() != ".zip":
        return _of_sheet(_excel(data), ".")
    if data.startswith(b"PK\x03\x04"):
        return _of_zip(data)
    content = text.decoded(data)
    if content.lstrip()[:1] in ("{", "["):
        return _typed(_json(content))
    return _of_sheet(text.sheet(content))


def _parquet(data: bytes) -> pd.DataFrame:
    try:
        return pd.read_parquet(io.BytesIO(data))
    except ImportError as error:
        raise ReadError("Parquet needs pyarrow: pip install pyarrow") from error
    except Exception as error:
        raise ReadError(f"it is no valid Parquet file ({error})") from error


def _excel(data: bytes) -> Sheet:
    """The first sheet that has cells."""
    try:
        sheets = pd.read_excel(io.BytesIO(data), header=None, sheet_name=None, dtype=object)
    except ImportError as error:
        raise ReadError("Excel needs openpyxl: pip install openpyxl, or save the sheet as CSV") from error
    except Exception as error:
        raise ReadError(f"it is no valid Excel file ({error})") from error
    cells = next((sheet for sheet in sheets.values() if len(sheet)), pd.DataFrame())
    rows = [(line, [_shown(cell) for cell in row]) for line, row in enumerate(cells.itertuples(index=False), 1)]
    return text.laid_out(rows)


def _shown(cell: object) -> str:
    return "" if pd.isna(cell) else str(cell).strip()  # type: ignore[call-overload]


def _of_zip(data: bytes) -> pd.DataFrame:
    from zipfile import BadZipFile, ZipFile

    try:
        with ZipFile(io.BytesIO(data)) as archive:
            names = [name for name in archive.namelist() if not name.endswith("/") and "__MACOSX" not in name]
            if len(names) != 1:
                raise ReadError(f"the archive holds {len(names)} files; expected one table")
            return _of_sheet(text.sheet(text.decoded(archive.read(names[0]))))
    except BadZipFile as error:
        raise ReadError(f"the archive is damaged ({error})") from error


def _json(content: str) -> pd.DataFrame:
    """A list of records, records line by line, or columns; nested values become `outer.inner`."""
    try:
        whole = json.loads(content)
    except json.JSONDecodeError:
        whole = []
        for line, record in enumerate(content.splitlines(), 1):
            try:
                whole += [json.loads(record)] if record.strip() else []
            except json.JSONDecodeError as error:
                raise ReadError(f"line {line}: it is no JSON ({error.msg})") from error
    try:
        if isinstance(whole, list):
            return pd.json_normalize(whole)
        if all(isinstance(value, dict | list) for value in whole.values()):
            return pd.DataFrame(whole)
    except (AttributeError, NotImplementedError, TypeError, ValueError) as error:
        raise ReadError(f"it is JSON, but no table ({error}); expected a list of records") from error
    return pd.json_normalize([whole])


def _of_sheet(table: Sheet, decimal: str = "") -> pd.DataFrame:
    """The frame of a table of texts. `decimal` is its mark; by default the cells show it."""
    columns = table.columns()
    marks = dict.fromkeys(columns, decimal) if decimal else decimals(columns, table.delimiter)
    parsed = {name: parse(cells, marks[name]) for name, cells in columns.items()}
    lines = np.array(table.lines)
    frame = pd.DataFrame(
        {name: _column(cells, parsed[name]) for name, cells in columns.items()}, index=pd.Index(lines, name=LINE)
    )
    numeric = [name for name in columns if parsed[name].mostly]
    opened = [
        f"{cell!r} in {name!r} is read as {value:g}"
        for name in numeric
        for cell, value in [_open_cell(columns[name], parsed[name].numbers)]
        if cell
    ]
    frame.attrs["notes"] = (*table.notes, *opened)
    frame.attrs["texts"] = _texts({name: (columns[name], parsed[name]) for name in numeric}, lines)
    return frame


def _typed(frame: pd.DataFrame) -> pd.DataFrame:
    """A frame whose columns of texts are numbers where most of their cells are."""
    frame = frame.reset_index(drop=True)
    frame.columns = pd.Index([str(name) for name in frame.columns])
    lines = np.arange(1, len(frame) + 1)
    frame = frame.set_index(pd.Index(lines, name=LINE))
    read: dict[str, tuple[Sequence[str], Numbers]] = {}
    for name in frame.columns[[not pd.api.types.is_numeric_dtype(kind) for kind in frame.dtypes]]:
        values = frame[name].tolist()
        if any(not isinstance(v, str | int | float | None) or isinstance(v, bool) for v in values):
            continue
        cells = ["" if v is None or v != v else str(v) for v in values]  # noqa: PLR0124 - NaN
        parsed = parse(cells)
        if parsed.mostly:
            read[name] = (cells, parsed)
            frame[name] = parsed.numbers
    frame.attrs["notes"], frame.attrs["texts"] = (), _texts(read, lines)
    return frame


def _column(cells: Sequence[str], parsed: Numbers) -> Any:
    if not parsed.mostly:
        return pd.Series([cell or None for cell in cells], dtype="object").to_numpy()
    whole = np.isfinite(parsed.numbers).all() and np.all(parsed.numbers == np.round(parsed.numbers))
    return parsed.numbers.astype(np.int64) if whole and np.all(np.abs(parsed.numbers) < _WHOLE) else parsed.numbers


def _texts(read: dict[str, tuple[Sequence[str], Numbers]], lines: NDArray[np.int_]) -> dict[str, tuple[int, str]]:
    return {
        name: (int(lines[parsed.texts[0]]), cells[parsed.texts[0]])
        for name, (cells, parsed) in read.items()
        if parsed.texts
    }


def _open_cell(cells: Sequence[str], values: NDArray[np.float64]) -> tuple[str, float]:
    """A cell such as 1,234 or 1.234 that was taken for 1234, or 1,234 for 1.234."""
    for cell, value in zip(cells, values, strict=True):
        if re.fullmatch(r"[+-]?\d{1,3}(,\d{3}|\.\d{3})", cell) and value != float(f"{cell.replace(',', '_')}"):
            return cell, value
        if re.fullmatch(r"[+-]?\d{1,3},\d{3}", cell):
            return cell, value
    return "", 0.0
