"""Planted laws: tables whose answer is known."""

from __future__ import annotations

import numpy as np
import pandas as pd


def law(n=20, low=1e9, high=1e13, floor=0.05, exponent=0.3, noise=0.0, seed=0):
    """`flops` and `error` on error = floor + 3 (flops / low)^-exponent, with log-normal noise."""
    x = np.geomspace(low, high, n)
    luck = np.random.default_rng(seed).normal(size=n)
    y = (floor + 3 * (x / low) ** -exponent) * np.exp(noise * luck)
    return pd.DataFrame({"flops": x, "error": y})


WIDTHS = (16, 24, 32, 48, 64, 96, 128, 192, 256)


def sweep(seeds=3, noise=0.01, widths=WIDTHS, budgets=10, seed=0):
    """A sweep of widths x budgets x seeds on 6 N^-0.3 + 4 D^-0.3: one row a run, isoFLOP curves."""
    rng = np.random.default_rng(seed)
    rows = []
    for width in widths:
        params = 3000 * width + 40 * width**2
        for flops in np.geomspace(1e9, 1e12, budgets):
            examples = flops / 6 / params
            error = 6 * params**-0.3 + 4 * examples**-0.3
            for repeat in range(seeds):
                cell = f"{width}-{flops:.3g}"
                row = {"run_id": f"{cell}-{repeat}", "cell_id": cell, "seed": repeat, "width": width}
                row |= {"params": params, "examples": examples, "flops": flops}
                rows.append(row | {"error": error * np.exp(noise * rng.normal())})
    return pd.DataFrame(rows)


def records(runs=12, per_run=8, luck=0.04, seed=0):
    """Several records of each run: all of a run share its luck, as training curves do."""
    rng = np.random.default_rng(seed)
    parts = []
    for run in range(runs):
        x = np.geomspace(1e9, 1e12, per_run) * 10 ** rng.uniform(-0.3, 0.3)
        slope = 0.3 * np.exp(luck * rng.normal())
        y = 3 * (x / 1e9) ** -slope * np.exp(luck * rng.normal() + 0.002 * rng.normal(size=per_run))
        parts.append(pd.DataFrame({"run_id": f"r{run}", "flops": x, "error": y}))
    return pd.concat(parts, ignore_index=True)


def surface(n=40, alpha=0.35, beta=0.4, floor=0.2, noise=0.0, seed=0, low=(1e4, 1e5), decades=3.0):
    """`params`, `examples` and `loss` on floor + 2 (N / low)^-alpha + 3 (D / low)^-beta, places drawn at random."""
    rng = np.random.default_rng(seed)
    params, examples = (start * 10 ** rng.uniform(0, decades, size=n) for start in low)
    y = floor + 2 * (params / low[0]) ** -alpha + 3 * (examples / low[1]) ** -beta
    return pd.DataFrame({"params": params, "examples": examples, "loss": y * np.exp(noise * rng.normal(size=n))})
