"""The options that several verbs share, the table that they read, and messages to the user."""

from __future__ import annotations

import shutil
import sys
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TypeVar

import typer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    import pandas as pd


T = TypeVar("T")

Which = Annotated[
    str | None,
    typer.Argument(metavar="[SWEEP]", help="A sweep file or the name of a sweep; default: the only one."),
]
WhichTable = Annotated[
    str | None,
    typer.Argument(
        metavar="[SWEEP|TABLE]",
        help="A sweep, by name or file, or any table: CSV, Parquet, a tracker's store; default: the only sweep.",
    ),
]
X = Annotated[
    list[str] | None,
    typer.Option(
        "--x",
        metavar="COLUMN",
        help="The input, may be repeated; params=COLUMN says what it is. Default: params, examples and FLOPs.",
    ),
]
Store = Annotated[str, typer.Option("--store", envvar="ISOFLOP_STORE", help="The results table.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Stage = Annotated[str | None, typer.Option("--stage", help="A stage of a chain (`then:`); default: the first.")]
Resamples = Annotated[int, typer.Option(min=100, help="Bootstrap resamples.")]
Where = Annotated[str, typer.Option(help='An SQL condition, as "width = 64 and error < 0.1".')]
By = Annotated[
    str,
    typer.Option(
        metavar="COLUMN,...",
        help="One answer for each value of these columns; default: the data set and recipe, where they vary.",
    ),
]
Pool = Annotated[bool, typer.Option("--pool", help="One answer for all rows, with a test of whether they differ.")]
Columns = Annotated[
    str,
    typer.Option(
        metavar="COLUMN,...",
        help="The columns to show, or all; default: those that differ, as many as fit.",
    ),
]
Y = Annotated[
    str,
    typer.Option(
        "--y", metavar="COLUMN", help="What was measured; default: error, in a table what its columns say."
    ),
]

Executor = Annotated[
    str,
    typer.Option(
        help="processes, ray, inline (in this process), or auto: processes on cores, ray on GPUs and clusters."
    ),
]
Cells = Annotated[
    int | None,
    typer.Option(min=1, help="The most cells that a file may have; default 20,000.", show_default=False),
]
Slots = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Workers, on a cluster per machine; default: one per core, on a GPU as many as pay.",
        show_default=False,
    ),
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]
Address = Annotated[
    str | None, typer.Option(help="A Ray cluster to train on: host:port or auto; default: this machine alone.")
]
Checkpoints = Annotated[
    str | None,
    typer.Option(
        metavar="PATH",
        help="Where to save checkpoints: a folder, a URL (s3://...) or none; default: beside the table.",
    ),
]
Every = Annotated[float, typer.Option(min=0, help="Most seconds between two checkpoints of a run in training.")]
Log = Annotated[
    list[str] | None,
    typer.Option(
        "--log",
        metavar="TOOL[:WHERE]",
        help="Export runs as they train to tensorboard[:DIR], mlflow[:URI] or wandb[:PROJECT]; may be repeated.",
    ),
]
Keep = Annotated[bool, typer.Option("--keep", help="Keep the final parameters of every run.")]
Canary = Annotated[
    bool,
    typer.Option("--canary/--no-canary", help="First check that the smallest cell learns better than chance."),
]
STORE = "isoflop.db"


def frame_of(store: str, which: str | None, what: str = "runs", *, several: bool = False) -> pd.DataFrame:
    """Return the rows of a table, as `orchestrator.answers.frame_of`, which is imported when it is needed."""
    from orchestrator import answers

    return answers.frame_of(store, which, what, several=several)


def sweep_name(which: str | None) -> str | None:
    """Return a sweep's name: as given, or as declared in a sweep file."""
    from orchestrator import answers

    return answers.sweep_name(which)


def print_rows(
    rows: Sequence[Mapping[Any, Any]],
    columns: str,
    after: Sequence[str],
    essential: Sequence[str] = (),
    out: Path | None = None,
) -> None:
    """Print runs, or groups of them, as a table that fits the terminal; one without a terminal has 80 columns.

    See `store.columns.fitted`; `columns` are those that the user chose. `out` is a file to write to instead.
    """
    from orchestrator import text
    from orchestrator.store.columns import chosen, fitted, text_rows

    width, missing = shutil.get_terminal_size().columns, list[str]()
    if columns:
        shown = chosen(rows, columns)
    elif rows and "state" in rows[0]:
        shown, missing = fitted(rows, after, width, essential)
    else:
        shown = text.fitting(text_rows(rows, list(rows[0]) if rows else []), width, essential)
    table = text.table(shown) or "no runs"
    if out is None:
        print(table)
    else:
        out.write_text(f"{table}\n")
    if missing:
        say(f"no room for {', '.join(missing)}, which vary as well: --columns chooses, a wider terminal shows more")


def with_progress(verb: Callable[..., T], *arguments: Any, **options: Any) -> tuple[T, bool]:
    """Call a verb of the session with a progress line; returns its result and whether it was interrupted."""
    from orchestrator.display import TerminalLine
    from orchestrator.session import Interrupted

    with TerminalLine() as line:
        try:
            return verb(*arguments, on_progress=line, **options), False
        except Interrupted as interrupt:
            return interrupt.result, True  # type: ignore[return-value]


def say(text: str) -> None:
    """Print a message to stderr; stdout is for data."""
    print(text, file=sys.stderr, flush=True)


def stop(message: str) -> NoReturn:
    """Print a mistake of the user's and exit with code 2."""
    say(message)
    raise typer.Exit(2)
