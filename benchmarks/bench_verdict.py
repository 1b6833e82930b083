"""Error rates of `verdict` on planted tables: claims of a floor, of an exponent, of an extrapolation.

`./run python benchmarks/bench_verdict.py [--sets 40]`

A claimed exponent is wrong if the truth is outside its interval; a claimed extrapolation, if the law fitted to all
rows is off by more than twice the promised rms at the claimed reach.
"""

import argparse
import zlib

import numpy as np
import pandas as pd

from analysis import FitError, verdict
from analysis.checks.predictors import Question
from analysis.checks.validate import LAWS

COLUMNS = ("exponent", "floor", "far", "exponent wrong", "far wrong")
DRAWS = {"resamples": 20, "level": 0.95, "seed": 0}


def curve(n, decades, floor, noise, rng):
    x = np.geomspace(1e9, 1e9 * 10**decades, n)
    return pd.DataFrame({"flops": x, "error": truth_1(x, floor) * np.exp(noise * rng.normal(size=n))})


def truth_1(x, floor):
    return floor + 0.6 * (x / 1e9) ** -0.3


def grid(budgets, decades, floor, noise, rng):
    rows = []
    for flops in np.geomspace(6e11, 6e11 * 10**decades, budgets):
        n = 1.1e6 * (flops / 6e12) ** 0.47 * np.geomspace(0.15, 6.5, 7)
        rows.append(pd.DataFrame({"params": n, "examples": flops / 6 / n, "flops": flops}))
    table = pd.concat(rows, ignore_index=True)
    error = truth_2(table["params"], table["examples"], floor)
    return table.assign(error=error * np.exp(noise * rng.normal(size=len(table))))


def truth_2(n, d, floor):
    return floor + 0.2 * (n / 1e6) ** -0.34 + 0.2 * (d / 1e6) ** -0.3


def judged(table, x, floor, truth):
    found = verdict(table, x, resamples=150)
    quantity = "exponent" if isinstance(x, str) else "params_exponent"
    low, high = found.fit.intervals[quantity]
    row = {
        "exponent": found.exponent.supported,
        "floor": found.floor.supported,
        "far": found.extrapolation.supported,
    }
    row["exponent wrong"] = found.exponent.supported and not low <= truth <= high
    row["far wrong"] = False
    if found.extrapolation.supported:
        reach, off = found.validation.reach()
        law = LAWS[len(found.validation.x)][found.validation.best]
        there = beyond(table, x, reach)
        middle, _, _ = law(table, Question(found.validation.x, "error", DRAWS))(there)
        error = truth_1(there["flops"], floor) if isinstance(x, str) else truth_2(*(there[c] for c in x), floor)
        row["far wrong"] = float(np.sqrt(np.mean((middle - np.log(error)) ** 2))) > 2 * off
    return row


def beyond(table, x, reach):
    if isinstance(x, str):
        return pd.DataFrame({x: [reach * table[x].max()]})
    last = table[table["flops"] == table["flops"].max()]
    return last.assign(params=last["params"] * reach**0.47, examples=last["examples"] * reach**0.53)


def main():
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--sets", type=int, default=40)
    sets = options.parse_args().sets
    cases = [(curve, n, decades, "flops", 0.3) for n, decades in ((12, 2), (30, 4))]
    cases += [(grid, budgets, decades, ("params", "examples"), 0.3 / 0.64) for budgets, decades in ((5, 2), (7, 3))]
    print(f"{sets} tables a row; shares of them\n")
    heads = "exponent claimed | of these wrong | floor claimed | extrapolation claimed | of these wrong"
    print(f"| table | floor planted | noise | {heads} |\n{'|---' * 8}|")
    for make, size, decades, x, truth in cases:
        for floor in (0.0, 0.05, 0.15):
            for noise in (0.005, 0.02):
                name = f"{make.__name__}, {size} {'points' if make is curve else 'budgets'}, {decades} decades"
                rng = np.random.default_rng(zlib.crc32(f"{name} {floor} {noise}".encode()))
                rows = []
                for _ in range(sets):
                    try:
                        rows.append(judged(make(size, decades, floor, noise, rng), x, floor, truth))
                    except FitError:
                        rows.append(
                            dict.fromkeys(("exponent", "floor", "far", "exponent wrong", "far wrong"), False)
                        )
                share = pd.DataFrame(rows).astype(float).mean()
                wrong = [share[f"{k} wrong"] / share[k] if share[k] else 0.0 for k in ("exponent", "far")]
                cells = [share["exponent"], wrong[0], share["floor"], share["far"], wrong[1]]
                print(
                    f"| {name} | {floor:g} | {100 * noise:g} % | {' | '.join(f'{c:.2f}' for c in cells)} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
