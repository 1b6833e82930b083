"""Error of a target after suggested runs, random runs, and one more isoFLOP curve of equal cost; planted surfaces.

`./run python benchmarks/bench_suggest.py [--sets 60]`

Each set plants a surface, makes 20 noisy runs on four budgets, and spends ten times their FLOPs in three ways; the
error is that of the target after a new fit. Three minutes.
"""

import argparse
import sys

import numpy as np
import pandas as pd

from analysis import FitError, fit_surface, suggest
from analysis.approaches.optimum import SIX_N_D, closed_form
from analysis.decisions.suggest import BEYOND, TARGETS

FIRST_BUDGETS = np.geomspace(6e11, 6e13, 4)
NEW_RUNS = 24


def planted(rng):
    alpha, beta = rng.uniform(0.2, 0.6, 2)
    return {"A": 0.2 * 1e6**alpha, "alpha": alpha, "B": 0.2 * 1e6**beta, "beta": beta, "floor": rng.uniform(0, 0.1)}


def run(law, n, d, noise, rng):
    y = law["floor"] + law["A"] * n ** -law["alpha"] + law["B"] * d ** -law["beta"]
    error = y * np.exp(noise * rng.normal(size=np.shape(n)))
    return pd.DataFrame({"params": n, "examples": d, "flops": 6 * n * d, "error": error})


def best_params(law, budget):
    values = {name: np.array([value]) for name, value in law.items()}
    return float(np.exp(closed_form(values, np.log([budget]), SIX_N_D)[0, 0, 0]))


def curve(law, budget, sizes, decades, off=1.0):
    n = off * best_params(law, budget) * np.geomspace(10 ** (-decades / 2), 10 ** (decades / 2), sizes)
    return n, budget / 6 / n


def random_runs(first, budget, rng):
    """Uniform on the logarithms of the sizes and examples that `suggest` may choose from."""
    chosen, left = [], budget
    for _ in range(4000):
        at = [
            np.exp(rng.uniform(np.log(first[name].min() / BEYOND), np.log(first[name].max() * BEYOND)))
            for name in ("params", "examples")
        ]
        if 6 * at[0] * at[1] <= left and len(chosen) < NEW_RUNS:
            chosen.append(at)
            left -= 6 * at[0] * at[1]
    return np.array(chosen).T


def value(fit, target, at):
    if target == "exponent":
        return fit["params_exponent"]
    values = {name: np.array([fit[name]]) for name in ("A", "alpha", "B", "beta", "floor")}
    log_n, _, log_y = closed_form(values, np.log([at]), SIX_N_D)[:, 0, 0]
    return log_n if target == "optimum" else log_y


def one(target, noise, rng):
    law = planted(rng)
    first = pd.concat(
        [run(law, *curve(law, c, 5, 1.5, np.exp(rng.normal(0, 0.3))), noise, rng) for c in FIRST_BUDGETS]
    )
    spend, at = 10 * first["flops"].sum(), 10 * first["flops"].max()
    told = suggest(first, spend, target, at=at, most=NEW_RUNS)
    seeds = told.runs["seeds"].to_numpy()
    n, d = (np.repeat(told.runs[name].to_numpy(), seeds) for name in ("params", "examples"))
    guess = fit_surface(first, y="error", resamples=0)
    known = {name: guess[name] for name in ("A", "alpha", "B", "beta", "floor")}
    arms = {
        "suggested": (n, d),
        "random": random_runs(first, spend, rng),
        "isoFLOP curve": curve(known, spend / 5, 5, 1.5),
    }
    truth = value({**law, "params_exponent": law["beta"] / (law["alpha"] + law["beta"])}, target, at)
    found = {"before": value(guess, target, at) - truth}
    for arm, (sizes, examples) in arms.items():
        table = pd.concat([first, run(law, sizes, examples, noise, rng)])
        fit = fit_surface(table, y="error", resamples=200 if arm == "suggested" else 0)
        found[arm] = value(fit, target, at) - truth
        if arm == "suggested":
            low, high = np.quantile(_drawn(fit, target, at), [0.025, 0.975])
            ends = np.array(told.expected) if target == "exponent" else np.log(told.expected)
            found["expected width"], found["width"] = float(ends[1] - ends[0]), fit.wider * float(high - low)
    return found


def _drawn(fit, target, at):
    if target == "exponent":
        return fit.replicates["params_exponent"]
    log_n, _, log_y = closed_form(fit.replicates, np.log([at]), SIX_N_D)[:, :, 0]
    return log_n if target == "optimum" else log_y


def main():
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--sets", type=int, default=60)
    sets = options.parse_args().sets
    print(f"{sets} planted surfaces a row; root mean square error of the target (log for optimum and error)\n")
    print(
        "| target | noise | before | suggested | random | isoFLOP curve | random / suggested | width / expected |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for target in TARGETS:
        for noise in (0.005, 0.02):
            rng, rows = np.random.default_rng(0), []
            while len(rows) < sets:
                try:
                    rows.append(one(target, noise, rng))
                except (FitError, ValueError) as error:
                    print(f"left out: {error}", file=sys.stderr)
            table = pd.DataFrame(rows)
            rms = np.sqrt((table[["before", "suggested", "random", "isoFLOP curve"]] ** 2).mean())
            bootstrap = [
                np.sqrt((sample["random"] ** 2).mean() / (sample["suggested"] ** 2).mean())
                for sample in (table.sample(frac=1, replace=True, random_state=k) for k in range(400))
            ]
            low, high = np.quantile(bootstrap, [0.025, 0.975])
            cells = " | ".join(f"{number:.4f}" for number in rms)
            ratio = f"{rms['random'] / rms['suggested']:.2f} [{low:.2f}, {high:.2f}]"
            width = (table["width"] / table["expected width"]).median()
            print(f"| {target} | {100 * noise:g} % | {cells} | {ratio} | {width:.2f} |", flush=True)


if __name__ == "__main__":
    main()
