"""Text for people: numbers with units, rows as aligned columns or an HTML table, the word that was meant."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def table(rows: Sequence[Mapping[str, Any]], total: Mapping[str, Any] | None = None) -> str:
    """Return rows as aligned columns under their names, numbers to the right, and `total` below a line."""
    if not rows:
        return ""
    body = _cells(rows, total)
    widths = [max(len(name), *(len(line[i]) for line in body)) for i, name in enumerate(rows[0])]
    right = [all(_numeric(line[i]) for line in body) for i in range(len(widths))]

    def line(cells: Sequence[str]) -> str:
        columns = zip(cells, widths, right, strict=True)
        return "  ".join(c.rjust(w) if r else c.ljust(w) for c, w, r in columns).rstrip()

    lines = [line(list(rows[0])), *map(line, body[: len(rows)])]
    if total:
        lines += ["-" * (sum(widths) + 2 * len(widths) - 2), line(body[-1])]
    return "\n".join(lines)


def fitting(rows: Sequence[Mapping[str, Any]], width: int, essential: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Return rows with the columns, in their order, whose `table` has at most `width` characters.

    The essential columns have the room first, then the others from left to right; what is too wide is left out.
    """
    if not rows:
        return []
    names = list(rows[0])
    room, chosen = width + 2, set[str]()
    for name in (*essential, *(name for name in names if name not in essential)):
        wide = 2 + max(len(name), *(len(str(row[name])) for row in rows)) if name in rows[0] else 0
        if wide <= room:
            chosen.add(name)
            room -= wide
    return [{name: row[name] for name in names if name in chosen} for row in rows]


def html_table(rows: Sequence[Mapping[str, Any]], total: Mapping[str, Any] | None = None) -> str:
    """Return rows as an HTML table, `total` as its foot."""
    if not rows:
        return ""

    def line(cells: Sequence[str], tag: str = "td") -> str:
        return "<tr>" + "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells) + "</tr>"

    body = _cells(rows, total)
    foot = f"<tfoot>{line(body[-1], 'th')}</tfoot>" if total else ""
    lines = "".join(map(line, body[: len(rows)]))
    return f"<table><thead>{line(list(rows[0]), 'th')}</thead><tbody>{lines}</tbody>{foot}</table>"


def escape(text: str) -> str:
    """Return text with the characters escaped that mean something in HTML."""
    from html import escape as escape_html

    return escape_html(text)


def _cells(rows: Sequence[Mapping[str, Any]], total: Mapping[str, Any] | None) -> list[list[str]]:
    return [[str(row.get(name, "")) for name in rows[0]] for row in [*rows, *([total] if total else [])]]


def _numeric(cell: str) -> bool:
    return not cell or cell[0] in "0123456789.-<?"


def nearest(word: str, words: Sequence[str], otherwise: str) -> str:
    """Return `did you mean 'width'?` where a word is like one of those that are valid, else all of these."""
    from difflib import get_close_matches

    close = get_close_matches(word.lower(), words, n=1)
    return f"did you mean {close[0]!r}?" if close else f"{otherwise} {', '.join(words)}"


def number(value: float | None, digits: int = 3) -> str:
    """Return a number to so many significant digits, as everywhere (`analysis.numbers`); `?` where not known."""
    from analysis.numbers import short

    return "?" if value is None else short(value, digits)


def flops(value: float) -> str:
    """Return FLOPs: `1.11e11`."""
    return number(value)


def count(number: int, noun: str, plural: str = "") -> str:
    """Return `1 run` or `3 runs`; `plural` where it is not the noun with an s."""
    return f"{number} {noun if number == 1 else plural or noun + 's'}"


def duration(seconds: float | None) -> str:
    """Return `40 ms`, `0.3 s`, `8 s`, `3 min 20 s`, `2 h 5 min` or `12 days`; `?` where it is not known."""
    if seconds is None:
        return "?"
    if 0 < seconds < 1:
        return f"{max(1, round(1e3 * seconds))} ms" if seconds < 0.1 else f"{seconds:.1g} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole} s" if whole < 60 else f"{whole // 60} min {whole % 60} s"
    if whole < 3 * 86400:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole / 86400:,.0f} days"


def cut(value: str, width: int) -> str:
    """Return a text of at most `width` characters, the last an ellipsis where it was longer."""
    return value if len(value) <= width else f"{value[: width - 1]}…"


def size(count: float) -> str:
    """Return bytes with a unit: `12 MB`."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= scale:
            return f"{number(count / scale)} {unit}"
    return f"{count:.0f} B"
