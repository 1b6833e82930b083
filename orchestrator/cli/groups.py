"""The rows that a verb is asked about, group by group, and its answers about them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import typer

from orchestrator.cli.options import frame_of, say, stop

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import pandas as pd

    from orchestrator.reporting.figures import Findings

MOST_RECORDS = 20_000
"""Records that a figure draws; of more, every run keeps each second, third, ... of its own."""


@dataclass(frozen=True)
class Asked:
    """The rows that a verb is asked about, and what was measured on them; see the options of these names."""

    store: str
    which: str | None
    stage: str | None = None
    where: str = ""
    by: str = ""
    pool: bool = False
    y: str = "error"

    def runs(self) -> pd.DataFrame:
        """The rows of the table; stops if a condition, a stage or a column does not exist."""
        from orchestrator.store.export import filtered

        frame = at_stage(frame_of(self.store, self.which), self.stage)
        if self.y not in frame:
            stop(f"--y {self.y!r}: no such column in the results table")
        kept = filtered(frame, self.where)
        if len(frame) and not len(kept):
            stop(f"--where {self.where!r}: no row satisfies it")
        done = kept[kept["state"] == "done"]
        if len(done) and not done[self.y].notna().any():
            stop(f"--y {self.y!r}: none of the {len(done)} finished runs has a value; choose another column")
        return kept

    def findings(self, resamples: int, *, history: bool = False) -> Findings:
        """The rows with what is fitted to them; with at most MOST_RECORDS of their records if asked."""
        from orchestrator.reporting.figures import Findings

        runs = self.runs()
        records = frame_of(self.store, self.which, "history", several=True) if history else None
        if records is not None and len(records) > MOST_RECORDS:
            every = -(-len(records) // MOST_RECORDS)
            records = records[records.groupby("run_id").cumcount(ascending=False) % every == 0]
        return Findings(runs, records, resamples, judged=min(resamples, 200), y=self.y, pool=self.pool)

    def groups(self, findings: Findings) -> list[Findings]:
        """The findings on each group of the rows."""
        names = [name.strip() for name in self.by.split(",") if name.strip()]
        if names and self.pool:
            stop("--by and --pool exclude each other")
        try:
            return findings.groups(names)
        except ValueError as error:
            stop(f"--by {self.by!r}: {error}")


def at_stage(frame: pd.DataFrame, stage: str | None) -> pd.DataFrame:
    """Return the runs of one stage."""
    from orchestrator.reporting.laws import at_stage as runs_at

    stages = list(dict.fromkeys(frame["stage"].dropna()))
    if stage is not None and stage not in stages:
        stop(f"--stage {stage!r} is unknown; it is one of {', '.join(stages)}")
    return runs_at(frame, stage or stages[0]) if stages else frame


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
