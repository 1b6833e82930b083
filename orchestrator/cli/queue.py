"""The verbs of the queue: `queue`, `work`, `status` and `watch`. They work beside a process that trains."""

from __future__ import annotations

import json
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
    Device,
    Every,
    Executor,
    Keep,
    Log,
    Slots,
    Store,
    say,
    stop,
    sweep_name,
    with_progress,
)

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

    A process that trains this table trains them as well; otherwise `isoflop work` does.
    """
    from orchestrator import changes
    from orchestrator.sweep.planner import plan
    from orchestrator.sweep.reader import load_sweep

    for file, planned in [(file, plan(load_sweep(file), cells=cells)) for file in files]:
        if planned.trials is not None:
            stop(f"{file} declares a search; `isoflop search {file}` runs it")
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
    as_json: AsJson = False,
) -> None:
    """List runs and their states, in the order of their files."""
    from orchestrator import text
    from orchestrator.store.schema import DONE, STATES
    from orchestrator.store.table import Table

    if unknown := [name for name in state or [] if name not in STATES]:
        stop(f"--state {unknown[0]!r} is unknown; it is one of {', '.join(STATES)}")
    with Table(store) as table:
        rows = table.listed(sweep_name(sweep), state or [name for name in STATES if name != DONE])
    if as_json:
        print(json.dumps(rows, indent=1))
        return
    short = [{**row, "run_id": row["run_id"][:8], "reason": row["reason"] or ""} for row in rows]
    print(text.table(short) or "no runs")


@app.command()
def show(
    run: Annotated[str, typer.Argument(help="A run id or its beginning.")],
    *,
    store: Store = STORE,
    as_json: AsJson = False,
) -> None:
    """Show a run: its spec, metrics and attempts."""
    from orchestrator import text
    from orchestrator.store.table import Table

    with Table(store) as table:
        row = table.shown(run)
    if as_json:
        print(json.dumps(row, indent=1))
        return
    attempts = row.pop("attempts")
    width = max(map(len, row))
    print("\n".join(f"{key:<{width}}  {value}" for key, value in row.items() if value is not None))
    columns = (
        "attempt",
        "outcome",
        "started",
        "ended",
        "host",
        "pid",
        "resumed_step",
        "flops",
        "seconds",
        "reason",
    )
    print("\n" + text.table([{k: "" if one[k] is None else one[k] for k in columns} for one in attempts]))
    for one in attempts:
        if one["traceback"]:
            print(f"\nattempt {one['attempt']}:\n{one['traceback'].rstrip()}")


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


def status(*, store: Store = STORE, as_json: AsJson = False) -> None:
    """Show the sweeps of the table: runs by state, FLOPs, errors.

    A line on stderr says what blocks a sweep and what would unblock it.
    """
    from orchestrator import session

    rows = session.status(store)
    if as_json:
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


def _print_status(rows: list[dict[str, Any]], store: str) -> None:
    from orchestrator import text
    from orchestrator.cli.watch import status_row
    from orchestrator.store.engine import name_of

    print(text.table([status_row(row, rows) for row in rows]) or f"no sweeps in {name_of(store)}")
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
            say(f"{row['sweep']} is paused: {row['paused']}; `isoflop queue resume {row['sweep']}` resumes it")
        if advice := remedy(row):
            say(advice)
