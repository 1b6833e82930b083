"""How well `fit_laws` continues planted learning curves: `python benchmarks/bench_extrapolation.py --curves 40`.

For every kind of curve: the root mean square error of log y of the law at up to twice the range, the share of new
points inside the 95 % band, and the time a curve takes with its band, on one core. `--peer FOLDER` names a checkout
of another version (its `analysis` package is imported instead), to compare the two in one session.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.analysis.planted_extrapolation import KINDS, ahead


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--curves", type=int, default=40)
    parser.add_argument("--peer", help="checkout whose analysis package is measured")
    chosen = parser.parse_args()
    if chosen.peer:
        sys.path.insert(0, chosen.peer)
    from analysis import fit_laws

    print("| curves | rms of log y | inside the band | seconds a curve |\n|---|---|---|---|")
    for kind, make in KINDS.items():
        errors, inside, begun = [], [], time.process_time()
        for seed in range(chosen.curves):
            x, y, law = make(seed)
            at = ahead(x)
            band = fit_laws({"examples": x, "error": y}, resamples=200).predict(at)
            noise = np.std(np.log(y / law(x)))
            new = law(at) * np.exp(noise * np.random.default_rng(seed).normal(size=at.size))
            errors.append(np.mean(np.log(band["y"] / law(at)) ** 2))
            inside.append(np.mean((band["low"] <= new) & (new <= band["high"])))
        seconds = (time.process_time() - begun) / chosen.curves
        print(f"| {kind} | {np.sqrt(np.mean(errors)):.4f} | {np.mean(inside):.3f} | {seconds:.2f} |", flush=True)


if __name__ == "__main__":
    main()
