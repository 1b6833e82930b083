"""Results of the shipped sweeps on this machine, as Markdown: time, laws with intervals, calibration.

`./run python benchmarks/report_sweeps.py STORE... > benchmarks/results/<yyyy-mm>-<machine>.md`, after the sweeps.
"""

import datetime as dt
import importlib.metadata
import os
import platform
import sys
from pathlib import Path

import pandas as pd

from orchestrator.reporting.laws import calibration, laws
from orchestrator.store.table import Table


def machine() -> str:
    cpus = Path("/proc/cpuinfo").read_text().split("model name")[1].split(":")[1].splitlines()[0].strip()
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("torch", "ray", "numpy"))
    return f"{cpus}, {len(os.sched_getaffinity(0))} cores, Python {platform.python_version()}, {versions}"


def report(store: str) -> None:
    with Table(store) as table:
        for row in table.sweeps():
            frame, attempts = table.frame("runs", row["sweep"]), table.frame("attempts", row["sweep"])
            started, ended = (pd.to_datetime(attempts[name]) for name in ("started", "ended"))
            wall = (ended.max() - started.min()).total_seconds()
            states = ", ".join(f"{row[state]} {state}" for state in ("done", "failed", "diverged"))
            spent = f"{row['flops']:.4g} FLOPs spent of {row['planned_flops']:.4g} planned"
            times = f"{wall:.0f} s from the first claim to the last end, {frame['seconds'].sum():.0f} s of training"
            print(f"\n## {row['sweep']}\n\n{states}; {spent}; {times}; best error {row['best_error']:.4g}.\n")
            found = laws(frame)
            for law in found:
                print(f"```\n{law.fit.summary() if law.fit else f'error against {law.x}: {law.why_not}'}\n```")
            if known := calibration(frame, found):
                print(f"\n{known}")


if __name__ == "__main__":
    print(f"# The shipped sweeps\n\n{dt.datetime.now(dt.UTC):%Y-%m-%d}, {machine()}.")
    for name in sys.argv[1:]:
        report(name)
