"""The command: parse, call one function, print. Heavy packages are imported when they are needed."""

from __future__ import annotations

import json
import logging
import os
import re
import sys
import textwrap
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.cli import analysis, data, decisions, model, queue
from orchestrator.cli.export import export
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
    Where,
    Which,
    Y,
    frame_of,
    print_rows,
    say,
    stop,
    with_progress,
)
from orchestrator.cli.search import search
from orchestrator.cli.serve import serve
from orchestrator.text import number
from trainer.host import installation

if TYPE_CHECKING:
    from analysis.decisions.design import Design
    from orchestrator.scheduling.forecast import Forecast
    from orchestrator.sweep.planner import Plan
    from trainer.errors import UserError

os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")  # it would read every distribution's metadata

File = Annotated[Path, typer.Argument(metavar="FILE", help="A sweep file.", show_default=False)]
MOST_ROWS = 60
WORTH_FITTING = 30.0
"""Seconds of a session after which `run` fits the laws at its end, which takes one or two."""
BEST = 10
"""Rows of `results --best` without a number."""
METRICS = ("state", "error", "loss", "val_error", "params", "flops", "seconds")
"""Columns of `results` beside those in which runs differ."""


def plan(file: File, *, store: Store = STORE, cells: Cells = None, as_json: AsJson = False) -> None:
    """Show what a sweep costs and what it can show.

    FLOPs, memory and time per cell, the expected interval of each exponent, and what to change.
    Nothing is trained, and data sets that the catalogue knows need not be here. Earlier runs on the same data
    set in the table tell the noise and the law; without any, both are defaults.
    """
    from orchestrator import text
    from orchestrator.host.speed import TYPICAL, known_speed
    from orchestrator.scheduling.forecast import planned_forecast
    from orchestrator.scheduling.stacks import plan_rows
    from orchestrator.settings import Settings
    from orchestrator.sweep import planner
    from orchestrator.sweep.formula import Formula
    from orchestrator.sweep.reader import load_sweep

    planned, speed = planner.plan(load_sweep(file), decode=False, cells=cells), known_speed()
    time = None if speed is None else planned_forecast(planned, speed, Settings().trains_in)
    rows, design = plan_rows(planned, speed or TYPICAL, time.shares if time else None), _design(planned, store)
    if as_json:
        whole = {
            "runs": len(planned.runs),
            "flops": planned.flops,
            **(time.to_dict() if time else {"seconds": None}),
        }
        varies = {key: [str(v) if isinstance(v, Formula) else v for v in vs] for key, vs in planned.varies.items()}
        answer = {"sweep": planned.sweep, "total": whole, "notes": planned.notes, "varies": varies, "cells": rows}
        print(json.dumps({**answer, "design": design.to_dict() if design else None}, indent=1))
        return
    shown = [_readable(row) for row in rows[:MOST_ROWS]]
    total: dict[str, Any] = {
        "model": text.count(len(rows), "cell"),
        "runs": len(planned.runs),
        "flops": text.flops(planned.flops),
        "seconds": text.duration(time.training if time else None),
    }
    print(text.table(shown, total))
    if len(rows) > MOST_ROWS:
        print(f"({text.count(len(rows) - MOST_ROWS, 'more cell')}; --json prints all)")
    print(f"{planned.sweep}: {summary(planned, time)}")
    if planned.axes:
        print(textwrap.fill(f"varies: {planned.axes}", width=80, subsequent_indent="  "))
    if design is not None:
        print(design)
    if speed is None:
        say(f"times are unknown until `{installation.command('doctor')}` has measured this machine, once")
    for note in planned.notes:
        say(note)


def _design(planned: Plan, store: str) -> Design | None:
    """Return what a plan can show, by the earlier runs of a table if it has any."""
    from orchestrator.sweep.design import design_of, judged

    like = judged(planned)
    if like is None or ("://" not in store and not Path(store).expanduser().exists()):
        return planned.design
    from orchestrator.store.earlier import earlier_runs
    from orchestrator.store.engine import TableError, name_of

    try:
        earlier = earlier_runs(store, like)
    except TableError as error:
        say(f"no earlier runs: {error}")
        return planned.design
    return design_of(planned, earlier, f"earlier runs in {name_of(store)}")


def summary(planned: Plan, time: Forecast | None) -> str:
    """Return `240 runs, 1.11e11 FLOPs, about 18 s (...) on 2 CPU cores`, as in the first line of a sweep file."""
    from orchestrator import text
    from trainer.host.limits import cores

    trials = planned.trials or 1
    cost = f"{text.count(len(planned.runs) * trials, 'run')}, {text.flops(planned.flops * trials)} FLOPs"
    cost = f"at most {cost}" if planned.trials else cost
    return cost if time is None else f"{cost}, about {time} on {text.count(cores(), 'CPU core')}"


def _readable(row: dict[str, Any]) -> dict[str, Any]:
    from orchestrator import text

    return {
        **row,
        "epochs": text.number(row["epochs"]),
        "lr": number(row["lr"], 6),
        "params": text.number(row["params"]),
        "flops": text.flops(row["flops"]),
        "memory": text.size(row["memory"]),
        "seconds": text.duration(row["seconds"]),
    }


def run(  # noqa: PLR0913 - an option each
    file: File,
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
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Train failed runs again.")] = False,
    cells: Cells = None,
    as_json: AsJson = False,
) -> None:
    """Train the missing runs of a sweep. The same command resumes after Ctrl-C, a crash or a power cut.

    If another process trains this table, it trains the sweep as well, and this one follows it.
    """
    from orchestrator import session

    began = time.monotonic()
    progress, interrupted = with_progress(
        session.run,
        file,
        store,
        retry_failed=retry_failed,
        cells=cells,
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
    (row,) = [row for row in session.status(store) if row["sweep"] == progress.sweep]
    long = time.monotonic() - began >= WORTH_FITTING
    if as_json:
        _print_json(row, store)
        queue.say_failures(store, progress.sweep)
    else:
        queue.print_summary(store, progress.sweep, laws=long and not interrupted)
    queue.say_what_blocks([row])
    queue.exit_with(interrupted=interrupted, failed=bool(row["failed"] or row["paused"]))


def _print_json(row: dict[str, Any], store: str) -> None:
    from orchestrator.store.engine import name_of
    from orchestrator.store.schema import STATES

    counts = {state: row[state] for state in STATES if row[state]}
    cost = {"flops": row["flops"] or 0, "seconds": row["trained_seconds"], "elapsed": row["seconds"]}
    answer = {"sweep": row["sweep"], "store": name_of(store), **counts, **cost, "best_error": row["best_error"]}
    print(json.dumps(answer, indent=1))


def results(  # noqa: PLR0913 - an option each
    which: Which = None,
    *,
    store: Store = STORE,
    where: Where = "",
    sort: Annotated[
        str, typer.Option(metavar="COLUMN,...", help="Order of the rows; -COLUMN for falling values.")
    ] = "",
    best: Annotated[
        int | None,
        typer.Option("--best", metavar="[N]", min=1, help=f"The rows with the lowest --y; default: {BEST}."),
    ] = None,
    group_by: Annotated[
        str, typer.Option(metavar="COLUMN,...", help="One row for each group: mean, standard deviation (sd), n.")
    ] = "",
    y: Y = "error",
    columns: Columns = "",
    fmt: Annotated[
        str, typer.Option("--format", help="table, csv, json, parquet, duckdb, or datasette: column titles.")
    ] = "table",
    out: Annotated[Path | None, typer.Option(help="A file to write to; default: stdout.")] = None,
    history: Annotated[
        bool, typer.Option("--history", help="Print every record of the runs' training instead.")
    ] = False,
) -> None:
    """Print the results table, one row per run.

    A terminal shows the columns in which runs differ and what was measured, as far as they fit; files have all.
    """
    from orchestrator.store import selection
    from orchestrator.store.columns import names_in, require
    from orchestrator.store.export import FORMATS, filtered, write_metadata, written

    if fmt == "datasette":
        write_metadata(store, out)
        return
    if fmt not in FORMATS:
        stop(f"--format {fmt!r} is unknown; it is one of {', '.join(FORMATS)}")
    what = "history" if history else "runs"
    if history and (group_by or best):
        stop("--history cannot be combined with --group-by or --best, which are about runs")
    frame = filtered(frame_of(store, which, what, several=True), where)
    if group_by:
        frame = selection.group_means(frame, names_in(group_by))
    if best is not None:
        frame = selection.best(frame, best, y)
    if sort:
        frame = selection.in_order(frame, names_in(sort))
    if fmt == "table":
        print_rows(frame.to_dict("records"), columns, METRICS, ("state", y), out)
        return
    if columns not in ("", "all"):
        require(names_in(columns), list(map(str, frame.columns)), "columns")
        frame = frame[names_in(columns)]
    written(frame, fmt, out, what)


def new(file: File) -> None:
    """Write a small sweep file as a starting point."""
    from orchestrator.sweep.template import template

    if file.suffix not in (".yaml", ".yml"):
        stop(f"{file}: the name of a sweep file must end in .yaml")
    try:
        with file.open("x") as out:
            out.write(template(file))
    except FileExistsError:
        stop(f"{file} exists already; choose another name")
    except OSError as error:
        stop(f"{file}: {error.strerror}")
    say(f"wrote {file}; `{installation.command(f'plan {file}')}` shows what it costs")


def translate(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="A file of W&B, Hydra or Optuna.", show_default=False)
    ],
    *,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="The sweep file to write; default: stdout.", show_default=False),
    ] = None,
) -> None:
    """Translate a sweep of W&B, Hydra or Optuna.

    Comments name what could not be translated.
    """
    from orchestrator.sweep.translation import translate as translated

    content = file.read_text(encoding="utf-8-sig", errors="replace")
    text = translated(str(file), content, re.sub(r"[^A-Za-z0-9._-]+", "-", file.stem).strip("-._") or "sweep")
    if out is None:
        print(text, end="")
        return
    try:
        with out.open("x", encoding="utf-8") as written:
            written.write(text)
    except FileExistsError:
        stop(f"{out} exists already; choose another name")
    for note in [line[2:] for line in text.splitlines() if line.startswith("# ")][1:]:
        say(note)
    say(f"wrote {out}; `{installation.command(f'plan {out}')}` shows what it costs")


def schema() -> None:
    """Print the JSON Schema of sweep files, for editors."""
    from orchestrator.sweep.search_space import schema

    print(json.dumps(schema(), indent=1))


def doctor(*, as_json: AsJson = False) -> None:
    """Check the installation and measure the machine's speed.

    Each line says what was found and, if something is wrong, what to do.
    """
    from orchestrator.cli.doctor import examine

    checks = examine()
    if as_json:
        print(json.dumps([check._asdict() for check in checks], indent=1))
    else:
        for check in checks:
            print(f"{check.state:<5} {check.what}: {check.found}" + (f"; {check.remedy}" if check.remedy else ""))
    if any(check.state == "wrong" for check in checks):
        raise typer.Exit(1)


GROUPS = {"data": data.app, "model": model.app, "queue": queue.app}
VERBS = {
    verb.__name__: verb
    for verb in (
        *(plan, run, search, results, queue.show, queue.diff, export),
        *(queue.work, queue.status, queue.watch, serve),
        *(*analysis.VERBS, *decisions.VERBS, new, translate, schema, doctor),
    )
}


def command_with(verb: str) -> typer.Typer:
    """Return the command with this verb alone, or with all verbs if there is none: building all takes 20 ms."""
    app = typer.Typer(
        help="Declare a sweep of MLPs in YAML, train it, and fit scaling laws with intervals.",
        callback=lambda: None,  # without it, a command with one verb would be that verb
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
    alone = verb in GROUPS or verb in VERBS
    for name, group in GROUPS.items():
        if not alone or name == verb:
            app.add_typer(group, name=name)
    for name, function in VERBS.items():
        if not alone or name == verb:
            app.command(name)(function)
    return app


def main() -> None:
    """Run the command. Mistakes of the user are printed to stderr, one line each, with exit code 2."""
    logging.basicConfig(format="%(message)s", level=logging.WARNING, stream=sys.stderr)
    logging.getLogger("isoflop").setLevel(logging.INFO)
    try:
        _check_neighbours()
        command_with("".join(sys.argv[1:2]))(_with_number(sys.argv[1:]), prog_name=installation.command())
    except BrokenPipeError:  # `isoflop plan | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except KeyboardInterrupt:
        say("interrupted; run the same command to resume")
        sys.exit(130)
    except Exception as error:
        message, code = _explained(error)
        if message is None:
            raise
        say(message)
        sys.exit(code)


def _with_number(words: list[str]) -> list[str]:
    """The words of a command with the number that `--best` has by default: typer has no optional values."""
    bare = [word == "--best" and not "".join(words[i + 1 : i + 2]).isdecimal() for i, word in enumerate(words)]
    return [f"--best={BEST}" if alone else word for word, alone in zip(words, bare, strict=True)]


def _explained(error: Exception) -> tuple[str | None, int]:
    """The message and exit code for an error of the user's or of the database; (None, 1) for a defect of ours."""
    from trainer.errors import UserError

    if isinstance(error, UserError):
        return _as_option(error), 2
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}", 2
    from sqlalchemy.exc import OperationalError

    if isinstance(error, OperationalError):
        return f"the results table cannot be written: {error.__cause__}; what was committed is kept; run again", 1
    return None, 1


def _as_option(error: UserError) -> str:
    """The message of an error, with an option as it is typed."""
    from orchestrator.settings import OptionError

    if isinstance(error, OptionError):
        return f"--{error.option.replace('_', '-')} {error.why}"
    return str(error)


def _check_neighbours() -> None:
    """Exit if another distribution's package of the same name would be imported in place of ours."""
    from importlib.util import find_spec

    home = Path(__file__).resolve().parent.parent.parent
    for name in ("trainer", "analysis"):
        spec = find_spec(name)
        if spec is None or spec.origin is None or Path(spec.origin).resolve().parent.parent != home:
            where = spec.origin if spec else "nowhere"
            say(f"the package {name!r} at {where} is not the one of isoflop ({home}); uninstall it")
            sys.exit(2)
