"""A live view of a table in a terminal: the progress of each sweep, the runs in training, what blocks a sweep.

It only reads the table, so it works beside a process that trains as well as without one.
"""

from __future__ import annotations

import contextlib
import sys
import time
from typing import TYPE_CHECKING, Any

from orchestrator import text
from orchestrator.scheduling.budget import remedy
from orchestrator.store.engine import is_held
from orchestrator.store.table import Table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

BAR = 30
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
        "best_error": "" if row["best_error"] is None else f"{row['best_error']:.4g}",
    }


def follow(store: str, every: float, *, once: bool = False) -> None:
    """Show the table until Ctrl-C; once where asked, or where stdout is no text."""
    with Table(store) as table:
        if once or not sys.stdout.isatty():
            sys.stdout.write(screen(*look(table)) + "\n")
            return
        from rich.live import Live
        from rich.text import Text

        view = Live(Text(screen(*look(table))), auto_refresh=False, screen=False)
        with contextlib.suppress(KeyboardInterrupt), view as live:
            while True:
                time.sleep(every)
                live.update(Text(screen(*look(table))), refresh=True)


def look(table: Table) -> tuple[list[dict[str, Any]], list[dict[str, Any]], bool]:
    """Return sweeps, runs in training, and whether a process trains this table (assumed of a shared one)."""
    return table.sweeps(), table.running(), table.shared or is_held(table.store)


def screen(rows: Sequence[Mapping[str, Any]], running: Sequence[Mapping[str, Any]], held: bool) -> str:
    """Return the view as plain text."""
    lines = [] if held else ["no process trains this table; `isoflop work` starts one"]
    for row in rows:
        lines += ["", *_sweep(row)]
    if running:
        shown = [_run(run) for run in running[:MOST]]
        lines += ["", text.table(shown)]
        lines += [f"({len(running) - MOST} more in training)"] if len(running) > MOST else []
    return "\n".join(lines).strip("\n")


def _sweep(row: Mapping[str, Any]) -> list[str]:
    share = (row["flops"] or 0) / row["planned_flops"] if row["planned_flops"] else 1.0
    full = round(BAR * min(1.0, share))
    ended = row["runs"] - row["queued"] - row["running"] - row["blocked"]
    left = f", {text.duration(row['seconds_left'])} left" if row["seconds_left"] and row["running"] else ""
    best = "" if row["best_error"] is None else f", best error {row['best_error']:.4g}"
    spent = f"{text.flops(row['flops'] or 0)} of {text.flops(row['planned_flops'])} FLOPs"
    lines = [
        f"{row['sweep']}  {'#' * full}{'.' * (BAR - full)}  {ended}/{row['runs']} runs, {spent}{left}{best}",
        "  " + ", ".join(f"{row[state]} {state}" for state in STATES if row[state]),
    ]
    lines += [f"  wasted: {text.flops(row['wasted_flops'])} FLOPs"] if row["wasted_flops"] else []
    lines += [f"  paused: {row['paused']}"] if row["paused"] else []
    lines += [f"  {row['message']}"] if row["message"] else []
    lines += [f"  {advice}"] if (advice := remedy(row)) else []
    return lines


def _run(run: Mapping[str, Any]) -> dict[str, Any]:
    share = (run["flops"] or 0) / run["planned_flops"] if run["planned_flops"] else 0.0
    return {
        "run": run["run_id"][:8],
        "model": run["model"],
        "lr": f"{run['lr']:g}",
        "seed": run["seed"],
        "attempt": run["attempt"],
        "done": f"{share:.0%}",
        "error": "" if run["error"] is None else f"{run['error']:.4g}",
        "stack": run["stack"],
        "worker": "" if run["pid"] is None else f"{run['host']}:{run['pid']}",
    }
