"""From a sweep file to a Sweep. Mistakes are reported with file, line and the nearest valid word."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError

from orchestrator.sweep.checks import contradictions
from orchestrator.sweep.formula import FormulaError
from orchestrator.sweep.other_tools import kind_of
from orchestrator.sweep.ranges import RangeError
from orchestrator.sweep.search_space import complaints_of, gathered
from orchestrator.sweep.sweep import (
    BudgetSection,
    DataSection,
    Limits,
    ModelSection,
    Parameter,
    SearchSection,
    Stage,
    Sweep,
    SweepError,
    TrainSection,
    ZipGroup,
)
from orchestrator.sweep.yaml_source import Location, Source, YAMLError, parse
from orchestrator.text import nearest

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

MOST_BYTES = 1 << 20
"""The largest sweep file that is read."""

_LONGEST = 80
"""Characters of a value that a message shows."""

_UNION = ("constrained-int", "list[int]")
"""Pydantic's names for the two kinds of `seeds`."""

_SECTIONS: dict[str, type[BaseModel]] = {
    "data": DataSection,
    "model": ModelSection,
    "train": TrainSection,
    "budget": BudgetSection,
    "limits": Limits,
    "search": SearchSection,
}


def load_sweep(path: str | Path) -> Sweep:
    """Read a sweep file.

    Raises SweepError with all that is wrong in the file; FileNotFoundError and PermissionError as `open` does.
    What needs the data set (sizes, budgets too small) is checked by `plan`.
    """
    with Path(path).open("rb") as file:
        data = file.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise SweepError(Source(str(path)), [((), f"a sweep file has at most {MOST_BYTES:,} bytes")])
    return read_sweep(data.decode("utf-8-sig", errors="replace"), name=str(path))


def read_sweep(text: str, *, name: str = "<sweep>") -> Sweep:
    """Read the text of a sweep file; `name` precedes the line numbers of its complaints. Raises SweepError."""
    try:
        values, source = parse(name, text)
    except YAMLError as error:
        lines: dict[Location, int] = {(i,): line for i, (line, _) in enumerate(error.complaints)}
        complaints: list[tuple[Location, str]] = [((i,), m) for i, (_, m) in enumerate(error.complaints)]
        raise SweepError(Source(name, text, lines), complaints) from error
    if not isinstance(values, dict):
        raise SweepError(source, [((), f"a sweep file is a mapping of {', '.join(Sweep.model_fields)}")])
    if tool := kind_of(values):
        message = f"this is {tool}; `isoflop translate {name} -o mine.yaml` writes it as one of ours"
        raise SweepError(source, [((), message)])
    values, source, complaints = gathered(values, source)
    explain = functools.partial(_complaint, source)
    try:
        sweep = Sweep.model_validate(values)
    except ValidationError as error:
        raise SweepError(source, [explain(e) for e in error.errors() if not _echo(e)]) from error
    sweep._source = source  # noqa: SLF001 - the reader is where a sweep gets its source
    if complaints := [*complaints, *contradictions(sweep), *complaints_of(sweep, explain)]:
        raise SweepError(source, complaints)
    return sweep


def _echo(error: ErrorDetails) -> bool:
    """Whether an error repeats another: pydantic reports a union once per member, as for `seeds: x`."""
    if error["loc"] == ("seeds", "constrained-int"):
        return isinstance(error["input"], list)
    return error["loc"][-1] == "list[int]"


def _complaint(source: Source, error: ErrorDetails) -> tuple[Location, str]:
    where = tuple(part for part in error["loc"] if part not in _UNION)
    names = [part for part in where if isinstance(part, str)]
    name, found = names[-1], _found(error["input"])
    context: dict[str, Any] = error.get("ctx") or {}
    match error["type"]:
        case "extra_forbidden":
            valid = _known_keys(names[:-1])
            return where, f"unknown key {name!r}; {_nearest(name, valid, 'valid keys are')}"
        case "missing":
            return where, f"{name!r} is missing"
        case "literal_error":
            allowed = [word.strip("'") for word in context["expected"].replace(" or ", ", ").split(", ")]
            return (
                where,
                f"{name}: {found} is unknown; {_nearest(str(error['input']), allowed, 'it is one of')}",
            )
        case "int_type" | "int_from_float":
            return where, f"{name}: found {found}; it must be a whole number{_as_number(error['input'])}"
        case "float_type":
            return where, f"{name}: found {found}; it must be a number{_as_number(error['input'])}"
        case "string_type" if isinstance(error["input"], list | dict):
            return where, f"{name}: found {found}; it must be one word"
        case "string_type":
            return where, f"{name}: found {found}; it must be a word (put it in quotes)"
        case "string_too_short":
            return where, f"{name}: found {found}; it must not be empty"
        case "greater_than_equal" | "greater_than" | "less_than" | "less_than_equal":
            bound = {"ge": "at least", "gt": "above", "lt": "below", "le": "at most"}
            key, limit = next(iter(context.items()))
            return where, f"{name}: found {found}; it must be {bound[key]} {limit:.12g}"
        case "finite_number":
            return where, f"{name}: found {found}; it must be finite"
        case "too_short":
            return where, f"{name}: an empty list; an axis needs at least one value"
        case "model_type" | "model_attributes_type" | "dict_type":
            keys = ", ".join(_known_keys(names))
            return where, f"{name}: found {found}; it must be a mapping with keys of {keys}"
        case "list_type":
            return where, f"{name}: found {found}; it must be a list"
        case "string_pattern_mismatch":
            return where, f"{name}: found {found}; use letters, digits, '.', '_' and '-', at most 64"
        case "value_error":
            return _of_value(source, where, name, context["error"])
        case _:
            return where, f"{name}: {error['msg']}"


def _of_value(source: Source, where: Location, name: str, error: ValueError) -> tuple[Location, str]:
    """What a validator of ours says of a value: a formula has a column, a range a key."""
    match error:
        case FormulaError():
            column = source.column(where)
            at = f" (column {column + error.offset})" if column else ""
            return where, f"{name}: {error}{at}"
        case RangeError():
            return (where if error.key is None else (*where, error.key)), f"{name}: {error}"
    return where, f"{name}: {error}"


def _found(value: Any) -> str:
    """A value as YAML writes it, shortened."""
    if value is None:
        return "nothing"
    if isinstance(value, int) and 1e16 < abs(value) < 1e300:
        return f"{value:g}"
    text = repr(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


def _as_number(value: Any) -> str:
    """How to write the number that was probably meant."""
    if isinstance(value, str):
        try:
            float(value)
        except ValueError:
            return ""
        return f", without '_': {value.replace('_', '')}" if "_" in value else ", without quotes"
    return ""


def _known_keys(names: list[str]) -> list[str]:
    section = names[-1] if names else ""
    if section == "cells":
        return ["data", "model", "train", "budget"]
    if section == "then":
        return list(Stage.model_fields)
    if section == "zip":
        return list(ZipGroup.model_fields)
    if names[:-1] == ["search", "parameters"]:
        return list(Parameter.model_fields)
    return list((_SECTIONS.get(section) or Sweep).model_fields)


def _nearest(word: str, words: list[str], otherwise: str) -> str:
    near = nearest(word, words, otherwise)
    homes = [name for name, section in _SECTIONS.items() if word in section.model_fields]
    return f"it belongs to {homes[0]!r}" if near.startswith(otherwise) and homes and word not in words else near
