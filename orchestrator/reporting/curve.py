"""A curve as text: log axes, dots of Unicode's braille patterns, two by four in a character."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING

from orchestrator.text import number

if TYPE_CHECKING:
    from collections.abc import Sequence

_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
"""Bits of a braille pattern by row and column."""


def curve(points: Sequence[tuple[float, float]], x: str, y: str, width: int = 72, height: int = 10) -> list[str]:
    """Return lines of text that show a curve through points on log axes, named `x` and `y` with their ends.

    Points that are not positive are left out; without two different x there is no curve, and no line.
    """
    logs = sorted((math.log10(a), math.log10(b)) for a, b in points if a > 0 and b > 0)
    if not logs or logs[0][0] == logs[-1][0]:
        return []
    left, right = logs[0][0], logs[-1][0]
    low, high = min(b for _, b in logs), max(b for _, b in logs)
    low, high = (low, high) if low < high else (low - 0.1, high + 0.1)
    labels = [f"{number(10**end)} " for end in (high, low)]
    margin = max(map(len, labels))
    columns, rows = 2 * (width - margin), 4 * height
    cells = [[0x2800] * (width - margin) for _ in range(height)]
    below: int | None = None
    for column in range(columns):
        value = _at(logs, left + (right - left) * column / (columns - 1))
        row = round((rows - 1) * (high - value) / (high - low))
        for dot in range(min(row, row if below is None else below), max(row, below or row) + 1):
            cells[dot // 4][column // 2] |= _DOTS[dot % 4][column % 2]
        below = row
    ends = [*labels[:1], *[""] * (height - 2), *labels[1:]]
    dots = ["".join(map(chr, line)).replace("\u2800", " ") for line in cells]
    picture = [f"{end:>{margin}}{line}".rstrip() for end, line in zip(ends, dots, strict=True)]
    first, last = number(10**left), number(10**right)
    return [f"{y} against {x}, log axes", *picture, f"{'':>{margin}}{first}{last:>{width - margin - len(first)}}"]


def _at(logs: Sequence[tuple[float, float]], x: float) -> float:
    """The value at x on the line through the points."""
    for (x0, y0), (x1, y1) in pairwise(logs):
        if x <= x1:
            return y0 + (y1 - y0) * (x - x0) / (x1 - x0) if x1 > x0 else y1
    return logs[-1][1]
