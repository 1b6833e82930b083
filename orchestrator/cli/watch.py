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
from orchestrator.store.engine import NoTableError, is_held
from orchestrator.store.queue import LEASE
from orchestrator.store.table import Table
from orchestrator.text import number

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

BAR, LEAST_BAR, WIDE = 30, 10, 1000
LINES = 10
"""Updates after which a line is printed where there is no terminal."""
MOST = 20
"""Runs in training that are shown; the others are counted."""
STATES = ("queued", "running", "done", "diverged", "pruned", "failed", "cancelled", "blocked")
_RARE = STATES[3:]


def status_row(row: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return a sweep's line of `status`; rare states and figures are left out if they are zero in all `rows`."""
    states = [state for state in STATES if state not in _RARE or any(other[state] for other in rows)]
    more = [name for name in ("reserved_flops", "wasted_flops") if any(other[name] for other in rows)]
    return {
        **{name: row[name] for name in ("sweep", "runs", *states)},
        **{name: text.flops(row[name] or 0) for name in ("planned_flops", "flops", *more)},
        "best_error": "" if row["best_error"] is None else number(row["best_error"], 4),
    }


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
        lines += ["", _table([_run(run) for run in running[:MOST]], width)]
        lines += [f"({len(running) - MOST} more in training)"] if len(running) > MOST else []
    return "\n".join(lines).strip("\n")


def _signs(running: Sequence[Mapping[str, Any]], held: bool) -> list[str]:
    """Say that nobody trains, or what has given no sign of life."""
    lost = [run for run in running if run["abandoned"]]
    if not held:
        left = f"; {text.counted(len(lost), 'run')} of a process that has ended will go on" if lost else ""
        return [f"no process trains this table; `isoflop work` starts one{left}"]
    if not lost:
        return []
    since = time.time() - min((run["lease"] or 0.0) - LEASE for run in lost)
    names = ", ".join(sorted({_process(run["coordinator"]) for run in lost}))
    runs, ago = text.counted(len(lost), "run"), text.duration(since)
    return [f"{names} gave no sign of life for {ago} and has {runs} in training; `isoflop work` takes over"]


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
    head = f"{row['sweep']}  {'#' * full}{'.' * (bar - full)}  {ended}/{row['runs']} runs"
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


def _table(rows: Sequence[Mapping[str, Any]], width: int) -> str:
    """Return rows as columns; the last ones are left out where the width does not hold them."""
    names = list(rows[0])
    while True:
        shown = text.table([{name: row[name] for name in names} for row in rows])
        if max(map(len, shown.splitlines())) <= width or len(names) == 1:
            return shown
        names.pop()


def _run(run: Mapping[str, Any]) -> dict[str, Any]:
    share = (run["flops"] or 0) / run["planned_flops"] if run["planned_flops"] else 0.0
    return {
        "run": run["run_id"][:8],
        "model": run["model"],
        "lr": number(run["lr"], 6),
        "seed": run["seed"],
        "done": f"{share:.0%}",
        "error": "" if run["error"] is None else number(run["error"], 4),
        "attempt": run["attempt"],
        "stack": run["stack"],
        "worker": "" if run["pid"] is None else f"{run['host']}:{run['pid']}",
    }
