"""The verbs of the queue: `queue`, `work`, `status` and `watch`. They work beside a process that trains."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Annotated, Any

import typer

from orchestrator.cli.options import (
    STORE,
    Address,
    AsJson,
    Canary,
    Cells,
    Checkpoints,
    Columns,
    Device,
    Every,
    Executor,
    Keep,
    Log,
    Slots,
    Store,
    print_rows,
    say,
    stop,
    sweep_name,
    with_progress,
)
from trainer.host import installation

app = typer.Typer(help="Show and change the queue, also while a process trains it.", no_args_is_help=True)

What = Annotated[
    list[str], typer.Argument(metavar="WHAT...", help="Names of sweeps, or run ids or their beginnings.")
]
Sweeps = Annotated[list[str] | None, typer.Argument(metavar="[SWEEP]...", help="Names of sweeps; default: all.")]


@app.command()
def add(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Sweep files.", show_default=False)],
    *,
    store: Store = STORE,
    cells: Cells = None,
) -> None:
    """Enqueue the missing runs of sweep files.

    A process that trains this table trains them as well; otherwise the verb `work` does.
    """
    from orchestrator import changes
    from orchestrator.sweep.planner import plan
    from orchestrator.sweep.reader import load_sweep

    for file, planned in [(file, plan(load_sweep(file), cells=cells)) for file in files]:
        if planned.trials is not None:
            stop(f"{file} declares a search; `{installation.command(f'search {file}')}` runs it")
        for note in planned.notes:
            say(note)
        print(changes.add(planned, store))


@app.command()
def cancel(what: What, *, store: Store = STORE) -> None:
    """Cancel runs; `queue retry` resumes them.

    Queued, blocked and running ones alike; a running one stops at its next record.
    """
    from orchestrator import changes

    print(changes.cancel(what, store))


@app.command()
def retry(what: What, *, store: Store = STORE) -> None:
    """Queue failed, cancelled and blocked runs again."""
    from orchestrator import changes

    print(changes.retry(what, store))


@app.command()
def prioritise(
    what: What,
    *,
    store: Store = STORE,
    priority: Annotated[int, typer.Option("--priority", help="Higher trains first; the default of runs is 0.")] = 1,
) -> None:
    """Set the priority of runs; a higher one trains first.

    Runs of one priority keep their order.
    """
    from orchestrator import changes

    print(changes.prioritise(what, store, priority=priority))


@app.command()
def pause(sweeps: Sweeps = None, *, store: Store = STORE) -> None:
    """Pause sweeps: no further run starts.

    Runs in training continue to their end.
    """
    from orchestrator import changes

    print(changes.pause(sweeps or [], store))


@app.command()
def resume(sweeps: Sweeps = None, *, store: Store = STORE) -> None:
    """Resume paused sweeps."""
    from orchestrator import changes

    print(changes.resume(sweeps or [], store))


@app.command("list")
def list_(
    sweep: Annotated[
        str | None, typer.Argument(metavar="[SWEEP]", help="The name of a sweep; default: all.")
    ] = None,
    *,
    store: Store = STORE,
    state: Annotated[
        list[str] | None,
        typer.Option("--state", help="Only runs in this state, may be repeated; default: all but done."),
    ] = None,
    columns: Columns = "",
    as_json: AsJson = False,
) -> None:
    """List runs and their states, in the order of their files."""
    from orchestrator.store.schema import DONE, STATES
    from orchestrator.store.table import Table

    if unknown := [name for name in state or [] if name not in STATES]:
        stop(f"--state {unknown[0]!r} is unknown; it is one of {', '.join(STATES)}")
    with Table(store) as table:
        rows = table.listed(sweep_name(sweep), state or [name for name in STATES if name != DONE])
    if as_json:
        print(json.dumps(rows, indent=1))
        return
    print_rows(rows, columns, ("state", "priority", "attempt", "reason"), ("state",))


@app.command(hidden=True)
def show(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run id or its beginning.")],
    *,
    store: Store = STORE,
    as_json: AsJson = False,
) -> None:
    """Show a run: its settings, result, attempts and curve."""
    from orchestrator import session

    details = session.show(run, store)
    if as_json:
        print(json.dumps({**details.row, "attempts": details.attempts, "records": details.records}, indent=1))
    else:
        print(details.text(shutil.get_terminal_size().columns))


def diff(
    a: Annotated[str, typer.Argument(metavar="A", help="A sweep or its file, or a run id or its beginning.")],
    b: Annotated[str, typer.Argument(metavar="B", help="Another of the same kind.")],
    *,
    store: Store = STORE,
    as_json: AsJson = False,
) -> None:
    """Show what differs between two runs or two sweeps.

    Which settings, and by how much their results.
    """
    from orchestrator import session

    difference = session.diff(sweep_name(a) or a, sweep_name(b) or b, store)
    if as_json:
        print(json.dumps(difference.to_dict(), indent=1))
    else:
        print(difference.text(shutil.get_terminal_size().columns))


def work(  # noqa: PLR0913 - an option each
    sweeps: Sweeps = None,
    *,
    store: Store = STORE,
    executor: Executor = "auto",
    slots: Slots = None,
    device: Device = "auto",
    address: Address = None,
    checkpoints: Checkpoints = None,
    checkpoint_every: Every = 20.0,
    keep: Keep = False,
    log: Log = None,
    canary: Canary = True,
) -> None:
    """Train everything that is queued in the table."""
    from orchestrator import session

    _, interrupted = with_progress(
        session.work,
        store,
        sweeps or (),
        executor=executor,
        slots=slots,
        device=device,
        address=address,
        checkpoints=checkpoints,
        checkpoint_every=checkpoint_every,
        log=log or (),
        keep=keep,
        smoke_test=canary,
    )
    rows = session.status(store)
    _print_status(rows, store)
    exit_with(interrupted=interrupted, failed=any(row["failed"] or row["paused"] for row in rows))


def status(
    sweep: Annotated[
        str | None, typer.Argument(metavar="[SWEEP]", help="A sweep or its file: its failures, cost and laws.")
    ] = None,
    *,
    store: Store = STORE,
    as_json: AsJson = False,
) -> None:
    """Show the sweeps of the table: runs by state, FLOPs, errors.

    A line on stderr says what blocks a sweep and what would unblock it.
    """
    from orchestrator import session

    name = sweep_name(sweep)
    rows = [row for row in session.status(store) if name in (None, row["sweep"])]
    if name is not None and not (as_json and rows):
        print_summary(store, name, laws=True)
        say_what_blocks(rows)
    elif as_json:
        print(json.dumps(rows, indent=1))
    else:
        _print_status(rows, store)


def watch(
    *,
    store: Store = STORE,
    once: Annotated[bool, typer.Option("--once", help="Print one snapshot and exit.")] = False,
    every: Annotated[float, typer.Option(min=0.1, help="Seconds between two updates.")] = 1.0,
) -> None:
    """Show a live view of the table, as soon as there is one. Ctrl-C ends it.

    Of each sweep the progress and the time left; the runs in training; what blocks a sweep; whether the process
    that trains still lives. Without a terminal it prints a line for each sweep that went on, and ends with them.
    """
    from orchestrator.cli.watch import follow

    follow(store, every, once=once)


def print_summary(store: str, sweep: str, *, laws: bool) -> None:
    """Print where a sweep stands; stops if the table has no such sweep."""
    from orchestrator.reporting.sweep_summary import sweep_summary
    from orchestrator.session import check_sweep
    from orchestrator.store.table import Table

    with Table(store) as table:
        check_sweep(table, sweep)
        print(sweep_summary(table, sweep, store, laws=laws, width=shutil.get_terminal_size().columns))


def _print_status(rows: list[dict[str, Any]], store: str) -> None:
    from orchestrator import text
    from orchestrator.cli.watch import status_rows
    from orchestrator.store.engine import name_of

    width = shutil.get_terminal_size().columns
    print(text.table(status_rows(rows, width)) or f"no sweeps in {name_of(store)}")
    say_what_blocks(rows)


def exit_with(*, interrupted: bool, failed: bool) -> None:
    """End a command that trains: exit code 130 if it was interrupted, 1 if runs failed or a sweep is paused."""
    if interrupted:
        say("interrupted; run the same command to resume")
        raise typer.Exit(130)
    if failed:
        raise typer.Exit(1)


def say_failures(store: str, sweep: str) -> bool:
    """Print a line for each of the first failed runs of a sweep; returns whether there are any."""
    from orchestrator.store.table import Table

    with Table(store) as table:
        failures = table.failures(sweep)
    for run in failures[:5]:
        say(f"failed: {run['model']} seed {run['seed']} ({run['run_id'][:8]}): {run['reason']}")
    return bool(failures)


def say_what_blocks(rows: list[dict[str, Any]]) -> None:
    """Print a line for each sweep that is paused, and for each with blocked runs what would unblock them."""
    from orchestrator.scheduling.budget import remedy

    for row in rows:
        if row["paused"]:
            resume = installation.command(f"queue resume {row['sweep']}")
            say(f"{row['sweep']} is paused: {row['paused']}; `{resume}` resumes it")
        if advice := remedy(row):
            say(advice)
