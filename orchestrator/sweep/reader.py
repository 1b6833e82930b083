"""From a sweep file to a Sweep. Mistakes are reported with file, line and the nearest valid word."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError

from orchestrator.sweep.search_space import complaints_of, gathered
from orchestrator.sweep.sweep import (
    FIRST_STAGE,
    BudgetSection,
    CellSections,
    DataSection,
    Limits,
    ModelSection,
    Parameter,
    SearchSection,
    Stage,
    Sweep,
    SweepError,
    TrainSection,
)
from orchestrator.sweep.yaml_source import Location, Source, YAMLError, parse

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

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
    text = Path(path).read_text(encoding="utf-8-sig", errors="replace")
    return read_sweep(text, name=str(path))


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
    values, source, complaints = gathered(values, source)
    try:
        sweep = Sweep.model_validate(values)
    except ValidationError as error:
        raise SweepError(source, [_complaint(e) for e in error.errors() if not _echo(e)]) from error
    sweep._source = source  # noqa: SLF001 - the reader is where a sweep gets its source
    if complaints := [*complaints, *_cross_checks(sweep), *complaints_of(sweep, _complaint)]:
        raise SweepError(source, complaints)
    return sweep


def _echo(error: ErrorDetails) -> bool:
    """Whether an error repeats another: pydantic reports a union once per member, as for `seeds: x`."""
    if error["loc"] == ("seeds", "constrained-int"):
        return isinstance(error["input"], list)
    return error["loc"][-1] == "list[int]"


def _complaint(error: ErrorDetails) -> tuple[Location, str]:
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
            return where, f"{name}: found {found}; it must be {bound[key]} {limit:g}"
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
            return where, f"{name}: {context['error']}"
        case _:
            return where, f"{name}: {error['msg']}"


def _found(value: Any) -> str:
    """A value as YAML writes it."""
    if value is None:
        return "nothing"
    return repr(value).lower() if isinstance(value, bool) else repr(value)


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
    if names[:-1] == ["search", "parameters"]:
        return list(Parameter.model_fields)
    return list((_SECTIONS.get(section) or Sweep).model_fields)


def _nearest(word: str, words: list[str], otherwise: str) -> str:
    close = difflib.get_close_matches(word.lower(), words, n=1)
    if close:
        return f"did you mean {close[0]!r}?"
    homes = [name for name, section in _SECTIONS.items() if word in section.model_fields]
    if homes and word not in words:
        return f"it belongs to {homes[0]!r}"
    return f"{otherwise} {', '.join(words)}"


def _cross_checks(sweep: Sweep) -> list[tuple[Location, str]]:
    """Contradictions between keys that can be found without the data set."""
    complaints: list[tuple[Location, str]] = []
    seeds = sweep.seed_list
    if not seeds or min(seeds) < 0:
        complaints.append(
            (("seeds",), f"seeds: found {sweep.seeds!r}; give a number of at least 1, or seeds of at least 0")
        )
    elif len(set(seeds)) < len(seeds):
        complaints.append((("seeds",), "seeds: a seed is given twice in this list"))
    complaints += _stage_names(sweep)
    whole: list[tuple[Location, CellSections | Stage]] = [
        ((), sweep),
        *((("cells", i), cell) for i, cell in enumerate(sweep.cells)),
        *((("then", i), stage) for i, stage in enumerate(sweep.then)),
    ]
    for where, sections in whole:
        given = [key for key in BudgetSection.model_fields if getattr(sections.budget, key) is not None]
        if len(given) > 1:
            complaints.append(
                ((*where, "budget", given[1]), f"budget: {' and '.join(given)} at once; give one of them")
            )
        if isinstance(sections, Stage):
            continue
        parts = [key for key in ("family", "depth", "width", "expansion") if getattr(sections.model, key)]
        if sections.model.name and parts:
            complaints.append(
                ((*where, "model", parts[0]), f"model: name sets it already; omit {', '.join(parts)}")
            )
    for i, cell in enumerate(sweep.cells):
        for section in ("data", "model", "train", "budget"):
            for key, values in getattr(cell, section):
                if isinstance(values, list) and len(values) > 1:
                    complaints.append(
                        (
                            ("cells", i, section, key),
                            f"{key}: a cell has one value per key, found {len(values)}",
                        )
                    )
    return complaints


def _stage_names(sweep: Sweep) -> list[tuple[Location, str]]:
    """Complaints about stages without a name of their own, or that follow none above them."""
    complaints: list[tuple[Location, str]] = []
    names = [FIRST_STAGE]
    for i, stage in enumerate(sweep.then):
        if stage.stage in names:
            complaints.append((("then", i, "stage"), f"stage: {stage.stage!r} is the name of an earlier stage"))
        if stage.after is not None and stage.after not in names:
            near = _nearest(stage.after, names, "it is one of")
            complaints.append((("then", i, "after"), f"after: no earlier stage {stage.after!r}; {near}"))
        names.append(stage.stage)
    return complaints
