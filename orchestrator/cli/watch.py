"""A live view of a table in a terminal: what every sweep has done, what is in training, what holds it up.

It reads the table and nothing else, so that it may run beside any coordinator, or where there is none.
"""

from __future__ import annotations

import contextlib
import sys
import time
from typing import TYPE_CHECKING, Any

from orchestrator.cli import terminal
from orchestrator.scheduling.budget import remedy
from orchestrator.store.engine import is_held
from orchestrator.store.table import Table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

BAR = 30
MOST = 20
"""Runs in training that are shown; the others are counted."""


def follow(store: str, every: float, *, once: bool = False) -> None:
    """Show the table until Ctrl-C; once where asked, or where stdout is no terminal."""
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
    """Sweeps, runs in training, and whether a coordinator holds the table; of a shared one nobody can tell."""
    return table.sweeps(), table.running(), table.shared or is_held(table.store)


def screen(rows: Sequence[Mapping[str, Any]], running: Sequence[Mapping[str, Any]], held: bool) -> str:
    """What is shown, as plain text."""
    lines = [] if held else ["nobody works on this table; `isoflop work` would"]
    for row in rows:
        lines += ["", *_sweep(row)]
    if running:
        shown = [_run(run) for run in running[:MOST]]
        lines += ["", terminal.table(shown)]
        lines += [f"({len(running) - MOST} more in training)"] if len(running) > MOST else []
    return "\n".join(lines).strip("\n")


def _sweep(row: Mapping[str, Any]) -> list[str]:
    share = (row["flops"] or 0) / row["planned_flops"] if row["planned_flops"] else 1.0
    full = round(BAR * min(1.0, share))
    ended = row["runs"] - row["queued"] - row["running"] - row["blocked"]
    left = f", {terminal.duration(row['seconds_left'])} left" if row["seconds_left"] and row["running"] else ""
    best = "" if row["best_error"] is None else f", best error {row['best_error']:.4g}"
    spent = f"{terminal.flops(row['flops'] or 0)} of {terminal.flops(row['planned_flops'])} FLOPs"
    lines = [
        f"{row['sweep']}  {'#' * full}{'.' * (BAR - full)}  {ended}/{row['runs']} runs, {spent}{left}{best}",
        "  " + ", ".join(f"{row[state]} {state}" for state in terminal.STATES if row[state]),
    ]
    lines += [f"  lost: {terminal.flops(row['wasted_flops'])} FLOPs"] if row["wasted_flops"] else []
    lines += [f"  paused: {row['paused']}"] if row["paused"] else []
    lines += [f"  {row['message']}"] if row["message"] else []
    lines += [f"  {said}"] if (said := remedy(row)) else []
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
