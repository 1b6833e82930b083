"""Numbers as people write them: 12.5 %, 1,2e9, 1 000 000, 125M, 3.1 PF-days; and which mark is the decimal one."""

from __future__ import annotations

import math
import re
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

MISSING = {
    *("", "na", "n/a", "n.a.", "#n/a", "<na>", "nan", "null", "none", "nil", "missing", "unknown", "tbd", "tba"),
    *("-", "--", "---", "\u2013", "\u2014", "?", ".", "...", "\u2026", "*", "/", "#div/0!", "#value!", "#ref!"),
}
"""Cells without a value, in lower case."""
_SPACES = " \u00a0\u2009\u202f'\u2019_"
_GROUPED = re.compile(rf"\d{{1,3}}([{_SPACES}])\d{{3}}(?:\1\d{{3}})*(?:[.,]\d+)?")
_CELL = re.compile(
    rf"(?P<sign>[+-]?)(?P<digits>[.,]?\d(?:[\d.,{_SPACES}]*\d)?[.,]?)"
    r"(?:e(?P<power>[+-]?\d+)|\s*[x\u00d7\u00b7*]\s*10\s*(?:\^|\*\*)\s*\{?(?P<ten>[+-]?\d+)\}?)?"
    r"\s*(?P<unit>%|[a-z][a-z /-]*)?",
    re.IGNORECASE,
)
_POWER = re.compile(r"(\d+)\s*(?:\^|\*\*)\s*\{?([+-]?\d+)\}?")
_BESIDE = re.compile(r"\s*(?:±|\+/-|\+-)\s*\S+$|\s+\([^()]*\)$")
_WORDS = {
    **dict.fromkeys(
        ("param", "params", "parameter", "parameters", "weights", "token", "tokens", "tok", "toks"), 1.0
    ),
    **dict.fromkeys(("example", "examples", "sample", "samples", "image", "images", "step", "steps"), 1.0),
    **dict.fromkeys(("epoch", "epochs", "flop", "flops", "nat", "nats", "bit", "bits", "nats/token"), 1.0),
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), 1.0),
    **dict.fromkeys(("min", "mins", "minute", "minutes"), 60.0),
    **dict.fromkeys(("h", "hr", "hrs", "hour", "hours"), 3600.0),
    **dict.fromkeys(("day", "days"), 86400.0),
    "ms": 1e-3,
    **dict.fromkeys(("pf-days", "pf-day", "pfs-days", "pflop/s-days", "petaflop/s-days"), 8.64e19),
}
"""Units that may follow a number, and what they are worth in the first of their kind."""
_PREFIXES = {
    **dict.fromkeys(("k", "thousand", "thousands"), 1e3),
    **dict.fromkeys(("m", "mn", "mio", "million", "millions"), 1e6),
    **dict.fromkeys(("b", "bn", "billion", "billions", "g"), 1e9),
    **dict.fromkeys(("t", "tn", "trillion", "trillions"), 1e12),
    "p": 1e15,
    "e": 1e18,
    "z": 1e21,
}
_LOOK = 2000
"""Cells of a column that its decimal mark is told by."""
_NEED_A_WORD = ("p", "e", "z")


class Numbers(NamedTuple):
    """The numbers of a column [n], NaN where there is none, and the places of texts that are no numbers."""

    numbers: NDArray[np.float64]
    texts: tuple[int, ...]

    @property
    def mostly(self) -> bool:
        """Whether half of the cells with a value, at least one, are numbers."""
        count = int(np.isfinite(self.numbers).sum())
        return count > 0 and count >= len(self.texts)


def parse(column: Sequence[str], decimal: str = ".") -> Numbers:
    """The numbers of a column whose decimal mark is `decimal` where a cell leaves that open."""
    values, texts = np.full(len(column), np.nan), []
    for place, cell in enumerate(column):
        if cell.strip().lower() in MISSING:
            continue
        if (value := number(cell, decimal)) is None:
            texts.append(place)
        else:
            values[place] = value
    return Numbers(values, tuple(texts))


def number(cell: str, decimal: str = ".") -> float | None:
    """The number that a cell holds, in units (12.5 % is 0.125, 125M is 1.25e8); None if it holds none."""
    if decimal == "." and (plain := _plain(cell)) is not None:
        return plain
    text = _bare(cell)
    if power := _POWER.fullmatch(text):
        return _finite(f"1e{int(power[2])}") if power[1] == "10" else float(power[1]) ** float(power[2])
    match = _CELL.fullmatch(text)
    unit = None if match is None else scale(match["unit"] or "")
    mantissa = None if match is None or unit is None else _mantissa(match["digits"], decimal)
    if match is None or unit is None or mantissa is None:
        return None
    value = _finite(f"{match['sign']}{mantissa}e{match['power'] or match['ten'] or 0}")
    return None if value is None else value * unit


def scale(unit: str) -> float | None:
    """What a unit multiplies by: 1 for none, 0.01 for %, 1e6 for M, 1e9 for "B tokens"; None if it is unknown."""
    text = unit.strip().lower()
    if text in ("", "%"):
        return 0.01 if text else 1.0
    if text in _WORDS:
        return _WORDS[text]
    for length in range(len(text), 0, -1):
        prefix, word = text[:length], text[length:].strip(" -")
        if prefix in _PREFIXES and (word in _WORDS if word else prefix not in _NEED_A_WORD):
            return _PREFIXES[prefix] * _WORDS.get(word, 1.0)
    return None


def decimals(columns: Mapping[str, Sequence[str]], delimiter: str) -> dict[str, str]:
    """The decimal mark of each column: as its own cells show, else as those of the other columns do.

    `1,234` alone leaves it open. It is a thousand where other cells of the column are whole numbers below 1000, or
    most end in 000; else the mark of the file decides, else a comma is a decimal one in a file of semicolons.
    """
    first = {name: cells[:_LOOK] for name, cells in columns.items()}
    certain = {name: mark for name, cells in first.items() if (mark := _certain(cells))}
    votes = Counter(certain.values()).most_common(1)
    return {name: certain.get(name) or _likely(cells, votes, delimiter) for name, cells in first.items()}


def _certain(cells: Sequence[str]) -> str:
    """The decimal mark that the cells of a column show; empty if they leave it open."""
    votes = Counter(mark for cell in cells if (mark := _shown(cell)))
    return votes.most_common(1)[0][0] if votes else ""


def _likely(cells: Sequence[str], votes: list[tuple[str, int]], delimiter: str) -> str:
    digits = [match["digits"] for cell in cells if (match := _CELL.fullmatch(_bare(cell)))]
    marked = [text for text in digits if "," in text or "." in text]
    if not marked:
        return "."
    mark = "," if "," in marked[0] else "."
    other = "." if mark == "," else ","
    whole = [text for text in digits if text.isdigit()]
    thousands = 2 * sum(text.endswith("000") for text in marked) >= len(marked)
    if thousands or (whole and all(len(text) < 4 for text in whole)):
        return other
    if votes:
        return votes[0][0]
    return "," if mark == "," and delimiter == ";" else "."


def _shown(cell: str) -> str:
    """The decimal mark that a cell shows; empty if it leaves it open."""
    match = _CELL.fullmatch(_bare(cell))
    marks = re.sub(r"[^.,]", "", match["digits"]) if match else ""
    if not match or not marks:
        return ""
    if len(set(marks)) == 2:
        return marks[-1]
    if len(marks) > 1:
        return "." if marks[0] == "," else ","
    before, _, after = match["digits"].partition(marks)
    grouped = len(after) == 3 and 1 <= len(before) <= 3 and not before.startswith("0")
    return "" if grouped and match["power"] is None else marks


def _mantissa(digits: str, decimal: str) -> str | None:
    """Digits with a point, without marks of thousands; None if they are grouped as no number is."""
    if set(digits) & set(_SPACES):
        if not _GROUPED.fullmatch(digits):
            return None
        return re.sub(f"[{_SPACES}]", "", digits).replace(",", ".")
    marks = re.sub(r"[^.,]", "", digits)
    if not marks:
        return digits
    kinds, last = set(marks), marks[-1]
    open_still = len(marks) == 1 and re.fullmatch(r"\d{1,3}[.,]\d{3}", digits)
    is_decimal = len(kinds) == 2 or (len(marks) == 1 and (last == decimal or not open_still))
    whole, fraction = digits.rsplit(last, 1) if is_decimal else (digits, "")
    groups = re.split("[.,]", whole)
    if len(groups) > 1 and not (1 <= len(groups[0]) <= 3 and all(len(group) == 3 for group in groups[1:])):
        return None
    return f"{''.join(groups) or 0}.{fraction or 0}"


def _bare(cell: str) -> str:
    """A cell without what surrounds its number: emphasis, signs of approximation, a deviation behind it."""
    text = cell.strip().strip("*$\"'").strip().replace("\u2212", "-").lstrip("~≈").strip()
    return _BESIDE.sub("", text)


def _plain(cell: str) -> float | None:
    """The number in a cell as programs write it; None for another cell. Most cells are such, and this is fast."""
    try:
        value = float(cell)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _finite(text: str) -> float | None:
    value = float(text)
    return value if math.isfinite(value) else None
