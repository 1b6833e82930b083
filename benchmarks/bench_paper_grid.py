"""What the 150 cells of the paper's scaling sweep can show: `python benchmarks/bench_paper_grid.py --seeds 20`.

On the params, examples and FLOPs of `sweeps/paper-scaling.yaml`, errors of a known surface
E + A N^-alpha + B D^-beta with noise are planted, and each approach gives the exponent of the best params in
compute (the paper: 0.35, from its frontier). No data set and no training is needed.
"""

from __future__ import annotations

import argparse
import itertools
import warnings
from pathlib import Path

import numpy as np
import pandas as pd

from analysis import agree
from orchestrator import load_sweep, plan
from orchestrator.sweep.planner import run_flops
from orchestrator.sweep.sweep import FIRST_STAGE
from trainer import cost

SWEEP = Path(__file__).parents[1] / "sweeps" / "paper-scaling.yaml"
PLANTED = {"equal exponents": (0.34, 0.35), "the paper's bottleneck laws": (1.0, 0.35)}
"""alpha, beta: the best params grow as C^(beta / (alpha + beta)), 0.51 and 0.26."""

APPROACHES = ("frontier", "isoflop parabola", "isoflop akima", "surface")

FLOOR, ABOVE = 0.1, 0.5
"""Error that no model undercuts, and what params and examples together add to it in the middle of the grid."""

SHARES = (0.2, 0.5, 0.8)
"""The share of ABOVE that is due to params."""


def cells() -> pd.DataFrame:
    """Params, examples and FLOPs of the first stage's runs."""
    runs = plan(load_sweep(SWEEP), decode=False).runs
    rows = [
        {
            "params": cost.params(cost.shape_of(run)).total,
            "examples": (run.steps or 0) * run.batch_size,
            "flops": run_flops(run),
        }
        for run in runs
        if run.stage == FIRST_STAGE
    ]
    return pd.DataFrame(rows)


def planted(design: pd.DataFrame, law: tuple[float, float], share: float, noise: float, seed: int) -> pd.DataFrame:
    """The design with errors of the surface, and log-normal noise."""
    n, d = (design[name] / np.exp(np.log(design[name]).mean()) for name in ("params", "examples"))
    alpha, beta = law
    error = FLOOR + ABOVE * (share * n**-alpha + (1 - share) * d**-beta)
    return design.assign(error=error * np.exp(noise * np.random.default_rng(seed).standard_normal(len(design))))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--noise", type=float, default=0.01)
    asked = parser.parse_args()
    design = cells()
    print(f"{len(design)} cells, {asked.noise:.1%} noise, {asked.seeds} seeds; mean ± deviation (seeds answered)")
    heads = ["planted", "truth", "due to params", *APPROACHES]
    print("| " + " | ".join(heads) + " |\n|" + "---|" * len(heads))
    for (name, law), share in itertools.product(PLANTED.items(), SHARES):
        tables = [
            agree(planted(design, law, share, asked.noise, seed), budget="flops", resamples=0).table
            for seed in range(asked.seeds)
        ]
        found = pd.concat(tables).query("quantity == 'n'").groupby("approach")["value"]
        means = " | ".join(
            f"{found.mean()[name]:.3f} ± {found.std()[name]:.3f} ({found.count()[name]})"
            if found.count()[name]
            else "none"
            for name in APPROACHES
        )
        print(f"| {name} | {law[1] / sum(law):.2f} | {share:.0%} | {means} |", flush=True)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main()
