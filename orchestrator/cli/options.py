"""What the verbs of the command share: options by one name, the table they read, and how they speak."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

if TYPE_CHECKING:
    import pandas as pd

    from orchestrator.reporting.figures import Findings

Which = Annotated[
    str | None,
    typer.Argument(metavar="[SWEEP]", help="a sweep file or a sweep's name; default: the only one"),
]
Store = Annotated[str, typer.Option("--store", envvar="ISOFLOP_STORE", help="the results table")]
AsJson = Annotated[bool, typer.Option("--json", help="JSON on stdout")]
Stage = Annotated[str | None, typer.Option("--stage", help="of a chain (`then:`); default: its first")]
Resamples = Annotated[int, typer.Option(min=100, help="bootstrap resamples")]
STORE = "isoflop.db"


def frame_of(store: str, which: str | None, what: str = "runs", *, several: bool = False) -> pd.DataFrame:
    """A table's runs, or their history; of one sweep unless `several` may be mixed. Misuse ends the command."""
    from orchestrator.store.engine import name_of
    from orchestrator.store.table import Table

    with Table(store) as table:
        known = [row["sweep"] for row in table.sweeps()]
        name = sweep_name(which)
        if name is None and len(known) > 1 and not several:
            stop(f"{name_of(store)} holds {len(known)} sweeps; name one of {', '.join(known)}")
        if name is not None and name not in known:
            stop(f"no sweep {name!r} in {name_of(store)}; it holds {', '.join(known) or 'none'}")
        return table.frame(what, name)


MOST_RECORDS = 20_000
"""Records that a figure draws; of more, every run keeps each second, third, ... of its own."""


def findings_of(
    store: str, which: str | None, stage: str | None, resamples: int, *, history: bool = True
) -> Findings:
    """A sweep's table, as many of its records as a figure draws, and what will be fitted to it."""
    from orchestrator.reporting.figures import Findings

    frame = at_stage(frame_of(store, which), stage)
    records = frame_of(store, which, "history", several=True) if history else None
    if records is not None and len(records) > MOST_RECORDS:
        every = -(-len(records) // MOST_RECORDS)
        records = records[records.groupby("run_id").cumcount(ascending=False) % every == 0]
    return Findings(frame, records, resamples, judged=min(resamples, 200))


def at_stage(frame: pd.DataFrame, stage: str | None) -> pd.DataFrame:
    """The runs of one stage; a word where what is left mixes schedules, which no law should do unseen."""
    from orchestrator.reporting.laws import at_stage as runs_at

    known = list(dict.fromkeys(frame["stage"].dropna()))
    if stage is not None and stage not in known:
        stop(f"--stage {stage!r} is unknown; it is one of {', '.join(known)}")
    if known:
        frame = runs_at(frame, stage or known[0])
    schedules = sorted(frame["schedule"].dropna().unique())
    if len(schedules) > 1:
        say(f"schedules are mixed here ({', '.join(schedules)}): a difference between them looks like a law")
    return frame


def sweep_name(which: str | None) -> str | None:
    """A sweep's name as given, or the one that a sweep file declares."""
    if which is None or not which.endswith((".yaml", ".yml")):
        return which
    from orchestrator.sweep.reader import load_sweep

    return load_sweep(which).sweep


def say(text: str) -> None:
    """A line to the user, on stderr: stdout is for data."""
    print(text, file=sys.stderr, flush=True)


def stop(message: str) -> NoReturn:
    """End the command as misused: one line and exit code 2."""
    say(message)
    raise typer.Exit(2)
