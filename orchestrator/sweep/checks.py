"""Contradictions between the keys of a sweep file that can be found without its data set."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator import text
from orchestrator.sweep.cells import NAMED, SECTIONS, key_of
from orchestrator.sweep.sweep import FIRST_STAGE, BudgetSection, CellSections, Stage, Sweep
from trainer.fields import LARGEST
from trainer.spec import LENGTHS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from orchestrator.sweep.yaml_source import Location


def contradictions(sweep: Sweep) -> list[tuple[Location, str]]:
    """Contradictions between keys that can be found without the data set."""
    complaints: list[tuple[Location, str]] = []
    seeds = sweep.seed_list
    if not seeds or min(seeds) < 0:
        complaints.append(
            (("seeds",), f"seeds: found {sweep.seeds!r}; give a number of at least 1, or seeds of at least 0")
        )
    elif max(seeds) > LARGEST:
        complaints.append((("seeds",), f"seeds: found {max(seeds)}; a seed is at most {LARGEST}"))
    elif len(set(seeds)) < len(seeds):
        complaints.append((("seeds",), "seeds: a seed is given twice in this list"))
    complaints += [*_stage_names(sweep), *_pairs(sweep)]
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
    return complaints


def _stage_names(sweep: Sweep) -> list[tuple[Location, str]]:
    """Complaints about stages without a name of their own, or that follow none above them."""
    complaints: list[tuple[Location, str]] = []
    names = [FIRST_STAGE]
    for i, stage in enumerate(sweep.then):
        if stage.stage in names:
            complaints.append((("then", i, "stage"), f"stage: {stage.stage!r} is the name of an earlier stage"))
        if stage.after is not None and stage.after not in names:
            near = text.nearest(stage.after, names, "it is one of")
            complaints.append((("then", i, "after"), f"after: no earlier stage {stage.after!r}; {near}"))
        names.append(stage.stage)
    return complaints


def _pairs(sweep: Sweep) -> Iterator[tuple[Location, str]]:
    """Complaints about paired settings of different lengths, or that are given elsewhere too."""
    taken: dict[str, Location] = {}
    for section in SECTIONS:
        taken |= {key: (section, key) for key, value in getattr(sweep, section) if value is not None}
    if sweep.search:
        taken |= {key: ("search", "parameters", key) for key in sweep.search.parameters}
    for i, group in enumerate(sweep.zip):
        where: Location = ("zip", i)
        values = {key: value for key, value in group if value is not None}
        if len(values) < 2:
            yield where, "zip: a group pairs two settings at least, e.g. {width: [16, 64], lr: [1e-2, 1e-3]}"
        lengths = {key: len(value) for key, value in values.items()}
        if len(set(lengths.values())) > 1:
            counts = ", ".join(f"{key} has {length}" for key, length in lengths.items())
            yield where, f"zip: values are paired in order, give as many of each; {counts}"
        for key in values:
            for other in (key, *_instead_of(key)):
                if other in taken:
                    line = sweep.source.line(taken[other])
                    also = "given" if other == key else f"set by {other}"
                    yield (*where, key), f"{key}: it is {also} in line {line} already; leave one out"
                    break
        taken |= {key: (*where, key) for key in values}


def _instead_of(key: str) -> list[str]:
    """The other keys that say what a key says."""
    lengths = [key_of(name) for name in LENGTHS]
    if key in lengths:
        return [other for other in lengths if other != key]
    return list(NAMED) if key == "name" else ["name"] if key in NAMED else []
