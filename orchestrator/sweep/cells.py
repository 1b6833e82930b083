"""From the sections of a sweep to its cells: axes that multiply, paired settings, and cells beside the grid.

Cells are counted before any is built.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from orchestrator.sweep.formula import Formula
from orchestrator.sweep.search_space import dearest
from orchestrator.sweep.sweep import CellSections, Stage, Sweep
from trainer.presets import PRESETS
from trainer.spec import LENGTHS, SETTINGS, SpecError, parse_model_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from orchestrator.sweep.sweep import ZipGroup
    from orchestrator.sweep.yaml_source import Location

SECTIONS = ("data", "model", "train", "budget")
NAMED = ("family", "depth", "width")
"""What the name of a model says."""

_FIELD_OF = {field.key: name for name, field in SETTINGS.items() if field.key}  # keys other than the field's name
_REQUIRED = {"dataset": "data", "width": "model", "budget": "budget"}

Settings = dict[str, list[tuple[Any, "Location"]]]
"""The values of fields of RunSpec, with the place of each in the file."""


@dataclass(frozen=True)
class Block:
    """Cells that are a product of axes and of groups of paired settings; in a group all have as many values."""

    axes: Settings
    groups: tuple[Settings, ...] = ()

    @property
    def settings(self) -> Settings:
        """The values of every field."""
        return {**self.axes, **{name: values for group in self.groups for name, values in group.items()}}

    @property
    def count(self) -> int:
        """The number of cells."""
        lengths = [len(next(iter(group.values()))) for group in self.groups]
        return math.prod([*map(len, self.axes.values()), *lengths])

    def cells(self, complaints: dict[Location, str]) -> Iterator[tuple[dict[str, Any], dict[str, Location]]]:
        """The fields of each cell and their places; formulas are not calculated yet."""
        names, alone = list(self.settings), len(self.axes)
        rows = [list(zip(*group.values(), strict=True)) for group in self.groups]
        for chosen in itertools.product(*self.axes.values(), *rows):
            values = [*chosen[:alone], *itertools.chain.from_iterable(chosen[alone:])]
            fields = {name: value for name, (value, _) in zip(names, values, strict=True)}
            places = {name: where for name, (_, where) in zip(names, values, strict=True)}
            if (model := fields.pop("name", None)) is not None:
                try:
                    fields |= parse_model_name(model)
                except SpecError as error:
                    complaints[places["name"]] = f"name: {error.message}"
                    continue
            yield fields, places


def blocks_of(sweep: Sweep, complaints: dict[Location, str]) -> list[Block]:
    """The grid of a sweep if it has one, then a block for every entry of `cells:`."""
    top = Block(settings_of(sweep, ()), tuple(map(_group, range(len(sweep.zip)), sweep.zip)))
    paired = {name for group in top.groups for name in group}
    top = Block({name: values for name, values in top.axes.items() if name not in paired}, top.groups)
    missing = [field for field in _REQUIRED if not has(top.settings, field)]
    blocks = [] if missing else [top]
    for i, cell in enumerate(sweep.cells):
        own = settings_of(cell, ("cells", i))
        block = _beside(top, own)
        if isinstance(block, str):
            complaints["cells", i] = block
        elif absent := [field for field in _REQUIRED if not has(block.settings, field)]:
            complaints["cells", i] = f"{absent[0]!r} is missing here and in {_REQUIRED[absent[0]]!r}"
        else:
            blocks.append(block)
    for field in missing if not sweep.cells else ():
        word = "flops, epochs or examples" if field == "budget" else f"{field!r}"
        complaints[(_REQUIRED[field],)] = f"{_REQUIRED[field]}: {word} is missing"
    return blocks


def _beside(top: Block, own: Settings) -> Block | str:
    """The cells of an entry of `cells:`, which takes from the top what it leaves out; or why it has none."""
    if "name" in top.settings and "name" not in own and (parts := [name for name in NAMED if name in own]):
        return f"{parts[0]}: the models above are given by name; give this cell a name too"
    replaced = {*own, *(NAMED if "name" in own else ()), *(LENGTHS if any(has(own, n) for n in LENGTHS) else ())}
    groups = []
    for group in top.groups:
        here = [name for name in group if name in replaced]
        if here and len(here) < len(group):
            other = next(name for name in group if name not in replaced)
            return f"this cell sets {key_of(here[0])}, which zip pairs with {key_of(other)}; set both or neither"
        if not here:
            groups.append(group)
    return Block({**{name: v for name, v in top.axes.items() if name not in replaced}, **own}, tuple(groups))


def _group(index: int, group: ZipGroup) -> Settings:
    return dict(_values(group, ("zip", index)))


def settings_of(sections: CellSections | Stage, top: Location) -> Settings:
    """The values of each field that the sections set, with the place of each; those of a preset first."""
    preset, place = sections.train.preset, (*top, "train", "preset")
    settings: Settings = {name: [(value, place)] for name, value in PRESETS[preset].items()} if preset else {}
    for section in SECTIONS:
        settings |= _values(getattr(sections, section, ()), (*top, section))
    if isinstance(sections, Sweep) and sections.search:  # a plan is priced with the dearest trial
        for name, parameter in sections.search.parameters.items():
            settings[name] = [(dearest(name, parameter), ("search", "parameters", name))]
    return settings


def _values(
    section: Iterable[tuple[str, Any]], where: Location
) -> Iterator[tuple[str, list[tuple[Any, Location]]]]:
    for key, value in section:
        if value is None or key == "preset":
            continue
        at = (*where, key)
        several = [(v, (*at, i)) for i, v in enumerate(value)] if isinstance(value, list) else [(value, at)]
        yield _FIELD_OF.get(key, key), several


def has(settings: Settings, field: str) -> bool:
    """Whether a field is set, or another that stands for it."""
    others = {"width": ("name",), "budget": ("epochs", "examples")}.get(field, ())
    return any(name in settings for name in (field, *others))


def key_of(field: str) -> str:
    """The key of a field in a sweep file."""
    return SETTINGS[field].key or field if field in SETTINGS else field


def varied(blocks: Sequence[Block]) -> dict[str, list[Any]]:
    """By key, the values of every setting that has several, or a formula."""
    values: dict[str, dict[Any, None]] = {}
    for block in blocks:
        for name, given in block.settings.items():
            values.setdefault(key_of(name), {}).update(dict.fromkeys(value for value, _ in given))
    return {k: list(v) for k, v in values.items() if len(v) > 1 or any(isinstance(one, Formula) for one in v)}
