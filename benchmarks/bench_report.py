"""The page of a sweep of 300 runs and 100 training curves: its size, the time to write and to render it.

`./run python benchmarks/bench_report.py [--rounds 5] [--out page.html]`

The table is planted on error = 12 N^-0.5 + 12 D^-0.5 with 1 % noise, 10 widths x 5 budgets x 3 learning rates x 2
seeds; 100 runs have 20 records each. Timed is what `isoflop report` does after reading the table: every fit
with 1000 resamples, the verdict with 200, every figure, the page. Rendering is timed in headless Chromium, if
installed, from opening the file until every figure is drawn. Median over rounds with the smallest and largest.
"""

import argparse
import math
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).parents[1]))
from analysis.report.page import render
from orchestrator import plan, read_sweep
from orchestrator.reporting.figures import Findings
from orchestrator.reporting.page import page_of
from orchestrator.store.schema import row_of
from tests.analysis.report.browser import CHROMIUM, Browser

SWEEP = """\
sweep: bench
data: {dataset: digits}
model: {depth: 1, width: [4, 6, 8, 12, 16, 24, 32, 48, 64, 96]}
train: {batch_size: 32, lr: [1e-3, 3e-3, 1e-2]}
budget: {flops: [1e9, 3e9, 1e10, 3e10, 1e11]}
seeds: 2
"""
CURVES, RECORDS = 100, 20


def planted() -> tuple[pd.DataFrame, pd.DataFrame]:
    """The runs and the history of the sweep, as the table would give them."""
    rng, rows, records = np.random.default_rng(0), [], []
    for run in plan(read_sweep(SWEEP)).runs:
        row = row_of(run)
        examples, flops = run.steps * run.batch_size, row["planned_flops"]
        bowl = 1 + 0.1 * math.log(run.lr / 3e-3) ** 2
        error = 12 * (row["params"] ** -0.5 + examples**-0.5) * bowl * math.exp(0.01 * rng.normal())
        ended = {"state": "done", "steps": run.steps, "examples": examples, "flops": flops, "charged_flops": flops}
        ended |= {"epochs": examples / run.dataset_size, "error": error, "loss": 2 * error, "seconds": flops / 1e10}
        rows.append({**row, **ended, "sweep": "bench", "device": "cpu", "threads": 1, "stack": 1})
        if len(rows) <= CURVES:
            at = np.arange(1, RECORDS + 1) / RECORDS
            curve = {
                "run_id": row["run_id"],
                "step": run.steps * at,
                "flops": flops * at,
                "error": error * at**-0.3,
            }
            records.append(pd.DataFrame(curve))
    return pd.DataFrame(rows).drop(columns="spec"), pd.concat(records, ignore_index=True)


def made(frame: pd.DataFrame, history: pd.DataFrame) -> tuple[str, dict[str, float]]:
    """The page, and the CPU seconds of its fits and figures and of its HTML."""
    begun = time.process_time()
    page = page_of("bench", SWEEP, "", "bench.db", Findings(frame, history))
    fitted = time.process_time()
    document = render(frame, page)
    ended = time.process_time()
    return document, {"fits and figures": fitted - begun, "the page itself": ended - fitted, "both": ended - begun}


def rendered(path: Path, rounds: int) -> list[float]:
    """Seconds from opening the page to its last figure, in a fresh browser each."""
    seconds = []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
            browser = Browser(profile)
            begun = time.perf_counter()
            browser.open(path.absolute().as_uri())
            seconds.append(time.perf_counter() - begun)
            browser.close()
    return seconds


def quoted(values: list[float]) -> str:
    return f"{np.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=None)
    arguments = parser.parse_args()
    frame, history = planted()
    made(frame, history)  # imports
    taken: dict[str, list[float]] = {}
    for _ in range(arguments.rounds):
        page, seconds = made(frame, history)
        for name, value in seconds.items():
            taken.setdefault(name, []).append(value)
    with tempfile.TemporaryDirectory() as folder:
        out = arguments.out or Path(folder) / "page.html"
        out.write_text(page)
        what = f"{len(frame)} runs, {history['run_id'].nunique()} curves, {page.count('<figure>')} figures"
        print(f"{what}: {len(page.encode()) / 1e6:.2f} MB\n")
        print(f"| | seconds, {arguments.rounds} rounds |\n|---|---|")
        for name, values in taken.items():
            print(f"| {name}, CPU | {quoted(values)} |")
        if CHROMIUM:
            print(f"| drawn in Chromium, wall | {quoted(rendered(out, arguments.rounds))} |")
        else:
            print("(no Chromium here: not rendered)")


if __name__ == "__main__":
    main()
