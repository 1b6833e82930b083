"""A live view of a table in a terminal: the progress of each sweep, the runs in training, what blocks a sweep.

It only reads the table, so it works beside a process that trains as well as without one, and before there is one.
"""

from __future__ import annotations

import contextlib
import shutil
import sys
import textwrap
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from orchestrator import text
from orchestrator.cli.options import say
from orchestrator.scheduling.budget import remedy
from orchestrator.scheduling.progress import progress_of
from orchestrator.store import columns
from orchestrator.store.engine import NoTableError, is_held
from orchestrator.store.queue import LEASE
from orchestrator.store.table import Table
from orchestrator.text import number
from trainer.host import installation

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

BAR, LEAST_BAR, WIDE = 30, 10, 1000
LINES = 10
"""Updates after which a line is printed where there is no terminal."""
MOST = 20
"""Runs in training that are shown; the others are counted."""
STATES = ("queued", "running", "done", "diverged", "pruned", "failed", "cancelled", "blocked")


def status_rows(rows: Sequence[Mapping[str, Any]], width: int) -> list[dict[str, Any]]:
    """Return the lines of `status`, a sweep each, within `width` characters.

    States that no sweep has, and figures that are zero everywhere, are left out. `elapsed` is the time in which a
    sweep had runs in training, `trained` the sum over its runs, whose workers train at the same time.
    """
    states = [state for state in STATES if any(row[state] for row in rows)]
    figures = [name for name in ("reserved_flops", "wasted_flops") if any(row[name] for row in rows)]
    unfinished = ["planned_flops"] if any(row["flops"] != row["planned_flops"] for row in rows) else []
    whole = [
        {
            **{name: row[name] for name in ("sweep", "runs", *states)},
            **{name: text.flops(row[name] or 0) for name in (*unfinished, "flops", *figures)},
            "best_error": "" if row["best_error"] is None else number(row["best_error"], 4),
            "elapsed": text.duration(row["seconds"]),
            "trained": text.duration(row["trained_seconds"]),
        }
        for row in rows
    ]
    return text.fitting(whole, width, ("sweep", "runs", *states, "best_error"))


def follow(store: str, every: float, *, once: bool = False) -> None:
    """Show the table until Ctrl-C, once it exists; without a terminal, lines until nothing trains. Or `once`."""
    with contextlib.suppress(KeyboardInterrupt), _opened(store, every, wait=not once) as table:
        if once:
            sys.stdout.write(screen(*look(table), width=_width()) + "\n")
        elif sys.stdout.isatty():
            _show_live(table, every)
        else:
            _print_lines(table, every)


def _opened(store: str, every: float, *, wait: bool) -> Table:
    """Return the table, if asked as soon as another process has made it; TableError if it is none."""
    told = False
    while True:
        try:
            return Table(store)
        except NoTableError as error:
            if not wait:
                raise
            if not told:
                told = True
                say(f"waiting: {error}")
            time.sleep(every)


def _show_live(table: Table, every: float) -> None:
    from rich.live import Live
    from rich.text import Text

    with Live(Text(screen(*look(table), width=_width())), auto_refresh=False, screen=False) as live:
        while True:
            time.sleep(every)
            live.update(Text(screen(*look(table), width=_width())), refresh=True)


def _print_lines(table: Table, every: float) -> None:
    """Print the view, then a line for each sweep that went on, until nothing is left or nobody trains."""
    rows, running, held = look(table)
    signs, printed, at = _signs(running, held), _lines(rows), time.monotonic()
    sys.stdout.write(screen(rows, running, held) + "\n")
    over = False
    while not over:
        ended = bool(rows) and not any(row["queued"] or row["running"] for row in rows)  # none: it is being made
        over = not held or ended or _all_abandoned(running)
        lines = _lines(rows)
        if over or time.monotonic() - at >= LINES * every:
            new = [line for line in lines if line not in printed]
            sys.stdout.write("".join(f"{time.strftime('%H:%M:%S')}  {line}\n" for line in new))
            printed, at = lines, time.monotonic()
        if not over:
            sys.stdout.flush()
            time.sleep(every)
            rows, running, held = look(table)
    sys.stdout.write("".join(f"{line}\n" for line in _signs(running, held) if line not in signs))


def _lines(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    return [str(replace(progress_of([row]), seconds_left=row["seconds_left"])) for row in rows]


def _width() -> int:
    """Columns of the terminal; no limit where there is none."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else WIDE


def look(table: Table) -> tuple[list[dict[str, Any]], list[dict[str, Any]], bool]:
    """Return sweeps, runs in training, and whether a process trains this table (assumed of a shared one)."""
    return table.sweeps(), table.running(), table.shared or is_held(table.store)


def screen(
    rows: Sequence[Mapping[str, Any]], running: Sequence[Mapping[str, Any]], held: bool, width: int = WIDE
) -> str:
    """Return the view as plain text, in lines of at most `width` characters."""
    lines = _wrapped(_signs(running, held), width)
    for row in rows:
        lines += ["", *_wrapped(_sweep(row, width, trains=held and not _all_abandoned(running)), width)]
    if running:
        lines += ["", text.table(_training(running[:MOST], width))]
        lines += [f"({len(running) - MOST} more in training)"] if len(running) > MOST else []
    return "\n".join(lines).strip("\n")


def _signs(running: Sequence[Mapping[str, Any]], held: bool) -> list[str]:
    """Say that nobody trains, or what has given no sign of life."""
    lost = [run for run in running if run["abandoned"]]
    if not held:
        left = f"; {text.count(len(lost), 'run')} of a process that has ended will go on" if lost else ""
        return [f"no process trains this table; `{installation.command('work')}` starts one{left}"]
    if not lost:
        return []
    since = time.time() - min((run["lease"] or 0.0) - LEASE for run in lost)
    names = ", ".join(sorted({_process(run["coordinator"]) for run in lost}))
    runs, ago = text.count(len(lost), "run"), text.duration(since)
    takes_over = f"`{installation.command('work')}` takes over"
    return [f"{names} gave no sign of life for {ago} and has {runs} in training; {takes_over}"]


def _all_abandoned(running: Sequence[Mapping[str, Any]]) -> bool:
    return bool(running) and all(run["abandoned"] for run in running)


def _process(coordinator: str | None) -> str:
    """`host:pid` of a coordinator (`host/boot/pid/start`)."""
    host, _, pid, _ = [*(coordinator or "?").rsplit("/", 3), "", "", "?", ""][:4]
    return f"{host}:{pid}"


def _sweep(row: Mapping[str, Any], width: int, *, trains: bool) -> list[str]:
    share = (row["flops"] or 0) / row["planned_flops"] if row["planned_flops"] else 1.0
    bar = max(LEAST_BAR, min(BAR, width - len(row["sweep"]) - 20))
    full = round(bar * min(1.0, share))
    ended = row["runs"] - row["queued"] - row["running"] - row["blocked"]
    left = (
        [f"{text.duration(row['seconds_left'])} left"] if row["seconds_left"] and row["running"] and trains else []
    )
    best = [] if row["best_error"] is None else [f"best error {number(row['best_error'], 4)}"]
    spent = f"{text.flops(row['flops'] or 0)} of {text.flops(row['planned_flops'])} FLOPs"
    head = f"{row['sweep']}  {'#' * full}{'.' * (bar - full)}  {ended}/{text.count(row['runs'], 'run')}"
    figures = ", ".join([spent, *left, *best])
    lines = [f"{head}, {figures}"] if len(head) + 2 + len(figures) <= width else [head, f"  {figures}"]
    lines += ["  " + ", ".join(f"{row[state]} {state}" for state in STATES if row[state])]
    lines += [f"  wasted: {text.flops(row['wasted_flops'])} FLOPs"] if row["wasted_flops"] else []
    lines += [f"  paused: {row['paused']}"] if row["paused"] else []
    lines += [f"  {row['message']}"] if row["message"] else []
    lines += [f"  {advice}"] if (advice := remedy(row)) else []
    return lines


def _wrapped(lines: Sequence[str], width: int) -> list[str]:
    """Break lines at words; what follows is indented."""
    folded = (textwrap.wrap(line, width, subsequent_indent="    ", drop_whitespace=True) for line in lines)
    return [part for parts in folded for part in parts]


def _training(running: Sequence[Mapping[str, Any]], width: int) -> list[dict[str, str]]:
    """Runs in training: what tells them apart, their share done, their last error, their worker."""
    rows = [
        {
            **run,
            "done": f"{(run['flops'] or 0) / run['planned_flops'] if run['planned_flops'] else 0.0:.0%}",
            "worker": None if run["pid"] is None else f"{run['host']}:{run['pid']}",
        }
        for run in running
    ]
    return columns.fitted(rows, ("attempt", "done", "error", "stack", "worker"), width, ("done", "error"))[0]
