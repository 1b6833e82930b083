"""The rows that a verb is asked about, and its answers about them, group by group."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import typer

from orchestrator.cli.options import say

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from orchestrator.answers import Asked
    from orchestrator.reporting.figures import Findings


def ask(
    store: str,
    which: str | None,
    stage: str | None = None,
    where: str = "",
    by: str = "",
    pool: bool = False,
    y: str = "",
    x: Sequence[str] | None = None,
) -> Asked:
    """The rows that a verb is asked about; says what the columns of a file are taken for."""
    from orchestrator.answers import Asked

    asked = Asked(store, which, stage, where, by, pool, y, tuple(x or ()))
    if asked.rows.text:
        say(asked.rows.text)
    return asked


def answer(groups: Sequence[Findings], lacking: str, of: Callable[[Findings], Any], *, as_json: bool) -> None:
    """Print what `of` returns for each group, as text or JSON; of a single group without a heading.

    `of` raises FitError or ValueError where a group has no answer; `lacking` says what it then has none of.
    Without any answer the command ends with exit code 2.
    """
    from analysis.checks.parts import attempt
    from analysis.fits import summary

    answers = [(group, *attempt(lambda group=group: of(group))) for group in groups]  # type: ignore[misc]
    if all(result is None for _, result, _ in answers):
        for group, _, why_not in answers:
            say(f"{lacking}{f' of {group.label}' if group.label else ''}: {why_not}")
        raise typer.Exit(2)
    if as_json:
        entries = [
            {
                "group": summary.as_json(group.members),
                **(result.to_dict() if result is not None else {"why_not": why_not}),
            }
            for group, result, why_not in answers
        ]
        alone = {name: value for name, value in entries[0].items() if name != "group"}
        print(json.dumps({"groups": entries} if groups[0].label else alone, indent=1))
        return
    texts = [f"{lacking}: {why_not}" if result is None else result.summary() for _, result, why_not in answers]
    heads = [f"{group.label}\n" if group.label else "" for group in groups]
    print("\n\n".join(head + text for head, text in zip(heads, texts, strict=True)))
