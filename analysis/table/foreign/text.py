"""Text files as rows of cells: compression, encoding, delimiter, header, comments, and the line of every row."""

from __future__ import annotations

import bz2
import codecs
import csv
import gzip
import io
import lzma
import re
import zlib
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING
from unicodedata import category

from analysis.table.foreign.numbers import number

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

DELIMITERS = ("\t", ";", ",", "|", " ")
"""In order of preference; a blank stands for any white space."""
_LOOK = 500
"""Rows that the delimiter is told by."""
_PACKED = ((b"\x1f\x8b", gzip.decompress), (b"BZh", bz2.decompress), (b"\xfd7zXZ\x00", lzma.decompress))
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    *((codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32")),
    *((codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16")),
)
_COMMENT = re.compile(r"\s*(#|//|%)")
_RULE = re.compile(r"[-=:+|\s]*")


class ReadError(ValueError):
    """A file or folder that is no table, or whose columns are not clear; the message says which and why."""


Row = tuple[int, list[str]]
"""The line of a row in its file, from 1, and its cells."""


@dataclass(frozen=True)
class Sheet:
    """A table of texts.

    Attributes:
        names: of the columns, as they stand in the file.
        rows: cells [rows][columns].
        lines: the line of each row in the file, from 1.
        delimiter: between cells, a blank for any white space; empty where the file has typed cells.
        notes: what was left out.
    """

    names: list[str]
    rows: list[list[str]]
    lines: list[int]
    delimiter: str = ""
    notes: tuple[str, ...] = ()

    def columns(self) -> dict[str, list[str]]:
        """Name -> cells; of columns with one name the later ones have a number."""
        columns: dict[str, list[str]] = {}
        for place, name in enumerate(self.names):
            cells, key, again = [row[place] for row in self.rows], name, 1
            while key in columns and columns[key] != cells:
                key, again = f"{name}.{again}", again + 1
            columns[key] = cells
        return columns


def unpacked(data: bytes) -> bytes:
    """The content of a gzip, bzip2 or xz file; other data unchanged. ReadError if it is damaged."""
    for magic, unpack in _PACKED:
        if data.startswith(magic):
            try:
                return unpack(data)
            except (OSError, EOFError, lzma.LZMAError, zlib.error, ValueError) as error:
                raise ReadError(f"the compressed data are damaged ({error})") from error
    return data


def decoded(data: bytes) -> str:
    """The text of a file: by its byte order mark, else UTF-8, else UTF-16 by its zeros, else Windows-1252.

    Raises:
        ReadError: it is not text.
    """
    encoding = next((name for mark, name in _MARKS if data.startswith(mark)), "")
    if not encoding and b"\0" in data[:4096]:
        even, odd = data[:4096:2].count(0), data[1:4096:2].count(0)
        encoding = "utf-16-le" if odd > 4 * even else "utf-16-be" if even > 4 * odd else ""
    for name in [encoding] if encoding else ["utf-8", "cp1252", "latin-1"]:
        try:
            text = data.decode(name)
        except UnicodeDecodeError:
            continue
        strange = sum(category(sign) in ("Cc", "Cn", "Co") and sign not in "\t\n\r\f\v" for sign in text[:4096])
        if strange * 50 <= len(text[:4096]):
            return text.lstrip("\ufeff")
        break
    raise ReadError("it is not text; expected a table as CSV, TSV, JSON lines, Parquet or Excel")


def sheet(text: str) -> Sheet:
    """The table in a text.

    Raises:
        ReadError: there is none: no rows, a single column, or no header.
    """
    lines = list(io.StringIO(text, newline=None))
    first = lines[0].strip().lower() if lines else ""
    declared = first[4:5] if first.startswith("sep=") else ""
    lines[:1] = ["\n"] if declared else lines[:1]
    comments = [(place, line) for place, line in enumerate(lines, 1) if _COMMENT.match(line)]
    shown = ["\n" if _COMMENT.match(line) else line for line in lines]
    if not any(line.strip() for line in shown):
        raise ReadError("it has no rows")
    delimiter = declared if declared in DELIMITERS and declared else _delimiter(shown)
    rows = list(_cells(shown, delimiter))
    named = [(place, cells) for place, line in comments for _, cells in _cells([line.lstrip("# %/")], delimiter)]
    return laid_out(rows, delimiter, named)


def laid_out(rows: Sequence[Row], delimiter: str = "", comments: Sequence[Row] = ()) -> Sheet:
    """The table in rows of cells: its header found, other lines left out with a note.

    A header in a comment counts where no other line is one.

    Raises:
        ReadError: as for `sheet`.
    """
    rows = [(line, _trimmed(cells)) for line, cells in rows]
    rows = [(line, cells) for line, cells in rows if any(cells) and not all(map(_is_rule, cells))]
    width = _width(rows)
    if width < 2:
        raise ReadError("it has a single column; expected cells separated by commas, semicolons, tabs or blanks")
    start, names = _header(rows, width, comments)
    body = [row for row in rows[start:] if row[1] != names]
    fitting = [(line, cells) for line, cells in body if len(cells) <= len(names)]
    if not fitting:
        raise ReadError("it has a header and no rows")
    notes = [f"{len(rows) - start - len(body)} repeated headers left out"] if len(body) < len(rows) - start else []
    if long := [(line, len(cells)) for line, cells in body if len(cells) > len(names)]:
        what = f"{len(long)} of {len(body)} rows" if len(long) > 1 else "a row"
        notes.append(f"{what} left out with {long[0][1]} cells instead of {len(names)} (line {long[0][0]})")
    if 2 * len(long) > len(body):
        raise ReadError(
            f"line {long[0][0]} has {long[0][1]} cells, the header {len(names)}; quote cells with commas"
        )
    cells = [[*row, *[""] * (len(names) - len(row))] for _, row in fitting]
    return _without_counter(Sheet(names, cells, [line for line, _ in fitting], delimiter, tuple(notes)))


def _header(rows: Sequence[Row], width: int, comments: Sequence[Row]) -> tuple[int, list[str]]:
    """The place of the first row below the header, and the names of the columns.

    The header is the first row as wide as most that holds no number, or one cell less where rows have names.
    """
    for place, (line, cells) in enumerate(rows):
        numeric = [cell for cell in cells if number(cell) is not None]
        if len(cells) >= width - 1 and not numeric:
            short = len(cells) == width - 1
            named = short and all(len(row) == width for _, row in rows[place + 1 :])
            if short and not named and len(cells) < 2:
                continue
            return place + 1, ["", *cells] if named else [*cells, *[""] * (width - len(cells))]
        if len(cells) == width and numeric:
            above = [names for _, cells in comments if len(names := _trimmed(cells)) == width]
            if above and not any(number(cell) is not None for cell in above[-1]):
                return place, above[-1]
            raise ReadError(
                f"line {line}: the first row, {', '.join(cells[:3])}, holds numbers; expected a header with names"
            )
    raise ReadError("it has no header with the names of its columns")


def _without_counter(table: Sheet) -> Sheet:
    """The table without columns that have no name and no cells, or that only count its rows."""

    def counts(place: int) -> bool:
        if table.names[place].lower() not in ("", "#", "index", "unnamed: 0", "row", "no", "no."):
            return False
        values = [row[place] for row in table.rows]
        first = int(values[0]) if values[0].isdigit() else -1
        return values == [str(first + k) for k in range(len(values))]

    def empty(place: int) -> bool:
        return not table.names[place] and not any(row[place] for row in table.rows)

    keep = [place for place in range(len(table.names)) if not counts(place) and not empty(place)]
    names = [table.names[place] or f"column {place + 1}" for place in keep]
    return Sheet(names, [[row[k] for k in keep] for row in table.rows], table.lines, table.delimiter, table.notes)


def _delimiter(lines: Sequence[str]) -> str:
    """The delimiter by which most rows have one width, below a header without numbers."""
    best, of = (False, 0.0), ""
    for delimiter in DELIMITERS:
        try:
            rows = [(line, _trimmed(cells)) for line, cells in _cells(lines[:_LOOK], delimiter)]
        except csv.Error:
            continue
        width = _width(rows)
        if width < 2:
            continue
        head = next(cells for _, cells in rows if len(cells) >= width)
        named = not any(number(cell) is not None for cell in head)
        share = sum(len(cells) == width for _, cells in rows) / len(rows)
        if (score := (named, round(share, 1))) > best:
            best, of = score, delimiter
    if not of:
        raise ReadError("it has a single column; expected cells separated by commas, semicolons, tabs or blanks")
    return of


def _cells(lines: Iterable[str], delimiter: str) -> Iterator[Row]:
    """The line and the cells of every row that is not blank. ReadError if a quote does not end."""
    if delimiter == " ":
        lines = (" ".join(line.split()) for line in lines)
    reader, began = csv.reader(lines, delimiter=delimiter, skipinitialspace=True), 1
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                yield began, [cell.strip() for cell in cells]
            began = reader.line_num + 1
    except csv.Error as error:
        raise ReadError(f"line {reader.line_num}: {error}") from error


def _trimmed(cells: list[str]) -> list[str]:
    """Cells without empty ones at the end, and without the empty one before the first bar of a Markdown table."""
    end = len(cells)
    while end and not cells[end - 1]:
        end -= 1
    return cells[:end]


def _is_rule(cell: str) -> bool:
    """Whether a cell belongs to a line of dashes, as below the header of a Markdown table."""
    return cell == "" or (len(cell) > 2 and bool(_RULE.fullmatch(cell)))


def _width(rows: Sequence[Row]) -> int:
    """The most frequent number of cells; the larger one of two that are as frequent."""
    counts = Counter(len(cells) for _, cells in rows)
    return max(counts, key=lambda width: (counts[width], width), default=0)
