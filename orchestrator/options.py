"""What the verbs of the command share: options by one name, the table they read, and how they speak."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

if TYPE_CHECKING:
    import pandas as pd

Which = Annotated[
    str | None,
    typer.Argument(metavar="[SWEEP]", help="a sweep file or a sweep's name; default: the only one"),
]
Store = Annotated[str, typer.Option("--store", envvar="ISOFLOP_STORE", help="the results table")]
AsJson = Annotated[bool, typer.Option("--json", help="JSON on stdout")]
STORE = "isoflop.db"


def frame_of(store: str, which: str | None, what: str = "runs", *, several: bool = False) -> pd.DataFrame:
    """A table's runs, or their history; of one sweep unless `several` may be mixed. Misuse ends the command."""
    from orchestrator.table import Table

    with Table(store) as table:
        known = [row["sweep"] for row in table.sweeps()]
        name = sweep_name(which)
        if name is None and len(known) > 1 and not several:
            stop(f"{store} holds {len(known)} sweeps; name one of {', '.join(known)}")
        if name is not None and name not in known:
            stop(f"no sweep {name!r} in {store}; it holds {', '.join(known) or 'none'}")
        return table.frame(what, name)


def sweep_name(which: str | None) -> str | None:
    """A sweep's name as given, or the one that a sweep file declares."""
    if which is None or not which.endswith((".yaml", ".yml")):
        return which
    from orchestrator.reader import load_sweep

    return load_sweep(which).sweep


def say(text: str) -> None:
    """A line to the user, on stderr: stdout is for data."""
    print(text, file=sys.stderr, flush=True)


def stop(message: str) -> NoReturn:
    """End the command as misused: one line and exit code 2."""
    say(message)
    raise typer.Exit(2)
