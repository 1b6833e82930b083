"""What is known of a law's parameters, as options of the command line."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.cli.options import stop

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from orchestrator.reporting.figures import Findings

Fix = Annotated[
    list[str] | None,
    typer.Option("--fix", metavar="NAME=VALUE", help="A parameter at its known value; may be repeated."),
]
Tie = Annotated[
    list[str] | None, typer.Option("--tie", metavar="NAME=NAME", help="Two equal parameters; may be repeated.")
]
Bounds = Annotated[
    list[str] | None,
    typer.Option("--bounds", metavar="NAME=LOW:HIGH", help="A range of a parameter, in the units of the table."),
]


def constraints(
    fix: Sequence[str] | None, tie: Sequence[str] | None, bounds: Sequence[str] | None
) -> dict[str, Any]:
    """The options of a fit; empty where none is given. Stops at a text that is none."""
    given: dict[str, Any] = {}
    for option, texts in (("--fix", fix), ("--bounds", bounds)):
        names = [name for _, name, _ in _pairs(option, texts or ())]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            stop(f"{option} {twice[0]} is given {names.count(twice[0])} times; give it once")
    if both := sorted({name for _, name, _ in _pairs("--fix", fix or ())} & set(names)):
        stop(f"{both[0]} is in --fix and in --bounds; give one of them")
    if fix:
        given["fix"] = {name: _number("--fix", text, value) for text, name, value in _pairs("--fix", fix)}
    if tie:
        given["tie"] = [(first, second) for _, first, second in _pairs("--tie", tie)]
        if alone := [first for first, second in given["tie"] if first == second]:
            stop(f"--tie {alone[0]}={alone[0]} names one parameter; expected such as {_EXAMPLES['--tie']}")
    if bounds:
        given["bounds"] = {name: _range(text, ends) for text, name, ends in _pairs("--bounds", bounds)}
    return given


def check(given: dict[str, Any], groups: Sequence[Findings], approach: int) -> None:
    """Stop at constraints that no law of the groups can hold: one message, by the options that cause it."""
    from orchestrator.reporting.laws import require_held

    each = list(_each(given))
    asked = [*each, *([(", ".join(text for text, _ in each), given)] if len(each) > 1 else [])]
    for group in groups:
        for text, one in asked:
            try:
                require_held(group.frame, one, y=group.y, law=group.form, shift=group.shift, surface=approach == 3)
            except ValueError as error:
                stop(f"{text}: {error}")


def _each(given: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each constraint alone, as it was written on the command line."""
    for name, value in given.get("fix", {}).items():
        yield f"--fix {name}={value:g}", {"fix": {name: value}}
    for first, second in given.get("tie", ()):
        yield f"--tie {first}={second}", {"tie": [(first, second)]}
    for name, (low, high) in given.get("bounds", {}).items():
        ends = ":".join(f"{end:g}" if math.isfinite(end) else "" for end in (low, high))
        yield f"--bounds {name}={ends}", {"bounds": {name: (low, high)}}


def _pairs(option: str, texts: Sequence[str]) -> list[tuple[str, str, str]]:
    """Each text with what stands before and behind its `=`."""
    found = []
    for text in texts:
        first, equals, second = (part.strip() for part in text.partition("="))
        if not (first and equals and second):
            stop(f"{option} {text!r} has no name and value; expected such as {_EXAMPLES[option]}")
        found.append((text, first, second))
    return found


def _number(option: str, text: str, value: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if math.isnan(number) or (option == "--fix" and math.isinf(number)):
        stop(f"{option} {text!r} has no number {value!r}; expected such as {_EXAMPLES[option]}")
    return number


def _range(text: str, ends: str) -> tuple[float, float]:
    low, colon, high = ends.partition(":")
    if not colon:
        stop(f"--bounds {text!r} has no range; expected such as {_EXAMPLES['--bounds']}")
    least, most = _number("--bounds", text, low or "-inf"), _number("--bounds", text, high or "inf")
    if least >= most:
        stop(
            f"--bounds {text!r} does not rise from {least:g} to {most:g}; expected such as {_EXAMPLES['--bounds']}"
        )
    return least, most


_EXAMPLES = {"--fix": "floor=1.6", "--tie": "alpha=beta", "--bounds": "alpha=0.2:0.6"}
