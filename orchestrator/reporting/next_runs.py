"""Runs that would extend a sweep: sizes that the hardware likes, whole batches, few epochs; and as a sweep file."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from orchestrator import text
from orchestrator.sweep.cells import SECTIONS
from trainer import cost
from trainer.data import catalogue
from trainer.spec import LENGTHS, OWNERS, SETTINGS, RunSpec, model_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

LEAST_BATCHES = 10
MOST_EPOCHS = 100.0
"""Epochs of a suggested run, unless the runs so far had more."""

BEYOND = 4.0
"""Factor by which sizes and examples may lie outside those of the runs so far."""

_A_DOUBLING = 2
_WIDEST = 1 << 15
_SHAPE = ("family", "depth", "expansion", "inputs", "classes")
_COLUMNS = ("model", "width", "params", "examples", "epochs", "flops")


def runs_of(frame: pd.DataFrame) -> list[RunSpec]:
    """The specs of the finished rows of a results table, in their order."""
    names = [name for name in SETTINGS if name in frame and SETTINGS[name].planned]
    return [
        RunSpec(
            **{name: _plain(name, row[name]) for name in names if not _is_missing(row[name])},
            **{name: _plain(name, row[name]) for name in ("examples", "epochs", "steps")},
        )
        for row in frame.to_dict("records")
    ]


def _is_missing(value: Any) -> bool:
    return value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value))


def _plain(name: str, value: Any) -> Any:
    """A value of a column, in the type of the field."""
    return SETTINGS[name].kind.number(value)


def candidates(runs: Sequence[RunSpec], params: Sequence[float], examples: Sequence[float]) -> list[RunSpec]:
    """Runs that would extend a sweep, each like the nearest of its runs, on the most data that these have.

    Widths are multiples of 8 below 32, of 16 below 128, else of 32. Runs have at least ten whole batches, and at
    most 100 epochs or as many as the runs so far. Sizes and lengths go in steps of about the root of 2.

    Args:
        runs: resolved runs, the best of each cell if their recipes differ.
        params: those measured so far, whose range is extended by a factor of 4.
        examples: likewise.
    """
    own = [(math.log(_params(run)), math.log(max(run.examples or 1, 1))) for run in runs]
    places = np.array(own)
    largest = max(run.dataset_size or 0 for run in runs)
    epochs = max(MOST_EPOCHS, *(run.epochs or 0.0 for run in runs))
    low, high = min(examples) / BEYOND, min(max(examples) * BEYOND, epochs * largest)
    done = {run.cell_id for run in runs}
    chosen: dict[str, RunSpec] = {}
    for model in _models(runs, min(params) / BEYOND, max(params) * BEYOND):
        for length in _lengths(low, high):
            place = (math.log(_params(model)), math.log(length))
            nearest = runs[int(np.argmin(((places - place) ** 2).sum(axis=1)))]
            steps = max(LEAST_BATCHES, round(length / nearest.batch_size))
            size = max(run.dataset_size or 0 for run in runs if run.validation == nearest.validation)
            if steps * nearest.batch_size > epochs * size:
                continue
            run = _like(nearest, model, steps, size)
            if run is not None and run.cell_id not in done:
                chosen[run.cell_id] = run
    return list(chosen.values())


def _like(run: RunSpec, model: RunSpec, steps: int, size: int) -> RunSpec | None:
    """A run with the recipe of one, the model of another, steps and a size of the data set; None if too long."""
    shape = {name: getattr(model, name) for name in ("family", "depth", "width", "expansion")}
    examples = steps * run.batch_size
    changed = run.changed(
        **shape, steps=steps, examples=examples, epochs=examples / size, dataset_size=size, seed=0
    )
    flops = float(examples * cost.flops_per_example(cost.shape_of(changed)))
    return changed.changed(budget=flops) if flops <= SETTINGS["budget"].kind.most else None


def _models(runs: Sequence[RunSpec], low: float, high: float) -> Iterator[RunSpec]:
    """A run of every model that the hardware likes, of the shapes of the runs and with params in a range."""
    for run in {tuple(getattr(run, name) for name in _SHAPE): run for run in runs}.values():
        last = 0.0
        for width in _widths():
            model = run.changed(width=width)
            params = _params(model)
            if low <= params <= high and params >= last * 2 ** (0.95 / _A_DOUBLING):
                last = params
                yield model


def _widths() -> Iterator[int]:
    width = 8
    while width <= _WIDEST:
        yield width
        width += 8 if width < 32 else 16 if width < 128 else 32


def _lengths(low: float, high: float) -> list[float]:
    """Examples in steps of the root of 2."""
    count = max(1, math.floor(_A_DOUBLING * math.log2(max(high / low, 1.0))) + 1)
    return [low * 2 ** (i / _A_DOUBLING) for i in range(count)]


def _params(run: RunSpec) -> int:
    return cost.params(cost.shape_of(run)).total


def table_of(runs: Sequence[RunSpec]) -> pd.DataFrame:
    """The runs as candidates of `analysis.suggest`: `model`, `width`, `params`, `examples`, `epochs`, `flops`."""
    rows = [(model_name(r), r.width, _params(r), r.examples, float(f"{r.epochs:.3g}"), r.budget) for r in runs]
    return pd.DataFrame(rows, columns=list(_COLUMNS))


def sweep_file(name: str, runs: Sequence[RunSpec], seeds: Sequence[int], comments: Sequence[str] = ()) -> str:
    """The text of a sweep file with a cell for each run, given by its examples: what they share is said once."""
    said = [_settings(run) for run in runs]
    shared = {key: value for key, value in said[0].items() if all(own.get(key) == value for own in said)}
    lines = [*(f"# {comment}" for comment in comments), f"sweep: {name}"]
    lines += [f"{section}: {body}" for section, body in _sections(shared)]
    lines += [f"seeds: {list(seeds)}", "cells:"]
    for own in said:
        parts = _sections({key: value for key, value in own.items() if key not in shared})
        lines.append(f"  - {{{', '.join(f'{section}: {body}' for section, body in parts)}}}")
    return "\n".join(lines) + "\n"


def _settings(run: RunSpec) -> dict[str, Any]:
    """What a sweep file says of a run: fields that are set and used, and its examples."""
    values = {"dataset": run.dataset, "width": run.width}
    for name, field in SETTINGS.items():
        value, owner = getattr(run, name), OWNERS.get(name)
        if not field.section or name in LENGTHS or value is None or value == getattr(RunSpec, name):
            continue
        if owner is None or owner.uses(getattr(run, owner.field)):
            values[name] = value
    if run.path is not None and run.path == catalogue.find(run.dataset):
        del values["path"]
    return {**values, "examples": run.examples}


def _sections(values: dict[str, Any]) -> list[tuple[str, str]]:
    """The sections of a sweep file as flow mappings; those that say nothing are left out."""
    bodies = []
    for section in SECTIONS:
        own = [f"{key}: {_yaml(value)}" for key, value in values.items() if SETTINGS[key].section == section]
        if own:
            bodies.append((section, f"{{{', '.join(own)}}}"))
    return bodies


def _yaml(value: Any) -> str:
    if isinstance(value, str):
        return (
            value if value.replace("-", "").replace("_", "").isalnum() and not value[0].isdigit() else repr(value)
        )
    return repr(value)


def priced(name: str, file_text: str) -> tuple[str, str]:
    """A sweep file with its price in the first line, and the price: runs and FLOPs. Raises SweepError."""
    from orchestrator.sweep.planner import plan
    from orchestrator.sweep.reader import read_sweep

    planned = plan(read_sweep(file_text, name=name), decode=False)
    price = f"{text.count(len(planned.runs), 'run')}, {text.flops(planned.flops)} FLOPs"
    return f"# {price}\n{file_text}", price
