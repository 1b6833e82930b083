"""The search space of a sweep file: `lr: {search: {...}}` is the same as `search: {parameters: {lr: {...}}}`."""

from __future__ import annotations

import math
from dataclasses import replace
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError

from orchestrator.sweep.formula import Formula
from orchestrator.sweep.ranges import spaced
from orchestrator.sweep.sweep import (
    DataSection,
    Method,
    ModelSection,
    Parameter,
    SearchSection,
    Sweep,
    TrainSection,
)
from orchestrator.text import nearest, number
from trainer.host import installation
from trainer.spec import SETTINGS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pydantic_core import ErrorDetails

    from orchestrator.sweep.yaml_source import Location, Source

    Complaint = tuple[Location, str]

_SECTIONS: dict[str, type[BaseModel]] = {"data": DataSection, "model": ModelSection, "train": TrainSection}
SEARCHED = {
    key: section
    for section, model in _SECTIONS.items()
    for key in model.model_fields
    if key in SETTINGS and SETTINGS[key].searched
}
"""What can be searched, and the section where it is said: not what asks another question than the best recipe."""

WHOLE = [key for key in SEARCHED if SETTINGS[key].kind.number is int]
MUTABLE = [key for key in SEARCHED if SETTINGS[key].mutable]
"""Keys whose values may change while a model trains."""

MOST_POINTS = 100_000
"""The most combinations of a grid."""

_PLACE = ("search", "parameters")
_EXAMPLE = "{lr: {min: 1e-4, max: 1e-1, distribution: log_uniform}}"


def gathered(values: dict[str, Any], source: Source) -> tuple[dict[str, Any], Source, list[Complaint]]:
    """The values of a file with every `key: {search: {...}}` moved to `search.parameters`, and their lines."""
    found: list[tuple[str, str]] = [
        (section, key)
        for section in _SECTIONS
        if isinstance(values.get(section), dict)
        for key, value in values[section].items()
        if isinstance(value, dict) and list(value) == ["search"]
    ]
    search = values.get("search", {})
    if not found or not isinstance(search, dict) or not isinstance(search.get("parameters", {}), dict):
        return values, source, []
    parameters, lines = dict(search.get("parameters", {})), dict(source.lines)
    values = dict(values)
    complaints: list[Complaint] = []
    for section, key in found:
        if key in parameters:
            first = source.line((*_PLACE, key))
            complaints.append(((section, key), f"{key}: it is searched in line {first} already; leave one out"))
        values[section] = dict(values[section])
        parameters[key] = values[section].pop(key)["search"]
        here = (section, key, "search")
        lines[*_PLACE, key] = source.line(here)
        lines |= {(*_PLACE, key, *at[3:]): line for at, line in source.lines.items() if at[:3] == here}
        lines.setdefault(("search",), source.line((section, key)))
    values["search"] = {**search, "parameters": parameters}
    return values, replace(source, lines=lines), complaints


def schema() -> dict[str, Any]:
    """The JSON Schema of a sweep file. Its sections may have `{search: {...}}` for a value, those of a cell not."""
    from trainer.data.catalogue import DATASETS

    whole = Sweep.model_json_schema()
    parts, searched = whole["$defs"], {"search": {"$ref": "#/$defs/Parameter"}}
    parts["DataSection"]["properties"]["dataset"]["examples"] = DATASETS.names()  # or a name of the user's own
    search = {"type": "object", "properties": searched, "required": ["search"], "additionalProperties": False}
    for section, model in _SECTIONS.items():
        here = parts[model.__name__]
        keys = {
            key: {**said, "anyOf": [*said["anyOf"], search]} if key in SEARCHED else said
            for key, said in here["properties"].items()
        }
        parts[f"Searched{model.__name__}"] = {**here, "properties": keys}
        whole["properties"][section]["$ref"] = f"#/$defs/Searched{model.__name__}"
    return whole


def complaints_of(sweep: Sweep, explain: Callable[[ErrorDetails], Complaint]) -> Iterator[Complaint]:
    """Mistakes in the search of a sweep that can be found without the data set."""
    search = sweep.search
    if search is None:
        return
    if not search.parameters:
        yield ("search",), f"search: no parameters to search; write e.g. parameters: {_EXAMPLE}"
    if not sweep.data.validation or 0 in sweep.data.validation:
        where: Location = ("data", "validation") if sweep.data.validation else ("search",)
        yield where, "search: it selects by the validation split; set validation in data above 0, e.g. 0.1"
    if sweep.then:
        yield (
            ("then", 0),
            "then: a search has no stages; write the best configuration into a sweep of its own",
        )
    for name, parameter in search.parameters.items():
        where = (*_PLACE, name)
        if name not in SEARCHED:
            yield where, f"unknown parameter {name!r}; {_nearest(name)}"
            continue
        section = SEARCHED[name]
        if getattr(getattr(sweep, section), name) is not None:
            yield (section, name), f"{name}: it is searched in line {sweep.source.line(where)}; leave it out here"
        for i, cell in enumerate(sweep.cells):
            if getattr(getattr(cell, section), name) is not None:
                yield ("cells", i, section, name), f"{name}: it is searched in every cell; leave it out here"
        yield from _of_parameter(name, parameter, search, explain)
    yield from _of_method(search)
    yield from _of_scheduler(sweep, search)


def _nearest(name: str) -> str:
    if any(name in model.model_fields for model in _SECTIONS.values()):
        return "it changes the question, not the recipe; a search varies " + ", ".join(SEARCHED)
    return nearest(name, list(SEARCHED), "searched are")


def _of_parameter(
    name: str, parameter: Parameter, search: SearchSection, explain: Callable[[ErrorDetails], Complaint]
) -> Iterator[Complaint]:
    where = (*_PLACE, name)
    ends = {"min": parameter.min, "max": parameter.max}
    given = [end for end, value in ends.items() if value is not None]
    if (parameter.values is None) == (not given):
        yield where, f"{name}: give either values, or min and max"
    elif parameter.values is not None:
        places: list[Location] = [(*where, "values", i) for i in range(len(parameter.values))]
        yield from _misfits(name, parameter.values, places, explain)
        if parameter.distribution not in (None, "categorical"):
            yield (*where, "distribution"), f"{name}: {parameter.distribution} needs min and max, found values"
        if parameter.log is not None:
            yield (*where, "log"), f"{name}: log needs min and max, found values"
        if parameter.points:
            yield (*where, "points"), f"{name}: points lie between min and max, found values"
    elif len(given) < 2:
        yield where, f"{name}: {'max' if given == ['min'] else 'min'} is missing"
    else:
        yield from ((((*where, key), f"{name}: {message}")) for key, message in _of_range(name, parameter, search))
        yield from _misfits(name, list(ends.values()), [(*where, "min"), (*where, "max")], explain)


def _of_range(name: str, parameter: Parameter, search: SearchSection) -> Iterator[tuple[str, str]]:
    low, high, distribution = parameter.min or 0.0, parameter.max or 0.0, parameter.distribution
    if low >= high:
        yield "max", f"found min {low:g} and max {high:g}; max must be above min"
    if distribution == "categorical":
        yield "distribution", "categorical needs values, found min and max"
    elif distribution and distribution.startswith("int") != (name in WHOLE):
        right = "int_uniform or int_log_uniform" if name in WHOLE else "uniform or log_uniform"
        yield "distribution", f"found {distribution}; it must be {right}"
    if parameter.log is not None and distribution:
        yield "log", f"found log and distribution {distribution}; give one of them"
    if is_log(parameter) and low <= 0:
        yield "min", f"found min {low:g}; it must be above 0 where the distribution is log"
    if search.method == "grid" and parameter.points is None:
        yield "points", "a grid needs values, or points between min and max, e.g. points: 7"
    if search.method != "grid" and parameter.points is not None:
        yield "points", f"points belongs to method grid, found {search.method}"


def _misfits(
    name: str, values: list[Any], places: list[Location], explain: Callable[[ErrorDetails], Complaint]
) -> Iterator[Complaint]:
    """Values that the key cannot have on an axis either."""
    try:
        valid = getattr(_SECTIONS[SEARCHED[name]].model_validate({name: values}), name)
        for place, value in zip(places, valid, strict=True):
            if isinstance(value, Formula):
                yield place, f"{name}: found {value.text!r}; a search tries numbers, not formulas"
    except ValidationError as error:
        for details in error.errors():
            index = next((part for part in details["loc"] if isinstance(part, int)), None)
            where = places[0][:3] if index is None else places[index]
            yield where, explain(details)[1]


def _of_method(search: SearchSection) -> Iterator[Complaint]:
    ranges = [name for name, parameter in search.parameters.items() if parameter.values is None]
    sizes = [len(p.values) if p.values is not None else p.points or 1 for p in search.parameters.values()]
    if search.method == "grid" and (size := math.prod(sizes)) > MOST_POINTS:
        yield ("search", "method"), f"method: a grid of {number(size)} points; at most {MOST_POINTS:,}"
    if search.method == "cmaes" and (len(ranges) < 2 or len(ranges) < len(search.parameters)):
        yield (
            ("search", "method"),
            "method: cmaes needs two parameters at least, each with a min and a max; tpe takes any",
        )
    if search.method == "cmaes" and find_spec("cmaes") is None:
        yield ("search", "method"), f"method: cmaes needs a package; run: {installation.install_extra('cmaes')}"


def _of_scheduler(sweep: Sweep, search: SearchSection) -> Iterator[Complaint]:
    """Settings that schedulers of Ray Tune ignore: their trials train alone, outside of limits."""
    if search.scheduler is None:
        return
    tune = f"{search.scheduler} of Ray Tune"
    if search.pruner != "none":
        yield ("search", "pruner"), f"pruner: {tune} stops trials itself; leave the pruner out"
    if "batch" in search.model_fields_set:
        yield ("search", "batch"), f"batch: {tune} trains each trial alone; leave it out"
    if any(value is not None for value in sweep.limits.model_dump().values()):
        yield ("limits",), f"limits: {tune} ignores them; omit them, or search without a scheduler"
    if search.method not in ("random", "grid") and "method" in search.model_fields_set:
        message = f"{tune} takes trials drawn beforehand: random, which is the default, or grid"
        yield ("search", "method"), f"method: found {search.method}; {message}"
    if search.scheduler == "pbt":
        yield from _of_population(sweep, search)


def _of_population(sweep: Sweep, search: SearchSection) -> Iterator[Complaint]:
    """Recipes that cannot be cut into parts, each of which begins with the parameters of another."""
    for name in search.parameters:
        if name in SEARCHED and name not in MUTABLE:
            where = (*_PLACE, name)
            yield where, f"{name}: pbt changes it in training; it must be one of {', '.join(MUTABLE)}"
    schedules = sweep.train.schedule or ["constant"]
    if sweep.train.preset is None and schedules != ["constant"]:
        yield ("train", "schedule"), f"schedule: found {schedules[0]}; pbt needs constant"
    if any(sweep.train.warmup or []):
        yield ("train", "warmup"), "warmup: each part of a pbt member would repeat it; omit it"
    if len(sweep.seed_list) > 1:
        yield ("seeds",), "seeds: a member of pbt has one seed; repeat the search with another search.seed"
    if sweep.data.dataset_size is not None:
        yield ("data", "dataset_size"), "dataset_size: each part of a pbt member would draw another subset; omit it"


TRIALS = 20
"""Trials per cell if the file gives no number; a grid has its own."""


def trials_of(search: SearchSection) -> int:
    """The number of trials of a cell."""
    if search.method != "grid":
        return search.trials or TRIALS
    size = math.prod(len(choices(name, parameter)) for name, parameter in search.parameters.items())
    return min(size, search.trials or size)


def values_of(name: str, parameter: Parameter) -> list[Any]:
    """The values of a parameter as an axis would have them: 0 of a share is 0.0."""
    values: list[Any] = getattr(_SECTIONS[SEARCHED[name]].model_validate({name: parameter.values}), name)
    return values


def choices(name: str, parameter: Parameter) -> list[Any]:
    """What a grid tries of a parameter: its values, or points that are evenly spaced (in the log if it is log)."""
    low, high, points = parameter.min, parameter.max, parameter.points
    if parameter.values is not None:
        return values_of(name, parameter)
    assert low is not None
    assert high is not None
    assert points is not None
    values = spaced(low, high, points, log=is_log(parameter))
    return list(dict.fromkeys(round(v) if name in WHOLE else float(f"{v:.6g}") for v in values))


def drawn_beforehand(search: SearchSection) -> SearchSection:
    """The search that draws all trials at once, for a scheduler of Ray Tune."""
    method: Method = "grid" if search.method == "grid" else "random"
    drawn = search.model_copy(update={"method": method})
    return drawn.model_copy(update={"batch": trials_of(drawn)})


def is_log(parameter: Parameter) -> bool:
    """Whether a parameter is drawn evenly in its logarithm."""
    return bool(parameter.log) or parameter.distribution in ("log_uniform", "int_log_uniform")


def dearest(name: str, parameter: Parameter) -> Any:
    """The value with which a plan is priced: the largest number, else the first value."""
    if parameter.values is None:
        assert parameter.max is not None
        return int(parameter.max) if name in WHOLE else parameter.max
    values = values_of(name, parameter)
    return max(values) if all(isinstance(value, int | float) for value in values) else values[0]
