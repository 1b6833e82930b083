"""Metadata of the fields of `RunSpec`: values, YAML key, meaning for stacks, searches and identity."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING, Any, Literal, get_args

if TYPE_CHECKING:
    from collections.abc import Callable

    from trainer.registry import Registry

NEVER = object()
"""`Setting.off` of a field that always does something."""


@dataclass(frozen=True)
class Kind:
    """The values that a field may have.

    `refusal(value)` is None for a value of this kind, else a message. Numbers are at most `most`.
    """

    name: str
    number: type
    refusal: Callable[[Any], str | None]
    choices: tuple[str, ...] = ()
    registry: Registry[Any] | None = None
    most: float = math.inf


@dataclass(frozen=True)
class Owner:
    """The field on which another depends: it is used where `uses(value)`; `value` says so in words."""

    field: str
    value: str
    uses: Callable[[Any], bool]


@dataclass(frozen=True, kw_only=True)
class Setting:
    """Metadata of a field of `RunSpec`.

    Args:
        kind: its values.
        section, key: where a sweep file says it; no section: a sweep file does not say it.
        doc: one line on what it means.
        axis: whether a sweep file may give a list of values.
        off: the value with which it does nothing, and is left out of `run_id`.
        owner: the field on which it depends.
        identity: whether it can change the result, and so is part of `run_id`.
        stacked: whether it may differ between the runs of a stack.
        searched: whether a search may vary it.
        mutable: whether it may change while a model trains.
        inherited: whether a later stage takes it from its parent: always ("run"), or with its data set ("data").
        content: whether it says which data set it is.
        planned: whether its column holds what was planned; if not, what the run really did.
    """

    kind: Kind
    section: str = ""
    key: str = ""
    doc: str = ""
    axis: bool = True
    off: Any = NEVER
    owner: Owner | None = None
    identity: bool = True
    stacked: bool = False
    searched: bool = True
    mutable: bool = False
    inherited: Literal["", "run", "data"] = ""
    content: bool = False
    planned: bool = True

    @property
    def description(self) -> str:
        """What it means, and where it is used."""
        where = f"only where `{self.owner.field}` is {self.owner.value}" if self.owner else ""
        return "; ".join(part for part in (self.doc, where) if part)


def setting(default: Any, kind: Kind, doc: str = "", **facts: Any) -> Any:
    """A dataclass field with its Setting as metadata."""
    return dataclasses.field(default=default, metadata={"setting": Setting(kind=kind, doc=doc, **facts)})


def settings_of(spec: type) -> dict[str, Setting]:
    """The Setting of every field of a dataclass, by name."""
    return {field.name: field.metadata["setting"] for field in dataclasses.fields(spec)}


def used_with(field: str, *values: str) -> Owner:
    """The owner of a field that is only used where another has one of these values."""
    return Owner(field, " or ".join(values), values.__contains__)


def above_zero(field: str) -> Owner:
    """The owner of a field that is only used where another is above 0."""
    return Owner(field, "above 0", lambda value: value > 0)


def one_of(literal: Any) -> Kind:
    """A word of a Literal type."""
    choices = get_args(literal)
    words = f"is none of {', '.join(choices)}"
    return Kind("choice", str, lambda value: None if value in choices else f"{value!r} {words}", choices)


def registered(registry: Registry[Any]) -> Kind:
    """A name in a registry."""

    def refusal(value: Any) -> str | None:
        if not isinstance(value, str):
            return f"{value!r} is not the name of a {registry.kind}"
        try:
            registry.get(value)
        except (LookupError, TypeError) as error:
            return str(error)
        return None

    return Kind("name", str, refusal, registry=registry)


def _number(name: str, number: type, accepts: Callable[[Any], bool], words: str, most: float) -> Kind:
    def refusal(value: Any) -> str | None:
        if not accepts(value):
            return f"{value!r} is not {words}"
        return None if value <= most else f"{value!r} is above {most:,.12g}"

    return Kind(name, number, refusal, most=most)


def _real(value: Any) -> bool:
    kind = type(value)  # asking the abstract class of ten thousand runs takes a second
    return kind is float or kind is int or (isinstance(value, Real) and kind is not bool)


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


LARGEST = 2**31 - 1
"""The largest whole number of a column of the results table."""


def whole(most: int = LARGEST) -> Kind:
    """Whole numbers from 1."""
    return _number("whole", int, _whole, "a whole number of at least 1", most)


def count(most: int = LARGEST) -> Kind:
    """Whole numbers from 0."""
    return _number("count", int, lambda v: _whole(v) or (v == 0 and _real(v)), "a whole number of at least 0", most)


def positive(most: float = 1e38) -> Kind:
    """Numbers above 0, by default up to the largest of single precision."""
    return _number("positive", float, lambda v: _real(v) and 0 < v < math.inf, "a finite number above 0", most)


def non_negative(most: float = 1e38) -> Kind:
    """Numbers of at least 0, by default up to the largest of single precision."""
    words = "a finite number of at least 0"
    return _number("non-negative", float, lambda v: _real(v) and 0 <= v < math.inf, words, most)


SHARE = _number("share", float, lambda v: _real(v) and 0 <= v < 1, "in [0, 1)", 1)
PART = _number("part", float, lambda v: _real(v) and 0 < v <= 1, "in (0, 1]", 1)
TEXT = Kind("text", str, lambda _: None)
RESOLVED = Kind("resolved", int, lambda _: None)
"""A number that `resolve` fills in."""
