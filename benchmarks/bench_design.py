"""Whether `expect` foresees the intervals that fits of planted tables have, and what they refuse.

`./run python benchmarks/bench_design.py`

Each design (grids of params and examples, isoFLOP grids, one axis; one and three runs per cell) is planted with its
default law at two noise levels. The expected half-width of each exponent is compared with the median of the fits of
several tables. They agree within a factor of 1.5, or where `expect` refuses and most fits claim nothing.
"""

import argparse
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd

from analysis import FitError, fit_frontier, fit_isoflop, fit_power_law, fit_surface
from analysis.decisions import expected
from analysis.decisions.assumption import default
from analysis.decisions.design import cells_of, judge

WITHIN = 1.5
NOISE = (0.005, 0.02)


def grid(sizes, lengths, *, budgets=False):
    n, length = (part.ravel() for part in np.meshgrid(sizes, lengths, indexing="ij"))
    table = pd.DataFrame({"params": n, "examples": length / (6 * n) if budgets else length})
    if budgets:
        return table.assign(flops=length, budget=length)
    return table.assign(flops=6 * n * length)


span, curves = np.geomspace, partial(grid, budgets=True)
LAYOUTS = {
    "grid 3 x 3": grid(span(1e4, 1e5, 3), span(1e4, 1e5, 3)),
    "grid 3 x 3, wide": grid(span(1e4, 1e6, 3), span(1e4, 1e6, 3)),
    "grid 4 x 6": grid(span(3e3, 3e5, 4), span(3e3, 1e6, 6)),
    "grid 5 x 5": grid(span(1e4, 1e6, 5), span(1e4, 1e6, 5)),
    "grid 6 x 5, params first": grid(span(3e5, 3e7, 6), span(1e4, 1e6, 5)),
    "grid 8 x 8": grid(span(1e4, 1e6, 8), span(1e4, 1e6, 8)),
    "isoFLOP 3 x 3": curves(span(1e4, 1e6, 3), span(1e10, 1e12, 3)),
    "isoFLOP 5 x 3": curves(span(1e4, 1e6, 5), span(1e10, 1e12, 3)),
    "isoFLOP 7 x 4": curves(span(3e3, 3e6, 7), span(1e10, 1e12, 4)),
    "isoFLOP 9 x 6": curves(span(3e3, 3e6, 9), span(3e9, 1e13, 6)),
    "isoFLOP 7 x 4, one side": curves(span(1e6, 1e8, 7), span(1e10, 1e12, 4)),
    "examples, 6": grid([1e5], span(1e4, 1e6, 6)),
    "params, 8": grid(span(1e4, 1e6, 8), [1e6]),
}


def planted(layout, seeds, assumed, seed):
    table = layout.loc[np.repeat(np.arange(len(layout)), seeds)]
    noise = assumed.sigma * np.random.default_rng(seed).normal(size=len(table))
    y = assumed.y(table["params"].to_numpy(), table["examples"].to_numpy()) * np.exp(noise)
    runs = {"run_id": np.arange(len(table)).astype(str), "cell_id": table.index.astype(str)}
    return table.assign(error=y, **runs).reset_index(drop=True)


def interval(fit, name):
    """Half-width, and whether the exponent would be claimed; NaN and False where there is no fit."""
    try:
        result = fit()
    except (FitError, ValueError):
        return np.nan, False
    low, high = (
        result.intervals[name] if hasattr(result, "intervals") else (result.n_exponent.low, result.n_exponent.high)
    )
    return (high - low) / 2, result.supported


def fits_of(table, design, seed):
    """The fits behind each expected exponent, as (name shown, function, name in the result)."""
    draws = {"resamples": 200, "seed": seed}
    columns = {"params": "params", "examples": "examples", "FLOPs": "flops"}
    if not design.surface:
        (law,) = design.laws
        yield law, "one law", partial(fit_power_law, table, columns[law.quantity], **draws), "exponent"
        return
    for law in design.laws:
        kind = "each" if law.quantity == "FLOPs" and design.optimum is not None else "running"
        name = columns[law.quantity]
        yield law, "frontier", partial(fit_frontier, table, name, kind=kind, **draws), "exponent"
    surface = partial(fit_surface, table, y="error", **draws)
    for law in design.surface:
        yield law, "surface", surface, law.quantity.replace(" ", "_")
    if design.optimum is not None:
        yield design.optimum, "isoFLOP minima", partial(fit_isoflop, table, **draws), ""


def compared(layout, seeds, sigma, sets):
    """One row per exponent: what was expected and what the fits gave."""
    cells = cells_of(
        layout.loc[np.repeat(np.arange(len(layout)), seeds)], ("params", "examples", "flops", "budget")
    )
    assumed = replace(default(cells.n, cells.d), sigma=sigma)
    design = judge(cells, assumed)
    found = {}
    for seed in range(sets):
        cache = {}
        for law, kind, fit, name in fits_of(planted(layout, seeds, assumed, seed), design, seed):
            if kind == "surface" and "surface" not in cache:
                cache["surface"] = attempt(fit)
            call = (lambda result=cache["surface"]: raised(result)) if kind == "surface" else fit
            found.setdefault((kind, law), []).append(interval(call, name))
    for (kind, law), pairs in found.items():
        halves, claimed = np.array([half for half, _ in pairs]), np.mean([ok for _, ok in pairs])
        half = float(np.nanmedian(halves)) if np.isfinite(halves).any() else np.nan
        agrees = claimed <= 0.5 if law.refused else bool(1 / WITHIN < law.half / half < WITHIN)
        yield {"fit": kind, "exponent": law.quantity, "expected": law.half, "fits": half, "claimed": claimed} | {
            "refused": law.refused,
            "agrees": agrees,
        }


def attempt(fit):
    try:
        return fit()
    except (FitError, ValueError) as error:
        return error


def raised(result):
    if isinstance(result, Exception):
        raise result
    return result


def main():
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--sets", type=int, default=5)
    sets = options.parse_args().sets
    rows = []
    print(f"{sets} tables of each design; resamples of a rehearsal: {expected.TABLES} x {expected.RESAMPLES}\n")
    print("| design | runs a cell | noise | fit | exponent | expected +- | fits +- | fits that claim | agrees |")
    print("|---" * 9 + "|")
    for name, layout in LAYOUTS.items():
        for seeds in (1, 3):
            for sigma in NOISE:
                for row in compared(layout, seeds, sigma, sets):
                    rows.append({"design": f"{name}, {seeds}", **row})
                    what = "refused" if row["refused"] else f"{row['expected']:.3g}"
                    numbers = (
                        f"{what} | {row['fits']:.3g} | {row['claimed']:.1f} | {'yes' if row['agrees'] else 'NO'}"
                    )
                    head = f"{name} | {seeds} | {100 * sigma:g} % | {row['fit']} | {row['exponent']}"
                    print(f"| {head} | {numbers} |", flush=True)
    table = pd.DataFrame(rows)
    print(f"\n{table['design'].nunique()} designs, {len(table)} exponents")
    for what, part in [*table.groupby("fit"), ("all", table)]:
        wide = part[part["refused"] == ""]
        print(
            f"{what}: {part['agrees'].mean():.2f} agree of {len(part)}; of {len(wide)} with an expected interval "
            f"{wide['agrees'].mean():.2f} are within a factor of {WITHIN}; of the {len(part) - len(wide)} refused, "
            f"fits claim {part.loc[part['refused'] != '', 'claimed'].mean():.2f}"
        )


if __name__ == "__main__":
    main()
