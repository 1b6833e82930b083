"""A YAML file as plain values that remember their lines.

Scalars are read as in YAML 1.2 (core schema): `1e12` and `3.0e12` are numbers, `no` and `12:30` are words, `010`
is 10. PyYAML parses; what a scalar means is decided here, since its own resolvers follow YAML 1.1.
"""

from __future__ import annotations

import contextlib
import gc
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

Location = tuple[str | int, ...]
"""Keys and list positions from the top of the file to a value."""

_DEEPEST, _MOST_VALUES = 20, 100_000  # aliases can make a small file endless
_SCALARS: list[tuple[re.Pattern[str], Any]] = [
    (re.compile(r"~|null|Null|NULL|"), lambda _: None),
    (re.compile(r"true|True|TRUE"), lambda _: True),
    (re.compile(r"false|False|FALSE"), lambda _: False),
    (re.compile(r"[-+]?[0-9]+"), int),
    (re.compile(r"0o[0-7]+"), lambda text: int(text, 8)),
    (re.compile(r"0x[0-9a-fA-F]+"), lambda text: int(text, 16)),
    (re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?"), float),
    (re.compile(r"[-+]?\.(inf|Inf|INF)"), lambda text: float(text.replace(".", ""))),
    (re.compile(r"\.(nan|NaN|NAN)"), lambda _: float("nan")),
]


@dataclass(frozen=True)
class Source:
    """The name of a file, the line of every value in it, and the column of every text."""

    name: str = "<sweep>"
    text: str = ""
    lines: dict[Location, int] = field(default_factory=dict)
    columns: dict[Location, int] = field(default_factory=dict)

    def column(self, where: Location) -> int | None:
        """The column, from 1, at which a text begins that is on one line; None of anything else."""
        return self.columns.get(where) or self.columns.get(where[:-1])  # an axis of one value has no list

    def line(self, where: Location) -> int:
        """The line, from 1, of a location or of the nearest one around it."""
        while where and where not in self.lines:
            where = where[:-1]
        return self.lines.get(where, 1)


class YAMLError(ValueError):
    """Invalid text; `complaints` holds lines and messages."""

    def __init__(self, complaints: list[tuple[int, str]]) -> None:
        super().__init__("\n".join(message for _, message in complaints))
        self.complaints = complaints


@contextlib.contextmanager
def _no_collection() -> Iterator[None]:
    """Garbage collection paused: it took three quarters of the time of reading a file of 64,000 values."""
    on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if on:
            gc.enable()


@_no_collection()
def parse(name: str, text: str) -> tuple[Any, Source]:
    """The values and lines of a YAML text. Raises YAMLError with all repeated keys, tags and syntax errors."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        _refuse_depth(yaml.parse(text, Loader=loader))
        node = yaml.compose(text, Loader=loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        if "".join(text.splitlines()[line - 1 : line]).startswith("\t"):
            raise YAMLError([(line, "not YAML: the line begins with a tab; indent with spaces")]) from error
        raise YAMLError([(line, f"not YAML: {error.problem or error.context}")]) from error
    except UnicodeEncodeError as error:
        raise YAMLError([(1, f"not text: {error.reason}")]) from error
    except (yaml.YAMLError, RecursionError) as error:
        raise YAMLError([(1, f"not YAML: {str(error).splitlines()[0]}")]) from error
    if node is None:
        raise YAMLError([(1, "the file is empty")])
    walk = _Walk()
    value = walk.value(node, ())
    if walk.complaints:
        raise YAMLError(walk.complaints)
    return value, Source(name, text, walk.lines, walk.columns)


def _refuse_depth(events: Iterable[yaml.Event]) -> None:
    """Raise YAMLError for deep nesting: the composer recurses in C, and 50,000 brackets would end the process."""
    depth = 0
    for event in events:
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _DEEPEST + 1:
            line = event.start_mark.line + 1 if event.start_mark else 1
            raise YAMLError([(line, f"nested deeper than {_DEEPEST} levels")])


class _Walk:
    def __init__(self) -> None:
        self.lines: dict[Location, int] = {}
        self.columns: dict[Location, int] = {}
        self.complaints: list[tuple[int, str]] = []
        self._values = 0

    def value(self, node: yaml.Node, where: Location) -> Any:
        line = node.start_mark.line + 1
        self.lines.setdefault(where, line)
        self._values += 1
        if self._values > _MOST_VALUES:
            raise YAMLError([(line, f"more than {_MOST_VALUES:,} values")])
        if len(where) > _DEEPEST:
            self.complaints.append((line, f"nested deeper than {_DEEPEST} levels"))
            return None
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, where)
        if isinstance(node, yaml.SequenceNode):
            return [self.value(item, (*where, i)) for i, item in enumerate(node.value)]
        assert isinstance(node, yaml.ScalarNode)
        value = self._scalar(node)
        if isinstance(value, str) and node.end_mark.line == node.start_mark.line:
            self.columns[where] = node.start_mark.column + 1 + (node.style in ("'", '"'))
        return value

    def _mapping(self, node: yaml.MappingNode, where: Location) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                self.complaints.append((line, "a key must be a string"))
                continue
            key = key_node.value
            if key in values:
                self.complaints.append(
                    (line, f"key {key!r} is given twice; the first is in line {self.lines[*where, key]}")
                )
                continue
            self.lines[*where, key] = line
            values[key] = self.value(value_node, (*where, key))
        return values

    def _scalar(self, node: yaml.ScalarNode) -> Any:
        if not node.tag.startswith("tag:yaml.org,2002:") or "python" in node.tag:
            self.complaints.append((node.start_mark.line + 1, f"tags such as {node.tag} are not supported"))
            return None
        text = node.value
        if node.style:  # quoted or a block: a word, whatever it looks like
            return text
        try:
            return next((make(text) for pattern, make in _SCALARS if pattern.fullmatch(text)), text)
        except ValueError:  # Python reads whole numbers of up to 4300 digits
            self.complaints.append((node.start_mark.line + 1, f"a number of {len(text):,} digits is too long"))
            return None
