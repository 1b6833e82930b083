"""`isoflop queue`, `work`, `status`, `watch`: what is asked of a queue, from any terminal, live or at rest."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.cli.options import STORE, AsJson, Store, say, stop, sweep_name

if TYPE_CHECKING:
    from orchestrator.store.requests import Request

app = typer.Typer(help="The queue: look at it, change it, also while somebody works on it.", no_args_is_help=True)

What = Annotated[
    list[str], typer.Argument(metavar="WHAT...", help="sweeps by name, runs by the beginning of their run_id")
]
Sweeps = Annotated[list[str] | None, typer.Argument(metavar="[SWEEP]...", help="default: all")]
Executor = Annotated[str, typer.Option(help="ray, or inline: in this process")]
Slots = Annotated[
    int | None,
    typer.Option(min=1, help="workers (of a cluster: on each machine); default one a core, as pays a GPU"),
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps")]
Address = Annotated[
    str | None, typer.Option(help="host:port of a Ray cluster to train on, or auto; default: this machine alone")
]
Checkpoints = Annotated[
    str | None,
    typer.Option(
        metavar="PATH", help="for checkpoints: a folder, a URL (s3://...), or none; default: beside the table"
    ),
]
Every = Annotated[float, typer.Option(min=0, help="seconds between two checkpoints of a run in training")]
Keep = Annotated[bool, typer.Option("--keep", help="keep the final parameters of every run")]
Canary = Annotated[bool, typer.Option("--canary/--no-canary", help="first see the smallest cell beat chance")]


@app.command()
def add(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="sweep files", show_default=False)],
    *,
    store: Store = STORE,
) -> None:
    """Enqueue what is missing of sweeps; whoever works on the table trains it as well."""
    from orchestrator.store.requests import add as adding
    from orchestrator.sweep.planner import plan
    from orchestrator.sweep.reader import load_sweep

    for file, planned in [(file, plan(load_sweep(file))) for file in files]:
        if planned.trials is not None:
            stop(f"{file} declares a search; `isoflop search {file}` runs it")
        for note in planned.notes:
            say(note)
        _ask(store, adding(planned))


@app.command()
def cancel(what: What, *, store: Store = STORE) -> None:
    """Cancel what is queued, blocked or in training; `retry` brings it back, from its checkpoint."""
    _ask(store, _about("cancel", what))


@app.command()
def retry(what: What, *, store: Store = STORE) -> None:
    """Queue failed, cancelled and blocked runs again."""
    _ask(store, _about("retry", what))


@app.command()
def prioritise(
    what: What,
    *,
    store: Store = STORE,
    priority: Annotated[int, typer.Option("--priority", help="higher goes first; 0 is usual")] = 1,
) -> None:
    """Have runs go first: before everything of a lower priority, in their own order."""
    _ask(store, _about("prioritise", what, priority))


@app.command()
def pause(sweeps: Sweeps = None, *, store: Store = STORE) -> None:
    """Start nothing more of sweeps; what trains goes on to its end."""
    _ask(store, _about("pause", sweeps or []))


@app.command()
def resume(sweeps: Sweeps = None, *, store: Store = STORE) -> None:
    """Go on with paused sweeps."""
    _ask(store, _about("resume", sweeps or []))


@app.command("list")
def list_(
    sweep: Annotated[str | None, typer.Argument(metavar="[SWEEP]", help="its name; default: all")] = None,
    *,
    store: Store = STORE,
    state: Annotated[list[str] | None, typer.Option("--state", help="only these; default: not done")] = None,
    as_json: AsJson = False,
) -> None:
    """Runs with their states, in the order of their files."""
    from orchestrator.cli import terminal
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
    print(terminal.table(short) or "nothing")


@app.command()
def show(
    run: Annotated[str, typer.Argument(help="the beginning of a run_id")],
    *,
    store: Store = STORE,
    as_json: AsJson = False,
) -> None:
    """All about one run: its spec, its metrics, its attempts."""
    from orchestrator.cli import terminal
    from orchestrator.store.table import Table

    with Table(store) as table:
        found = table.shown(run)
    if as_json:
        print(json.dumps(found, indent=1))
        return
    tries = found.pop("attempts")
    width = max(map(len, found))
    print("\n".join(f"{key:<{width}}  {value}" for key, value in found.items() if value is not None))
    brief = ("attempt", "outcome", "started", "ended", "host", "pid", "resumed_step", "flops", "seconds", "reason")
    print("\n" + terminal.table([{k: "" if row[k] is None else row[k] for k in brief} for row in tries]))
    for row in tries:
        if row["traceback"]:
            print(f"\nattempt {row['attempt']}:\n{row['traceback'].rstrip()}")


def work(  # noqa: PLR0913 - an option each
    sweeps: Sweeps = None,
    *,
    store: Store = STORE,
    executor: Executor = "ray",
    slots: Slots = None,
    device: Device = "auto",
    address: Address = None,
    checkpoints: Checkpoints = None,
    checkpoint_every: Every = 60.0,
    keep: Keep = False,
    canary: Canary = True,
) -> None:
    """Drain the queue: train everything that is queued in the table, sweep by sweep."""
    from orchestrator.cli.terminal import shown_progress
    from orchestrator.session import Settings, train
    from orchestrator.store.engine import name_of
    from orchestrator.store.requests import inbox_of
    from orchestrator.store.table import Table

    settings = Settings(executor, slots, device, checkpoint_every, keep, canary, address, checkpoints)
    settings.check()
    with Table(store, writable=True) as table:
        lost = table.queue.recover()
        if (inbox := inbox_of(store)) is not None:
            inbox.obey(table)
        known = [row["sweep"] for row in table.sweeps()]
        if unknown := [name for name in sweeps or [] if name not in known]:
            stop(f"no sweep {unknown[0]!r} in {name_of(store)}; it holds {', '.join(known) or 'none'}")
        if lost:
            say(f"{lost} runs taken back from a coordinator that was cut off")
        with shown_progress() as show:
            scheduler = train(table, sweeps or known, settings, show, say)
        rows = table.sweeps()
    _print_status(rows, store)
    if scheduler is not None and scheduler.interrupted:
        say("interrupted; the same command goes on")
        raise typer.Exit(130)
    if any(row["failed"] or row["paused"] for row in rows):
        raise typer.Exit(1)


def status(*, store: Store = STORE, as_json: AsJson = False) -> None:
    """Every sweep of the table: runs by state, its ledger, best error, and what holds it up."""
    from orchestrator.store.table import Table

    with Table(store) as table:
        rows = table.sweeps()
    if as_json:
        print(json.dumps(rows, indent=1))
    else:
        _print_status(rows, store)


def watch(
    *,
    store: Store = STORE,
    once: Annotated[bool, typer.Option("--once", help="print it once, as where nobody looks")] = False,
    every: Annotated[float, typer.Option(min=0.1, help="seconds between two looks")] = 1.0,
) -> None:
    """Follow the table live: sweeps, what is in training, how long it will take. Ctrl-C leaves."""
    from orchestrator.cli.watch import follow

    follow(store, every, once=once)


def _print_status(rows: list[dict[str, Any]], store: str) -> None:
    from orchestrator.cli import terminal
    from orchestrator.store.engine import name_of

    print(terminal.table([terminal.standing(row, rows) for row in rows]) or f"no sweeps in {name_of(store)}")
    say_what_holds_up(rows)


def leave(rows: list[dict[str, Any]], failures: list[dict[str, Any]], *, interrupted: bool) -> None:
    """The end of a command that trains: what failed of its sweeps, and what holds them up; its exit code."""
    for failure in failures[:5]:
        say(f"failed: {failure['model']} seed {failure['seed']} ({failure['run_id'][:8]}): {failure['reason']}")
    say_what_holds_up(rows)
    if interrupted:
        say("interrupted; the same command goes on")
        raise typer.Exit(130)
    if failures or any(row["paused"] for row in rows):
        raise typer.Exit(1)


def say_what_holds_up(rows: list[dict[str, Any]]) -> None:
    """A line for each sweep that is paused, and for each with blocked runs what would unblock them."""
    from orchestrator.scheduling.budget import remedy

    for row in rows:
        if row["paused"]:
            say(f"{row['sweep']} is paused: {row['paused']}; `isoflop queue resume {row['sweep']}` goes on")
        if said := remedy(row):
            say(said)


def _about(verb: str, what: list[str], priority: int = 0) -> Request:
    from orchestrator.store.requests import Request

    return Request(verb, tuple(sweep_name(one) or one for one in what), priority)


def _ask(store: str, request: Request) -> None:
    from orchestrator.store.requests import ask

    print(ask(store, request))
