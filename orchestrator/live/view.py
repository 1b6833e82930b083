"""What the live page shows of a table: each part as HTML, and the charts that are drawn into it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pandas as pd

from analysis.figures import chart
from analysis.figures.chart import Chart
from analysis.figures.plotly import to_plotly
from analysis.numbers import short
from analysis.report import parts
from analysis.report.html import Html, tag
from orchestrator import text
from orchestrator.scheduling.budget import HOUR, remedy
from orchestrator.store.engine import is_held
from orchestrator.store.schema import RUNNING, STATES
from trainer.host import installation

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from orchestrator.store.table import Table

MOST_CURVES = 12
"""Running runs whose curves are drawn: as many as can be told apart."""


@dataclass(frozen=True)
class Part:
    """A part of the page: its HTML, and the charts of the frames `<name>-<number>` in it."""

    html: str
    charts: list[dict[str, Any]] = field(default_factory=list)


def waiting(why: str) -> Part:
    """The part `state` where the table cannot be read."""
    return Part(tag("p", why, class_="caveats"))


def progress(table: Table) -> tuple[dict[str, Part], list[dict[str, Any]]]:
    """The parts that change while runs train, and the rows of `Table.sweeps`."""
    rows, running = table.sweeps(), table.running()
    held = table.shared or is_held(table.store)
    made = {
        "state": _state(rows, running, held=held),
        "sweeps": Part("".join(_sweep(row) for row in rows) or tag("p", "no sweep yet")),
        "training": _training(running),
        "curves": _curves(table, running),
    }
    return made, rows


def listed(table: Table) -> dict[str, Part]:
    """The parts that change when a run changes its state: the runs, and where they were trained."""
    frame = table.frame("runs")
    order = frame["state"].map({state: k for k, state in enumerate(STATES)} | {RUNNING: -1})
    shown = frame.assign(order=order).sort_values(["order", "error"], kind="stable").drop(columns="order")
    return {
        "runs": Part("".join(parts.runs(shown, "model", "those in training first"))),
        "devices": Part(_devices(frame)),
    }


def _state(rows: Sequence[Mapping[str, Any]], running: Sequence[Mapping[str, Any]], *, held: bool) -> Part:
    """Whether anything trains, by the lock of the table and the leases of its runs."""
    waiting = sum(row["queued"] + row["running"] for row in rows)
    if left := sum(run["abandoned"] for run in running):
        what = f"A process that trained this table has ended or does not answer; it left {text.count(left, 'run')}."
        return Part(
            tag("p", what, " Run ", tag("code", installation.command("work")), " to go on.", class_="caveats")
        )
    if running:
        return Part(tag("p", f"{len(running)} in training", class_="lead"))
    if held and waiting:
        return Part(tag("p", "Starting.", class_="lead"))
    if waiting:
        hint = (
            "Nothing trains this table. Run ",
            tag("code", installation.command("work")),
            " to train what is queued.",
        )
        return Part(tag("p", *hint, class_="caveats"))
    return Part(tag("p", "Nothing is left to train.", class_="lead"))


def _sweep(row: Mapping[str, Any]) -> Html:
    """The progress of a sweep: its bar, its runs by state, its budget, the time left, and what blocks it."""
    ended = row["runs"] - row["queued"] - row["running"] - row["blocked"]
    spent, planned = row["flops"] or 0, row["planned_flops"] or 0
    share = min(1.0, spent / planned) if planned else 1.0
    states = ", ".join(f"{row[state]} {state}" for state in STATES if row[state])
    entries = {
        "runs": f"{ended} of {row['runs']} ended: {states}",
        "FLOPs": f"{text.flops(spent)} of {text.flops(planned)} planned",
        "budget": _budget(row),
        "time left": text.duration(row["seconds_left"]) if row["seconds_left"] and row["running"] else "",
        "best error": "" if row["best_error"] is None else short(row["best_error"]),
        "paused": row["paused"] or "",
        "says": row["message"] or "",
        "to do": remedy(row) or "",
    }
    described = [part for key, value in entries.items() if value for part in (tag("dt", key), tag("dd", value))]
    bar = tag("div", tag("div", style=f"width: {100 * share:.1f}%"), class_="bar", title=f"{share:.0%}")
    return tag("section", tag("h3", row["sweep"]), bar, tag("dl", *described), class_="sweep")


def _budget(row: Mapping[str, Any]) -> str:
    """What the sweep has spent of its limits."""
    limits = row["limits"]
    spent = {
        "total_flops": (row["charged_flops"], "FLOPs", 1.0),
        "hours": (row["seconds"], "hours", HOUR),
        "gpu_hours": (row["gpu_seconds"], "GPU hours", HOUR),
    }
    told = [
        f"{short((used or 0) / unit)} of {short(limits[name])} {word}"
        for name, (used, word, unit) in spent.items()
        if limits.get(name)
    ]
    return ", ".join(told)


def _training(running: Sequence[Mapping[str, Any]]) -> Part:
    if not running:
        return Part("")
    rows = pd.DataFrame([_in_training(run) for run in running[: parts.MOST_ROWS]])
    return Part(tag("h2", "In training") + parts.table(rows))


def _in_training(run: Mapping[str, Any]) -> dict[str, Any]:
    share = (run["flops"] or 0) / run["planned_flops"] if run["planned_flops"] else 0.0
    worker = "" if run["pid"] is None else f"{run['host']}:{run['pid']}"
    return {
        "run": run["run_id"][:8],
        "model": run["model"],
        "lr": run["lr"],
        "seed": run["seed"],
        "done": f"{share:.0%}",
        "error": run["error"],
        "attempt": run["attempt"],
        "worker": "process ended" if run["abandoned"] else worker,
    }


def _curves(table: Table, running: Sequence[Mapping[str, Any]]) -> Part:
    """The error of running runs so far."""
    some = running[:MOST_CURVES]
    records = table.records([run["run_id"] for run in some])
    records = records[(records["error"] > 0) & (records["flops"] > 0)]
    drawn, lines, names = [], [], {}
    for shade, run in enumerate(some, start=1):
        own = records[records["run_id"] == run["run_id"]]
        if not len(own):
            continue
        names[float(shade)] = name = f"{run['model']}, lr {short(run['lr'])}, seed {run['seed']}"
        drawn.append(chart.points(own["flops"], own["error"], shade=float(shade), strong=False, name=name))
        lines.append(chart.line(own["flops"], own["error"], style="link", shade=float(shade)))
    if not drawn:
        return Part("")
    curves = Chart(**chart.axes("flops", "error"), points=pd.concat(drawn), lines=tuple(lines), shades=names)
    more = f"{len(running) - len(some)} more in training are not shown." if len(running) > len(some) else ""
    frames = parts.figures({"Running runs so far": more}, name="curves")
    return Part("".join([tag("h2", "Curves"), *frames]), [to_plotly(curves)])


def _devices(frame: pd.DataFrame) -> str:
    """The devices on which runs were trained, with their runs and seconds."""
    known = frame.dropna(subset=["device"])
    if not len(known):
        return ""
    rows = known.groupby("device", as_index=False).agg(runs=("run_id", "size"), seconds=("seconds", "sum"))
    return str(tag("h2", "Devices") + parts.table(rows))
