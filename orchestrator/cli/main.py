"""The command: parse, call one function, print. Nothing heavy is imported before it is needed."""

from __future__ import annotations

import json
import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.cli import analysis as analysis_cli
from orchestrator.cli import data as data_cli
from orchestrator.cli import decisions as decision_cli
from orchestrator.cli import model as model_cli
from orchestrator.cli import queue as queue_cli
from orchestrator.cli import search as search_cli
from orchestrator.cli.options import STORE, AsJson, Store, Which, frame_of, say, stop

if TYPE_CHECKING:
    from orchestrator.store.table import Table
    from orchestrator.sweep.planner import Plan

app = typer.Typer(
    help="Declare a sweep of MLPs in YAML, train it here, read off scaling laws with intervals.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

app.add_typer(data_cli.app, name="data")
app.add_typer(model_cli.app, name="model")
app.add_typer(queue_cli.app, name="queue")

File = Annotated[Path, typer.Argument(metavar="FILE", help="a sweep file", show_default=False)]
MOST_ROWS = 60


@app.command()
def plan(file: File, *, as_json: AsJson = False) -> None:
    """Price a sweep: its cells, FLOPs, parameters, memory and time. Nothing runs."""
    from orchestrator.cli import terminal
    from orchestrator.host.speed import known_speed
    from orchestrator.scheduling.stacks import plan_rows, predicted_seconds
    from trainer.host.limits import cores

    planned, speed = _planned(file, decode=False), known_speed()
    rows = plan_rows(planned, speed, cores())
    seconds = None if speed is None else predicted_seconds(planned.runs, speed, cores())
    if as_json:
        whole = {"runs": len(planned.runs), "flops": planned.flops, "seconds": seconds}
        print(json.dumps({"sweep": planned.sweep, "total": whole, "notes": planned.notes, "cells": rows}, indent=1))
        return
    shown = [_readable(row) for row in rows[:MOST_ROWS]]
    total: dict[str, Any] = {
        "model": f"{len(rows)} cells",
        "runs": len(planned.runs),
        "flops": terminal.flops(planned.flops),
        "seconds": terminal.duration(seconds),
    }
    print(terminal.table(shown, total))
    if len(rows) > MOST_ROWS:
        print(f"({len(rows) - MOST_ROWS} cells more; --json has them all)")
    print(f"{planned.sweep}: {summary(planned, seconds)}")
    if speed is None:
        say("times are unknown on this machine until `isoflop doctor` has measured it, once")
    for note in planned.notes:
        say(note)


def summary(planned: Plan, seconds: float | None) -> str:
    """`240 runs, 1.11e11 FLOPs, about 12 s on 2 CPU cores`: what a sweep file's header says too."""
    from orchestrator.cli import terminal
    from trainer.host.limits import cores

    trials = planned.trials or 1
    said = f"{len(planned.runs) * trials} runs, {terminal.flops(planned.flops * trials)} FLOPs"
    said = f"at most {said}" if planned.trials else said
    if seconds is None:
        return said
    return f"{said}, about {terminal.duration(seconds * trials)} on {cores()} CPU cores"


def _readable(row: dict[str, Any]) -> dict[str, Any]:
    from orchestrator.cli import terminal

    return {
        **row,
        "epochs": terminal.number(row["epochs"]),
        "lr": f"{row['lr']:g}",
        "params": terminal.number(row["params"]),
        "flops": terminal.flops(row["flops"]),
        "memory": terminal.size(row["memory"]),
        "seconds": terminal.duration(row["seconds"]),
    }


@app.command()
def run(  # noqa: PLR0913 - an option each
    file: File,
    *,
    store: Store = STORE,
    executor: queue_cli.Executor = "ray",
    slots: queue_cli.Slots = None,
    device: queue_cli.Device = "auto",
    address: queue_cli.Address = None,
    checkpoints: queue_cli.Checkpoints = None,
    checkpoint_every: queue_cli.Every = 60.0,
    keep: queue_cli.Keep = False,
    canary: queue_cli.Canary = True,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="run failed runs again")] = False,
    as_json: AsJson = False,
) -> None:
    """Train what is missing of a sweep. The same command resumes after Ctrl-C, a crash or a power cut.

    Where another isoflop works on the table, it trains the sweep as well, and this one looks on.
    """
    from orchestrator.cli.terminal import shown_progress
    from orchestrator.session import Settings, follow, train
    from orchestrator.store.engine import TableBusyError
    from orchestrator.store.table import Table

    settings = Settings(executor, slots, device, checkpoint_every, keep, canary, address, checkpoints)
    settings.check()
    planned = _planned(file)
    if planned.trials is not None:
        stop(f"{file} declares a search; `isoflop search {file}` runs it")
    for note in planned.notes:
        say(note)
    scheduler, ended = None, False
    while not ended:
        try:
            with Table(store, writable=True) as table:
                say(_beginning(table, planned, retry_failed=retry_failed))
                with shown_progress() as show:
                    scheduler, ended = train(table, [planned.sweep], settings, show, say), True
        except TableBusyError:
            with shown_progress() as show:
                ended = follow(store, planned, show, say, retry_failed=retry_failed)
    with Table(store) as table:
        (row,) = [row for row in table.sweeps() if row["sweep"] == planned.sweep]
        counts, failures = table.counts(planned.sweep), table.failures(planned.sweep)
    _report_end(row, store, counts, as_json=as_json)
    queue_cli.leave([row], failures, interrupted=scheduler is not None and scheduler.interrupted)


def _beginning(table: Table, planned: Plan, *, retry_failed: bool) -> str:
    """Enqueue a plan, take back what was cut off, obey what was asked meanwhile; what that comes to."""
    from orchestrator.store.requests import inbox_of

    new, lost = table.queue.enqueue(planned), table.queue.recover()
    if (inbox := inbox_of(table.store)) is not None:
        inbox.obey(table)
    again = table.queue.move(table.states(planned.sweep), "queued", of=["failed"]) if retry_failed else 0
    table.queue.tell(planned.sweep, paused=None, message=None)
    waiting = table.counts(planned.sweep).get("queued", 0)
    parts = [f"{planned.sweep}: {waiting} of {len(planned.runs)} runs to do"]
    parts += [f"{new} new"] if new else []
    parts += [f"{lost} taken back from a run that was cut off"] if lost else []
    parts += [f"{again} failed ones again"] if again else []
    return ", ".join(parts)


def _report_end(row: dict[str, Any], store: str, counts: dict[str, int], *, as_json: bool) -> None:
    from orchestrator.cli import terminal
    from orchestrator.store.engine import name_of

    sweep, spent, seconds, best_error = row["sweep"], row["flops"] or 0, row["trained_seconds"], row["best_error"]
    if as_json:
        said = {"sweep": sweep, "store": name_of(store), **counts, "flops": spent, "seconds": seconds}
        print(json.dumps({**said, "best_error": best_error}, indent=1))
        return
    states = ", ".join(f"{n} {state}" for state, n in sorted(counts.items()))
    cost = f"{terminal.flops(spent)} FLOPs in {terminal.duration(seconds)} of training"
    best_said = "" if best_error is None else f"; best error {best_error:.4g}"
    print(f"{sweep}: {states}; {cost}{best_said}; results in {name_of(store)}")


app.command()(search_cli.search)


@app.command()
def results(
    which: Which = None,
    *,
    store: Store = STORE,
    where: Annotated[str, typer.Option(help='SQL condition, e.g. "width = 64 and error < 0.1"')] = "",
    fmt: Annotated[str, typer.Option("--format", help="table, csv, json or parquet")] = "table",
    out: Annotated[Path | None, typer.Option(help="write there instead of stdout")] = None,
    history: Annotated[bool, typer.Option("--history", help="every record instead of one row a run")] = False,
) -> None:
    """The results table, one row a run."""
    from orchestrator.store.export import filtered, written

    if fmt not in ("table", "csv", "json", "parquet"):
        stop(f"--format {fmt!r} is unknown; it is one of table, csv, json, parquet")
    frame = filtered(frame_of(store, which, "history" if history else "runs", several=True), where)
    written(frame, fmt, out)


for verb in (queue_cli.work, queue_cli.status, queue_cli.watch, *analysis_cli.VERBS, *decision_cli.VERBS):
    app.command()(verb)


@app.command()
def new(file: File) -> None:
    """Write a small sweep file to begin with."""
    from orchestrator.sweep.template import template

    if file.suffix not in (".yaml", ".yml"):
        stop(f"{file}: a sweep file ends in .yaml")
    try:
        with file.open("x") as out:
            out.write(template(file))
    except FileExistsError:
        stop(f"{file} is there already; take another name")
    except OSError as error:
        stop(f"{file}: {error.strerror}")
    say(f"{file} is written; `isoflop plan {file}` prices it")


@app.command()
def schema() -> None:
    """The JSON Schema of a sweep file, for editors to complete from."""
    from orchestrator.sweep.search_space import schema

    print(json.dumps(schema(), indent=1))


@app.command()
def doctor(*, as_json: AsJson = False) -> None:
    """Check the installation, measure this machine's speed, and say what to do about what is wrong."""
    from orchestrator.cli.doctor import examine

    checks = examine()
    if as_json:
        print(json.dumps([check._asdict() for check in checks], indent=1))
    else:
        for check in checks:
            print(f"{check.state:<5} {check.what}: {check.found}" + (f"; {check.remedy}" if check.remedy else ""))
    if any(check.state == "wrong" for check in checks):
        raise typer.Exit(1)


def _planned(file: Path, *, decode: bool = True) -> Plan:
    from orchestrator.sweep.planner import plan as make_plan
    from orchestrator.sweep.reader import load_sweep

    return make_plan(load_sweep(file), decode=decode)


def main() -> None:
    """Run the command; every mistake of the user is one line (a sweep file's: one line each) and exit code 2."""
    logging.basicConfig(format="%(message)s", level=logging.WARNING, stream=sys.stderr)
    logging.getLogger("isoflop").setLevel(logging.INFO)
    try:
        _check_neighbours()
        app(prog_name="isoflop")
    except BrokenPipeError:  # `isoflop plan | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except KeyboardInterrupt:
        say("interrupted; the same command goes on")
        sys.exit(130)
    except Exception as error:
        if type(error).__name__ == "OperationalError":  # the database's own: disk full, table locked
            say(f"the results table cannot be written: {error.__cause__}; what was committed is kept; run again")
            sys.exit(1)
        if not _misuse(error):
            raise
        if type(error).__name__ == "OptionError":
            say(f"--{error.option.replace('_', '-')} {error.why}")  # type: ignore[attr-defined]
            sys.exit(2)
        absent = isinstance(error, OSError) and error.filename is not None
        say(f"{error.filename}: {error.strerror}" if absent else str(error))  # type: ignore[attr-defined]
        sys.exit(2)


def _misuse(error: Exception) -> bool:
    """Whether an exception is our own complaint about the user's input, or a file that is not there."""
    return (isinstance(error, OSError) and error.filename is not None) or type(error).__name__ in (
        *("SweepError", "TableError", "TableBusyError", "SpecError", "ExportError", "ReportError", "ClusterError"),
        "RemoteError",
        "OptionError",
    )


def _check_neighbours() -> None:
    """Other people's packages of our names, installed over ours, would be imported in their place."""
    from importlib.util import find_spec

    home = Path(__file__).resolve().parent.parent.parent
    for name in ("trainer", "analysis"):
        found = find_spec(name)
        if found is None or found.origin is None or Path(found.origin).resolve().parent.parent != home:
            where = found.origin if found else "nowhere"
            say(f"the package {name!r} at {where} is not isoflop's ({home}); uninstall it")
            sys.exit(2)
