"""What is known of a law's parameters, as options of the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.cli.options import stop

if TYPE_CHECKING:
    from collections.abc import Sequence

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
    if fix:
        given["fix"] = {name: _number("--fix", text, value) for text, name, value in _pairs("--fix", fix)}
    if tie:
        given["tie"] = [(first, second) for _, first, second in _pairs("--tie", tie)]
    if bounds:
        given["bounds"] = {name: _range(text, ends) for text, name, ends in _pairs("--bounds", bounds)}
    return given


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
        return float(value)
    except ValueError:
        stop(f"{option} {text!r} has no number {value!r}; expected such as {_EXAMPLES[option]}")


def _range(text: str, ends: str) -> tuple[float, float]:
    low, colon, high = ends.partition(":")
    if not colon:
        stop(f"--bounds {text!r} has no range; expected such as {_EXAMPLES['--bounds']}")
    return _number("--bounds", text, low or "-inf"), _number("--bounds", text, high or "inf")


_EXAMPLES = {"--fix": "floor=1.6", "--tie": "alpha=beta", "--bounds": "alpha=0.2:0.6"}
