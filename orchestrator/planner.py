"""Sweep to Plan: cells, seeds, stacks, cost and predicted time. Pure and deterministic, no torch."""

from __future__ import annotations

import itertools
import math
import os
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.sweep import CellSections, Limits, Sweep, SweepError
from trainer import cost, datasets, ladder
from trainer.presets import PRESETS
from trainer.spec import OWNERS, RunSpec, SpecError, model_name, parse_model_name, stack_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from orchestrator.device import Speed
    from orchestrator.source import Location

_SECTIONS = ("data", "model", "train", "budget")
_FIELD_OF = {("budget", "flops"): "budget"}  # keys whose RunSpec field has another name
_REQUIRED = {"dataset": "data", "width": "model", "budget": "budget"}
_SCOUT = 0.05
_MOST_RUNS = 100_000  # a mistyped `seeds: 100000000` would take the machine's memory before it is seen


@dataclass(frozen=True)
class Plan:
    """What a sweep comes to: its runs in a fixed order, resolved, with their limits. Nothing has run yet."""

    sweep: str
    runs: tuple[RunSpec, ...]
    limits: Limits
    text: str = ""
    notes: tuple[str, ...] = ()

    @property
    def flops(self) -> int:
        """Training FLOPs that all runs cost together, by the rule `exact`: what they share is counted once."""
        return sum(ladder.charged_flops(self.runs).values())

    @property
    def cells(self) -> dict[str, list[RunSpec]]:
        """Runs by cell_id, in the order of the file."""
        grouped: dict[str, list[RunSpec]] = {}
        for run in self.runs:
            grouped.setdefault(run.cell_id, []).append(run)
        return grouped


def run_flops(spec: RunSpec) -> int:
    """Training FLOPs that a resolved run will have spent at its end."""
    assert spec.steps is not None
    return spec.steps * spec.batch_size * cost.flops_per_example(cost.shape_of(spec))


def plan(sweep: Sweep) -> Plan:
    """Expand and price a sweep.

    Raises SweepError with every value that does not fit its data set, its model or its budget, and where.
    """
    complaints: dict[Location, str] = {}
    runs: dict[str, RunSpec] = {}
    twice = 0
    grid = math.prod(map(len, _said(sweep, ()).values())) * len(sweep.seed_list)
    if grid > _MOST_RUNS:
        message = f"the axes multiply to {grid:,} runs; at most {_MOST_RUNS:,} are planned"
        raise SweepError(sweep.source, [((), message)])
    for fields, places in _cells(sweep, complaints):
        for seed in sweep.seed_list:
            try:
                spec = RunSpec(**fields, seed=seed)
                known = datasets.resolve(spec, datasets.describe(_located(spec, sweep)))
            except SpecError as error:
                where = places.get(error.field) or places["dataset"]
                complaints.setdefault(where, f"{error.field}: {error.message}")
                break
            twice += known.run_id in runs
            runs.setdefault(known.run_id, replace(known, path=_located(spec, sweep).path))
    _check_owners(sweep, list(runs.values()), complaints)
    if complaints:
        raise SweepError(sweep.source, list(complaints.items()))
    planned = Plan(sweep.sweep, tuple(runs.values()), sweep.limits, sweep.source.text)
    return replace(planned, notes=tuple(_notes(planned, twice)))


def _cells(sweep: Sweep, complaints: dict[Location, str]) -> Iterator[tuple[dict[str, Any], dict[str, Location]]]:
    """(RunSpec fields, where each was said) of the grid's cells, then of the explicit ones."""
    grid = _said(sweep, ())
    missing = [field for field in _REQUIRED if not _has(grid, field)]
    if not missing:
        yield from _product(grid, complaints)
    for i, cell in enumerate(sweep.cells):
        own = _said(cell, ("cells", i))
        if any(_has(own, name) for name in ("budget", "epochs", "examples")):
            kept = {k: v for k, v in grid.items() if k not in ("budget", "epochs", "examples")}
        else:
            kept = grid
        merged = {**kept, **own}
        if many := [name for name, values in merged.items() if len(values) > 1]:
            complaints[("cells", i)] = f"this cell must choose one {many[0]}; the grid has {len(merged[many[0]])}"
        elif absent := [field for field in _REQUIRED if not _has(merged, field)]:
            complaints[("cells", i)] = f"{absent[0]!r} is missing here and in {_REQUIRED[absent[0]]!r}"
        else:
            yield from _product(merged, complaints)
    if missing and not sweep.cells:
        for field in missing:
            word = "flops, epochs or examples" if field == "budget" else f"{field!r}"
            complaints[(_REQUIRED[field],)] = f"{_REQUIRED[field]}: {word} is missing"


Said = dict[str, list[tuple[Any, "Location"]]]


def _said(sections: CellSections, top: Location) -> Said:
    """Field -> its values, each with its place, of everything that the sections say; a preset's first."""
    preset, place = sections.train.preset, (*top, "train", "preset")
    found: Said = {name: [(value, place)] for name, value in PRESETS[preset].items()} if preset else {}
    for section in _SECTIONS:
        for key, value in getattr(sections, section):
            if value is None or key == "preset":
                continue
            where = (*top, section, key)
            values = (
                [(v, (*where, i)) for i, v in enumerate(value)] if isinstance(value, list) else [(value, where)]
            )
            found[_FIELD_OF.get((section, key), key)] = values
    return found


def _has(said: Said, field: str) -> bool:
    others = {"width": ("name",), "budget": ("epochs", "examples")}.get(field, ())
    return any(name in said for name in (field, *others))


def _product(said: Said, complaints: dict[Location, str]) -> Iterator[tuple[dict[str, Any], dict[str, Location]]]:
    for values in itertools.product(*said.values()):
        fields = {name: value for name, (value, _) in zip(said, values, strict=True)}
        places = {name: where for name, (_, where) in zip(said, values, strict=True)}
        if (name := fields.pop("name", None)) is not None:
            try:
                fields |= parse_model_name(name)
            except SpecError as error:
                complaints[places["name"]] = f"name: {error.message}"
                continue
        yield fields, places


def _located(spec: RunSpec, sweep: Sweep) -> RunSpec:
    """The spec with its path made absolute: beside the file, then $ISOFLOP_DATA, then ./data."""
    if spec.path is None or spec.dataset in datasets.EMBEDDED:
        return spec
    roots = [Path(sweep.source.name).parent, *map(Path, _data_roots())]
    tried = [(root / Path(spec.path).expanduser()).absolute() for root in roots]
    for path in tried:
        if path.exists():
            return replace(spec, path=os.path.normpath(path))
    where = ", ".join(str(root) for root in roots)
    raise SpecError("path", f"{spec.path!r} is in none of {where}; set ISOFLOP_DATA to the folder that holds it")


def _data_roots() -> list[str]:
    return [root for root in os.environ.get("ISOFLOP_DATA", "").split(os.pathsep) if root] + ["data"]


def _check_owners(sweep: Sweep, runs: Sequence[RunSpec], complaints: dict[Location, str]) -> None:
    """A setting that is ignored is a setting that is mentioned."""
    if not runs or complaints:
        return
    said = _said(sweep, ())
    for name, owner in OWNERS.items():
        found = {getattr(run, owner.field) for run in runs}
        if name in said and said[name][0][1][-1] != "preset" and not any(map(owner.uses, found)):
            where, values = said[name][0][1], ", ".join(sorted(map(str, found)))
            belongs = f"it belongs to {owner.field} {owner.value}, found {values}"
            complaints[where] = f"{name} does nothing here: {belongs}"


def _notes(planned: Plan, twice: int) -> Iterator[str]:
    if twice:
        yield f"{twice} runs are declared more than once and will run once"
    alone = sum(map(run_flops, planned.runs))
    if alone > planned.flops:
        yield f"what runs of one recipe have in common is trained once: {planned.flops:.3g} FLOPs, not {alone:.3g}"
    limit = planned.limits.total_flops
    if limit is not None and planned.flops > limit:
        yield f"limits.total_flops {limit:.3g} is below the {planned.flops:.3g} planned; the rest stays queued"


def bundles(runs: Sequence[RunSpec], begun: Callable[[RunSpec], int] = lambda _: 0) -> list[list[RunSpec]]:
    """Runs grouped into stacks, each trained as one model, in the order in which to start them.

    Runs of different lengths that share their beginning (trainer.ladder) stay in one bundle.

    A scout of 5 % of the FLOPs, cheapest first, so that mistakes show early; then longest first, so that no
    long one is left at the end. `begun` tells the step at which a run goes on; only runs of one step share a stack.
    """
    groups: dict[Any, list[list[RunSpec]]] = {}
    for family in ladder.families(runs):
        key = (stack_key(family[0]), *((run.steps, begun(run)) for run in family))
        groups.setdefault(key, []).append(family)
    made: list[list[RunSpec]] = []
    for group in groups.values():
        first = group[0][0]
        size = cost.stack_size(cost.shape_of(first), first.batch_size, len(group))
        parts = -(-len(group) // size)  # even parts: 20 as 10 + 10, not 16 + 4
        made += [[run for family in group[i::parts] for run in family] for i in range(parts)]
    made.sort(key=_price)
    total, spent, scouts = sum(map(_price, made)), 0, 0
    while scouts < len(made) and spent < _SCOUT * total:
        spent += _price(made[scouts])
        scouts += 1
    return made[:scouts] + made[: scouts - 1 if scouts else None : -1]


def _price(bundle: Sequence[RunSpec]) -> int:
    return sum(ladder.charged_flops(bundle).values())


def predicted_seconds(runs: Sequence[RunSpec], speed: Speed, slots: int) -> float:
    """Seconds that the runs will take on `slots` workers of the measured speed, start-up not included.

    The larger of the mean load and the longest bundle: what a schedule of longest-first comes close to.
    """
    times = [speed.seconds(bundle) for bundle in bundles(runs)]
    return max(sum(times) / slots, max(times, default=0.0))


def table_of(planned: Plan, speed: Speed | None, slots: int) -> list[dict[str, Any]]:
    """The plan as rows, one a cell, in the order of the file; numbers unrounded, times None where unmeasured."""
    rows = []
    for runs in planned.cells.values():
        first = runs[0]
        shape = cost.shape_of(first)
        bundle_share = bundles(runs)
        rows.append(
            {
                "model": model_name(first),
                "dataset": first.dataset,
                "dataset_size": first.dataset_size,
                "lr": first.lr,
                "batch_size": first.batch_size,
                "steps": first.steps,
                "epochs": first.epochs,
                "params": cost.params(shape).total,
                "flops": run_flops(first),
                "runs": len(runs),
                "memory": cost.memory_bytes(shape, first.batch_size, first.optimizer) * len(bundle_share[0]),
                "seconds": None if speed is None else sum(map(speed.seconds, bundle_share)) / slots,
            }
        )
    return rows


def axes(planned: Plan) -> dict[str, list[Any]]:
    """Which fields vary over the plan, and their values: what the sweep asks."""
    names = [*RunSpec.__dataclass_fields__]
    seen = {name: Counter(getattr(run, name) for run in planned.runs) for name in names}
    derived = ("steps", "examples", "epochs", "fingerprint", "seed")
    return {n: sorted(values) for n, values in seen.items() if len(values) > 1 and n not in derived}
