"""From a Sweep to a Plan: cells, seeds, cost of each run. Pure and deterministic, without torch."""

from __future__ import annotations

import functools
import itertools
import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator import text
from orchestrator.sweep.cells import Block, blocks_of, has, settings_of, varied
from orchestrator.sweep.formula import evaluated
from orchestrator.sweep.search_space import trials_of
from orchestrator.sweep.sweep import FIRST_STAGE, Limits, Stage, Sweep, SweepError
from orchestrator.text import number
from trainer import cost
from trainer.data import catalogue, datasets
from trainer.host.urls import is_url, local, shown
from trainer.spec import LENGTHS, OWNERS, SETTINGS, RunSpec, SpecError, model_name
from trainer.trunk import charged_flops

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from analysis.decisions.design import Design
    from orchestrator.sweep.cells import Settings
    from orchestrator.sweep.yaml_source import Location
    from trainer.data.arrays import DatasetInfo

    Find = Callable[[RunSpec], RunSpec]
    Make = Callable[[dict[str, Any], int], RunSpec]

MOST_CELLS = 20_000
"""Cells that are planned unless more are allowed: a mistyped axis would take the machine's memory."""

_SHOWN = 8
"""Values of an axis that are listed."""

_SEEDS = 5
"""Runs that are planned for each cell that is allowed."""


@dataclass(frozen=True)
class Plan:
    """The runs of a sweep, resolved and in a fixed order, with their limits. Nothing has run yet.

    Of a search, `trials` is the number of trials in each cell, `batch` how many are proposed at once. `varies`
    holds what has several values or a formula, by its key in the file.
    """

    sweep: str
    runs: tuple[RunSpec, ...]
    limits: Limits
    text: str = ""
    notes: tuple[str, ...] = ()
    trials: int | None = None
    batch: int | None = None
    varies: Mapping[str, Sequence[Any]] = field(default_factory=dict, compare=False)

    @property
    def flops(self) -> int:
        """Training FLOPs of all runs by the rule `exact`; steps that runs share are counted once."""
        return sum(charged_flops(self.runs).values())

    @property
    def axes(self) -> str:
        """What varies, in words: `width 16, 64; lr = 1e-3 * 64 / width`; empty if nothing does."""
        return "; ".join(_axis(key, values) for key, values in self.varies.items())

    def _repr_html_(self) -> str:
        """Its cells as a table, for notebooks, with what there is to note."""
        rows = [
            {
                "model": model_name(runs[0]),
                "dataset": runs[0].dataset,
                "dataset_size": runs[0].dataset_size,
                "lr": f"{runs[0].lr:g}",
                "epochs": text.number(runs[0].epochs or 0.0),
                "params": text.number(cost.params(cost.shape_of(runs[0])).total),
                "flops": text.flops(run_flops(runs[0])),
                "runs": len(runs),
            }
            for runs in self.cells.values()
        ]
        total = {"model": text.count(len(rows), "cell"), "flops": text.flops(self.flops), "runs": len(self.runs)}
        notes = "".join(f"<div>{text.escape(note)}</div>" for note in self.notes)
        shows = "" if self.design is None else self.design._repr_html_()
        return f"<b>{text.escape(self.sweep)}</b>{text.html_table(rows, total)}{notes}{shows}"

    @functools.cached_property
    def design(self) -> Design | None:
        """What it can show under the default law and noise; None if it asks for no law. Imports numpy."""
        from orchestrator.sweep.design import design_of

        return design_of(self)

    @property
    def cells(self) -> dict[str, list[RunSpec]]:
        """Runs by cell_id, in the order of the file."""
        grouped: dict[str, list[RunSpec]] = {}
        for run in self.runs:
            grouped.setdefault(run.cell_id, []).append(run)
        return grouped


def _axis(key: str, values: Sequence[Any]) -> str:
    if len(values) == 1:
        return f"{key} = {values[0]}"
    shown = [f"{value:g}" if isinstance(value, float) else str(value) for value in values]
    if len(shown) > _SHOWN:
        shown = [*shown[:3], "...", f"{shown[-1]} ({len(values)} values)"]
    return f"{key} {', '.join(shown)}"


def makers(sweep: Sweep) -> Iterator[tuple[RunSpec, Make]]:
    """The cells of a sweep with a search as declared, each with a function that makes a run from values and a seed.

    That function raises SpecError if the values do not fit; `plan` has checked the others.
    """
    find = _finder(Path(sweep.source.name).parent, decode=True)

    def maker(fields: dict[str, Any]) -> Make:
        return lambda values, seed: find(RunSpec(**evaluated({**fields, **values, "seed": seed})))

    cells = (fields for block in blocks_of(sweep, {}) for fields, _ in block.cells({}))
    return ((RunSpec(**evaluated(fields)), maker(fields)) for fields in cells)


def run_flops(spec: RunSpec) -> int:
    """Training FLOPs of a resolved run."""
    assert spec.steps is not None
    return spec.steps * spec.batch_size * cost.flops_per_example(cost.shape_of(spec))


def plan(sweep: Sweep, *, decode: bool = True, cells: int | None = None) -> Plan:
    """Expand a sweep into its runs and price them.

    Without `decode`, data sets of the catalogue need not be present: such a plan can be shown but not run. At most
    `cells` cells (default 20,000) are planned, and five times as many runs.

    Raises SweepError with every value that does not fit its data set, model or budget, and its line.
    """
    complaints: dict[Location, str] = {}
    find = _finder(Path(sweep.source.name).parent, decode=decode)
    runs: dict[str, RunSpec] = {}
    twice = 0
    blocks, seeds = blocks_of(sweep, complaints), sweep.seed_list
    _refuse_many(sweep, blocks, cells := cells or MOST_CELLS)
    for fields, places in itertools.chain.from_iterable(block.cells(complaints) for block in blocks):
        first = _resolved({**fields, "seed": seeds[0]}, {**places, "": places["dataset"]}, complaints, find)
        for run in [] if first is None else first.seeded(seeds):
            twice += run.run_id in runs
            runs.setdefault(run.run_id, run)
    whole = Block(settings_of(sweep, ())).settings | (blocks[0].settings if blocks else {})
    _check_owners(whole, list(runs.values()), complaints)
    stages = {FIRST_STAGE: list(runs.values())}
    for i, stage in enumerate(sweep.then):
        if not complaints:
            parents = stages[stage.after or [*stages][-1]]
            stages[stage.stage] = _follow(stage, ("then", i), parents, complaints, find, cells)
            runs |= {run.run_id: run for run in stages[stage.stage]}
    if complaints:
        raise SweepError(sweep.source, list(complaints.items()))
    search = sweep.search
    planned = Plan(sweep.sweep, tuple(runs.values()), sweep.limits, sweep.source.text, varies=varied(blocks))
    if search is not None:
        planned = replace(planned, trials=trials_of(search), batch=search.batch)
    return replace(planned, notes=tuple(_notes(planned, twice)))


def _refuse_many(sweep: Sweep, blocks: Sequence[Block], most: int) -> None:
    """Raise SweepError for more cells or runs than are allowed, before any is built."""
    cells = sum(block.count for block in blocks)
    runs = cells * len(sweep.seed_list)
    if cells > most or runs > _SEEDS * most:
        found = f"{cells:,} cells" if cells > most else f"{runs:,} runs"
        allowed = f"at most {most:,} cells and {_SEEDS * most:,} runs are planned"
        least = max(cells, -(-runs // _SEEDS))
        raise SweepError(sweep.source, [((), f"the axes multiply to {found}; {allowed} without --cells {least}")])


def _resolved(
    fields: dict[str, Any],
    places: dict[str, Location],
    complaints: dict[Location, str],
    find: Find,
) -> RunSpec | None:
    """A run; or None, and a complaint at the place of the value concerned, else at `places[""]`."""
    try:
        return find(RunSpec(**evaluated(fields)))
    except SpecError as error:
        others = LENGTHS if error.field in LENGTHS else ()
        named = [places[name] for name in (error.field, *others) if name in places]
        complaints.setdefault([*named, places[""]][0], f"{error.field}: {error.message}")
        return None


def _follow(
    stage: Stage,
    top: Location,
    parents: Sequence[RunSpec],
    complaints: dict[Location, str],
    find: Find,
    cells: int,
) -> list[RunSpec]:
    """The runs of a stage: its axes multiplied with the runs that it follows."""
    block = Block(settings := settings_of(stage, top))
    if not has(settings, "budget"):
        complaints[top] = f"stage {stage.stage!r}: budget: flops, epochs or examples is missing"
        return []
    if block.count * len(parents) > _SEEDS * cells:
        complaints[top] = f"stage {stage.stage!r}: its axes multiply to more than {_SEEDS * cells:,} runs"
        return []
    taken_over = ("run",) if "dataset" in settings else ("run", "data")
    inherited = [name for name, field in SETTINGS.items() if field.inherited in taken_over]
    runs: dict[str, RunSpec] = {}
    for fields, places in block.cells(complaints):
        for parent in parents:
            links = {"parent": parent.run_id, "parent_cell": parent.cell_id, "stage": stage.stage}
            own = {**{name: getattr(parent, name) for name in inherited}, **fields, **links}
            run = _resolved(own, {**places, "": top}, complaints, find)
            if run is not None and run.inputs != parent.inputs:
                where = places.get("resolution") or places.get("dataset") or top
                message = f"{run.dataset} has {run.inputs:,} inputs here, its parent {parent.inputs:,}"
                complaints.setdefault(where, f"{message}; give data.resolution, the side of the parent's images")
            if run is None or complaints:
                return []
            runs[run.run_id] = run
    _check_owners(settings, list(runs.values()), complaints)
    return list(runs.values())


def _finder(folder: Path, *, decode: bool) -> Find:
    """A function that completes a run with its data set, whose files are located once per plan."""

    @functools.cache
    def place(dataset: str, path: str | None) -> str | None:
        if path is None or not catalogue.in_files(dataset):
            return path or catalogue.find(dataset, [folder])
        return _absolute("path", path, folder)

    @functools.cache
    def start(path: str | None) -> str | None:
        return None if path is None else _absolute("start", path, folder)

    @functools.cache
    def info(*settings: tuple[str, Any]) -> DatasetInfo:
        return datasets.describe(RunSpec(**dict(settings), epochs=1), decode=decode)

    def find(spec: RunSpec) -> RunSpec:
        path, begin = place(spec.dataset, spec.path), start(spec.start)
        located = spec if (path, begin) == (spec.path, spec.start) else replace(spec, path=path, start=begin)
        return datasets.resolve(located, info(*((name, getattr(located, name)) for name in _WHICH_DATA)))

    return find


_WHICH_DATA = [name for name, field in SETTINGS.items() if field.content]


def _absolute(field: str, place: str, folder: Path) -> str:
    """The path of something beside the file, in $ISOFLOP_DATA or in ./data; a URL stays as it is."""
    if is_url(place):
        return place
    roots = [folder, *catalogue.data_roots()]
    for path in [(root / local(place)).absolute() for root in roots]:
        if path.exists():
            return os.path.normpath(path)
    where = ", ".join(str(root) for root in roots)
    raise SpecError(field, f"{place!r} not found; looked in {where}; set ISOFLOP_DATA to its folder")


def _check_owners(settings: Settings, runs: Sequence[RunSpec], complaints: dict[Location, str]) -> None:
    """Complain about settings that no run uses."""
    if not runs or complaints:
        return
    for name, owner in OWNERS.items():
        present = {getattr(run, owner.field) for run in runs}
        if name in settings and settings[name][0][1][-1] != "preset" and not any(map(owner.uses, present)):
            where, values = settings[name][0][1], ", ".join(sorted(map(str, present)))
            belongs = f"it belongs to {owner.field} {owner.value}, found {values}"
            complaints[where] = f"{name} does nothing here: {belongs}"


def _notes(planned: Plan, twice: int) -> Iterator[str]:
    if planned.trials is not None:
        cells, trials = text.count(len(planned.cells), "cell"), text.count(planned.trials, "trial")
        yield f"a search of {trials} in each of {cells}; a cell is priced by its dearest trial"
    if twice:
        yield f"{text.count(twice, 'run')} declared more than once will run once"
    alone = sum(map(run_flops, planned.runs))
    if alone > planned.flops:
        saved = f"{number(planned.flops)} FLOPs, not {number(alone)}"
        yield f"the common steps of runs of one recipe are trained once: {saved}"
    for name, path in sorted(
        {(run.dataset, run.path) for run in planned.runs if run.fingerprint == datasets.UNSEEN}
    ):
        why = f"{name} at {shown(path)} is not decoded yet" if path else catalogue.missing(name).message
        yield f"{why}; its sizes here are the catalogue's"
    limit = planned.limits.total_flops
    price = planned.flops * (planned.trials or 1)
    if limit is not None and price > limit:
        yield f"limits.total_flops {number(limit)} is below the {number(price)} planned; the rest will be blocked"
