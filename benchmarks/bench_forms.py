"""Coverage of intervals whichever form of the surface is true, and predictions of runs far beyond the fitted ones.

`./run python benchmarks/bench_forms.py [--tables 40] [--forms additive coupled ...]`

The tables are 5 x 5 x 3 runs over three decades of params and examples, with 0.3 and 1 % noise. A quantity counts
as covered if its interval holds the planted value. Far runs have 10 to 300 times the largest compute of 397 others.
Two minutes of one core for 10 tables a row.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).parents[1]))

from analysis import fit_forms, fit_surface
from tests.analysis.planted_forms import EXACT, table, truth, value

QUANTITIES = ("alpha", "beta", "params_exponent", "frontier_exponent", "floor")
NOISES = (0.003, 0.01)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tables", type=int, default=40)
    parser.add_argument("--forms", nargs="*", default=list(EXACT))
    chosen = parser.parse_args()
    print(f"{chosen.tables} tables a row, 95 % intervals; least: the quantity that is covered least\n")
    print(
        "| true form | noise | ruled out | refused | covered, least | width of params exponent | additive refused |"
    )
    print("|---|---|---|---|---|---|---|", flush=True)
    for form in chosen.forms:
        for noise in NOISES:
            print(row(form, noise, chosen.tables), flush=True)
    print("\n| true form | R2 of additive | coupled | bounded | comparison |\n|---|---|---|---|---|")
    for form in chosen.forms:
        print(far(form, min(chosen.tables, 10)), flush=True)


def row(form: str, noise: float, count: int) -> str:
    planted = truth(form)
    ruled_out, refused, additive, widths = 0, 0, 0, []
    covered = dict.fromkeys(QUANTITIES, 0)
    for seed in range(count):
        found = fit_forms(table(form, noise, seed), y="error", resamples=200)
        ruled_out += EXACT[form] not in found.open
        additive += bool(found.fits["chinchilla"].rejected)
        refused += not found.supported
        low, high = found.intervals["params_exponent"]
        widths.append(high - low)
        for name in QUANTITIES:
            low, high = found.intervals[name]
            covered[name] += low <= planted.get(name, 0.0) <= high
    least = min(covered, key=lambda name: covered[name])
    cells = (f"{ruled_out / count:.2f}", f"{refused / count:.2f}", f"{covered[least] / count:.2f} ({least})")
    return (
        f"| {form} | {100 * noise:g} % | {' | '.join(cells)} | {np.median(widths):.4f} | {additive / count:.2f} |"
    )


def far(form: str, count: int) -> str:
    """R2 of the log error of 7 far runs, median over tables."""
    scores = []
    for seed in range(count):
        near, beyond = runs(form, seed)
        fits = [fit_surface(near, y="error", law=law, resamples=0) for law in ("chinchilla", "coupled", "bounded")]
        scores.append([r2(beyond, fit) for fit in (*fits, fit_forms(near, y="error", resamples=0))])
    return f"| {form} | {' | '.join(f'{score:.3f}' for score in np.median(scores, axis=0))} |"


def runs(form: str, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """397 runs of up to 1e14 units of compute, and 7 of 10 to 300 times that, with 2 % noise."""
    rng = np.random.default_rng(seed)
    parts = []
    for count, ends in ((397, (1e10, 1e14)), (7, (1e15, 3e16))):
        compute = np.exp(rng.uniform(*np.log(ends), size=count))
        params = np.sqrt(compute) * np.exp(rng.uniform(-2.5, 2.5, size=count)) / 3
        examples = compute / params
        error = value(form, params, examples) * np.exp(0.02 * rng.normal(size=count))
        parts.append(pd.DataFrame({"params": params, "examples": examples, "error": error}))
    return parts[0], parts[1]


def r2(far_runs: pd.DataFrame, fit) -> float:
    predicted = fit.predict(far_runs["params"], far_runs["examples"])["y"].to_numpy()
    off, spread = np.log(far_runs["error"] / predicted), np.log(far_runs["error"] / far_runs["error"].mean())
    return float(1 - np.sum(off**2) / np.sum(spread**2))


if __name__ == "__main__":
    main()
