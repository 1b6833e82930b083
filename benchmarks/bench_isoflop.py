"""Methods for isoFLOP minima on planted tables: bias, scatter, width and coverage of the slope.

`./run python benchmarks/bench_isoflop.py`

Six budgets over three decades, one run per cell. "centred": nine sizes over 1.5 decades about each optimum; "grid":
the same thirteen sizes over 3.3 decades at every budget. Laws: "surface" is floor + A N^-alpha + B D^-beta;
"kaplan" adds the two terms inside a power of 0.7; "saturated" is the law of an error near chance.
"""

import argparse
from typing import get_args

import numpy as np
import pandas as pd

from analysis import fit_isoflop
from analysis.approaches.isoflop_fit import Method

LAWS = {
    "surface": (lambda u, v: 0.05 + 0.2 * u**-0.34 + 0.2 * v**-0.3, 0.3 / 0.64),
    "kaplan": (lambda u, v: 0.05 + (0.2 * u**-0.5 + 0.2 * v**-0.43) ** 0.7, 0.43 / 0.93),
    "saturated": (lambda u, v: 1 / (1 + 1 / (0.15 * u**-0.34 + 0.15 * v**-0.3)), 0.3 / 0.64),
}


def table(law, design, noise, rng):
    function, slope = LAWS[law]
    rows = []
    for flops in np.geomspace(6e11, 6e14, 6):
        middle = 1.1e6 * (flops / 6e12) ** slope
        sizes = np.geomspace(5e4, 1e8, 13) if design == "grid" else middle * np.geomspace(10**-0.75, 10**0.75, 9)
        examples = flops / 6 / sizes
        error = function(sizes / 1e6, examples / 1e6) * np.exp(noise * rng.normal(size=sizes.size))
        rows.append(pd.DataFrame({"params": sizes, "examples": examples, "flops": flops, "error": error}))
    return pd.concat(rows, ignore_index=True)


def main():
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--sets", type=int, default=40)
    sets = options.parse_args().sets
    print(f"{sets} tables a row, nominal 95 % intervals of the exponent of the best params\n")
    print("| design | law | noise | method | bias | sd | width | covered | claimed | of these covered |")
    print("|---" * 10 + "|")
    for design in ("centred", "grid"):
        for law, (_, truth) in LAWS.items():
            for noise in (0.003, 0.01):
                for method in get_args(Method):
                    rng = np.random.default_rng(0)
                    tables = [table(law, design, noise, rng) for _ in range(sets)]
                    fits = [fit_isoflop(t, method=method, resamples=200) for t in tables]
                    found = [fit.n_exponent for fit in fits]
                    value = np.array([q.value for q in found])
                    width = np.mean([q.high - q.low for q in found])
                    covered = np.mean([q.covers(truth) for q in found])
                    claimed = [fit.n_exponent.covers(truth) for fit in fits if fit.supported]
                    numbers = f"{value.mean() - truth:+.4f} | {value.std():.4f} | {width:.4f} | {covered:.2f}"
                    numbers += f" | {len(claimed) / sets:.2f} | {np.mean(claimed) if claimed else np.nan:.2f}"
                    print(f"| {design} | {law} | {100 * noise:g} % | {method} | {numbers} |", flush=True)


if __name__ == "__main__":
    main()
