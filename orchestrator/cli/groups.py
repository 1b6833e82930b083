"""The rows that a verb is asked about, group by group, and its answers about them."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from functools import cached_property
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
class Runs:
    """The rows that a verb is asked about.

    Attributes:
        frame: the rows.
        y: the column that was measured; inputs: those that laws are sought in.
        names: column of a file -> its name here.
        text: what the columns of a file were taken for.
        by: the column of runs, where each run of a file has a law of its own.
    """

    frame: pd.DataFrame
    y: str
    inputs: tuple[str, ...]
    names: dict[str, str] = field(default_factory=dict)
    text: str = ""
    by: tuple[str, ...] = ()


@dataclass(frozen=True)
class Asked:
    """The rows that a verb is asked about, and what was measured on them; see the options of these names."""

    store: str
    which: str | None
    stage: str | None = None
    where: str = ""
    by: str = ""
    pool: bool = False
    y: str = ""
    x: tuple[str, ...] = ()

    @property
    def is_foreign(self) -> bool:
        """Whether the rows are those of a file or folder, not of a sweep."""
        return self.which is not None and is_foreign(self.which)

    @cached_property
    def rows(self) -> Runs:
        """The rows of the table; stops if a condition, a stage or a column does not exist."""
        from orchestrator.store.export import filtered

        whole = self._foreign() if self.is_foreign else self._of_sweep()
        again = {name: whole.frame[here] for name, here in whole.names.items() if name not in whole.frame}
        kept = filtered(whole.frame.assign(**again), self.where)[whole.frame.columns]
        if len(whole.frame) and not len(kept):
            stop(f"--where {self.where!r}: no row satisfies it")
        done = kept[kept["state"] == "done"]
        if len(done) and not done[whole.y].notna().any():
            stop(f"--y {whole.y!r}: none of the {len(done)} finished runs has a value; choose another column")
        return replace(whole, frame=kept)

    def _of_sweep(self) -> Runs:
        from analysis.table import columns
        from orchestrator.reporting.laws import AXES

        frame, y = at_stage(frame_of(self.store, self.which), self.stage), self.y or "error"
        if y not in frame:
            stop(f"--y {y!r}: no such column in the results table")
        try:
            for name in self.x:
                columns.require(frame, name)
        except ValueError as error:
            stop(f"--x: {error}")
        return Runs(frame, y, self.x or AXES)

    def _foreign(self) -> Runs:
        """The rows of a file; what its columns were taken for is said."""
        from analysis import ReadError
        from orchestrator.reporting.foreign import foreign_runs

        assert self.which is not None
        if self.stage is not None:
            stop(f"--stage {self.stage!r}: {self.which} is no sweep and has no stages")
        try:
            known = foreign_runs(self.which, self.x, self.y)
        except ReadError as error:
            text = str(error)
            stop(text if text.startswith(self.which) else f"{self.which}: {text}")
        say(f"{self.which}: {known}")
        return Runs(known.frame, known.y, known.inputs, known.names, str(known), known.by)

    def findings(self, resamples: int, *, history: bool = False) -> Findings:
        """The rows with what is fitted to them; with at most MOST_RECORDS of their records if asked."""
        from orchestrator.reporting.figures import Findings

        runs = self.rows
        history = history and not self.is_foreign
        records = frame_of(self.store, self.which, "history", several=True) if history else None
        if records is not None and len(records) > MOST_RECORDS:
            every = -(-len(records) // MOST_RECORDS)
            records = records[records.groupby("run_id").cumcount(ascending=False) % every == 0]
        return Findings(
            runs.frame,
            records,
            resamples,
            judged=min(resamples, 200),
            y=runs.y,
            pool=self.pool,
            inputs=runs.inputs,
        )

    def groups(self, findings: Findings) -> list[Findings]:
        """The findings on each group of the rows."""
        names = [self.rows.names.get(name, name) for part in self.by.split(",") if (name := part.strip())]
        names = names or list(() if self.pool else self.rows.by)
        if names and self.pool:
            stop("--by and --pool exclude each other")
        try:
            return findings.groups(names)
        except ValueError as error:
            stop(f"--by {self.by!r}: {error}")


def is_foreign(which: str) -> bool:
    """Whether a word names a table in a file or folder: one that exists, or would be one by its name."""
    from pathlib import Path

    if which.endswith((".yaml", ".yml")):
        return False
    path = Path(which)
    if path.is_file():
        return True
    if not path.is_dir() and "/" not in which and not path.suffix:
        return False
    from analysis.table.foreign.read import is_table

    return is_table(path) or "/" in which


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
