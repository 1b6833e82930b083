"""Ranges of an axis, as in `{from: 16, to: 256, steps: 5, log: true}`: the values that they stand for."""

from __future__ import annotations

import math
from typing import Any

from orchestrator.text import nearest

KEYS = ("from", "to", "steps", "step", "log", "multiple_of")
MOST_VALUES = 100_000
"""The longest axis."""

SCHEMA: dict[str, Any] = {
    "type": "object",
    "description": "a range: its ends, and steps (how many values), step (their difference) or log (their factor)",
    "properties": {
        **{key: {"type": "number"} for key in ("from", "to", "step")},
        "steps": {"type": "integer", "minimum": 2, "maximum": MOST_VALUES},
        "log": {"anyOf": [{"type": "boolean"}, {"type": "number", "exclusiveMinimum": 1}]},
        "multiple_of": {"type": "integer", "minimum": 1},
    },
    "required": ["from", "to"],
    "additionalProperties": False,
}
"""The JSON Schema of a range."""

_EXAMPLE = "{from: 16, to: 256, steps: 5, log: true}"
_DIGITS = 6


class RangeError(ValueError):
    """A range that stands for no values; `key` is the one of its keys that is wrong, None for the whole."""

    def __init__(self, message: str, key: str | None = None) -> None:
        super().__init__(message)
        self.key = key


def is_range(value: Any) -> bool:
    """Whether a value in the place of an axis is meant as a range."""
    return isinstance(value, dict) and list(value) != ["search"]


def spaced(low: float, high: float, steps: int, *, log: bool) -> list[float]:
    """Evenly spaced numbers from `low` to `high`, or evenly spaced in their logarithm."""
    ratio = [i / max(1, steps - 1) for i in range(steps)]
    if log:
        return [low * (high / low) ** share for share in ratio]
    return [low + (high - low) * share for share in ratio]


def values_of(given: dict[str, Any], *, whole: bool) -> list[Any]:
    """The values of a range, its ends as written.

    Numbers between the ends have six digits; whole numbers are rounded. Raises RangeError.
    """
    _check_keys(given)
    low, high = _number(given, "from"), _number(given, "to")
    if low >= high:
        raise RangeError(f"found from {low:g} and to {high:g}; to must be above from", "to")
    log, multiple = given.get("log", False), given.get("multiple_of")
    if multiple is not None and not (whole and _is_whole(multiple) and 1 <= multiple <= 1e9):
        valid = (
            f"found {multiple!r}; it must be a whole number of at least 1" if whole else "it is for whole numbers"
        )
        raise RangeError(f"multiple_of: {valid}", "multiple_of")
    raw = _raw(given, low, high, log)
    if not whole:
        return [value if value in (low, high) else float(f"{value:.{_DIGITS}g}") for value in raw]
    values = [_rounded(value, multiple) for value in raw]
    if len(set(values)) < len(values):
        different = list(dict.fromkeys(values))
        shown = ", ".join(map(str, different[:12])) + (", ..." if len(different) > 12 else "")
        kind = "whole numbers" if multiple is None else f"multiples of {multiple}"
        raise RangeError(f"its {len(values)} values are {len(different)} {kind}; write them out: [{shown}]")
    return values


def _check_keys(given: dict[str, Any]) -> None:
    for key in given:
        if key not in KEYS:
            near = {"min": "from", "max": "to", "points": "steps", "start": "from", "stop": "to", "num": "steps"}
            raise RangeError(f"unknown key {key!r}; {nearest(near.get(key, key), KEYS, 'a range has')}", key)
    for key in ("from", "to"):
        if key not in given:
            raise RangeError(f"{key!r} is missing; a range is written like {_EXAMPLE}")


def _number(given: dict[str, Any], key: str) -> float:
    value = given[key]
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise RangeError(f"{key}: found {value!r}; it must be a number", key)
    return value


def _is_whole(value: Any) -> bool:
    return not isinstance(value, bool) and isinstance(value, int | float) and float(value).is_integer()


def _raw(given: dict[str, Any], low: float, high: float, log: Any) -> list[float]:
    """The values before they are rounded: by number, by difference or by factor."""
    factor = None if isinstance(log, bool) else log
    if factor is not None and (not isinstance(factor, int | float) or not 1 < factor < math.inf):
        raise RangeError(f"log: found {log!r}; write true, or the factor between values, e.g. 2", "log")
    if log and low <= 0:
        raise RangeError(f"found from {low:g}; it must be above 0 where the range is log", "from")
    ways = [key for key in ("steps", "step") if key in given] + (["log"] if factor else [])
    if len(ways) != 1:
        found = f"found {' and '.join(ways)}" if ways else "found none"
        raise RangeError(
            f"give one of steps (how many values), step (their difference), log: 2 (their factor); {found}",
            ways[-1] if ways else None,
        )
    if ways == ["steps"]:
        steps = given["steps"]
        if not (_is_whole(steps) and 2 <= steps <= MOST_VALUES):
            raise RangeError(f"steps: found {steps!r}; it must be a whole number of 2 to {MOST_VALUES:,}", "steps")
        return [low, *spaced(low, high, int(steps), log=bool(log))[1:-1], high]
    if factor:
        _refuse_long(math.log(high / low) / math.log(factor), "log")
        return [low * factor**i for i in range(math.floor(math.log(high / low) / math.log(factor) + 1e-9) + 1)]
    step = _number(given, "step")
    if log or step <= 0:
        valid = "give steps with log: true" if log else f"found {step:g}; it must be above 0"
        raise RangeError(f"step: {valid}", "step")
    _refuse_long((high - low) / step, "step")
    return [low + step * i for i in range(math.floor((high - low) / step + 1e-9) + 1)]


def _refuse_long(intervals: float, key: str) -> None:
    if not intervals < MOST_VALUES:
        raise RangeError(f"{key}: more than {MOST_VALUES:,} values", key)


def _rounded(value: float, multiple: float | None) -> int:
    """The nearest whole number, or multiple of another, of which it is at least one."""
    return round(value) if multiple is None else int(multiple) * max(1, round(value / multiple))
