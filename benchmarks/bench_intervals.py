"""Coverage of nominal 95 % intervals: surfaces with planted laws, and prediction bands of real learning curves.

`./run python benchmarks/bench_intervals.py [--sets 200] [--curves MNIST.npz] [--constraints]`

Surfaces: floor 0.1, alpha 0.35, beta 0.4, points drawn at random over three decades of params and of examples, log
noise of 1 % (Gaussian; Student's t with 3 degrees; growing ninefold with params; 8 % of the rows eight times as
noisy). Curves: error of eleven scikit-learn classifiers on MNIST at half resolution, and of twelve on
digits, against training examples; the last third of the points is held out. One thread, about six minutes for 200
sets.
"""

from __future__ import annotations

import os

os.environ.update({"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"})

import argparse
import warnings
from pathlib import Path

import numpy as np

from analysis import fit_law, fit_laws, fit_surface

ALPHA, BETA, FLOOR = 0.35, 0.4, 0.1
PLANTED = {
    "alpha": ALPHA,
    "beta": BETA,
    "floor": FLOOR,
    "params_exponent": BETA / (ALPHA + BETA),
    "frontier_exponent": ALPHA * BETA / (ALPHA + BETA),
}
A = 2 * 1e4**ALPHA
FAR = (1e8, 1e8)
RESAMPLES = 300


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", type=int, default=200)
    parser.add_argument("--curves", type=Path, metavar="MNIST.npz")
    parser.add_argument("--constraints", action="store_true", help="only laws with a known or bounded parameter")
    chosen = parser.parse_args()
    print(
        f"Share of {chosen.sets} planted surfaces whose 95 % interval holds the truth; width: log alpha, median\n"
    )
    print(f"| rows | noise | bootstrap | {' | '.join(PLANTED)} | far | width |\n|{'---|' * (len(PLANTED) + 5)}")
    if chosen.constraints:
        for known in ({}, {"fix": {"floor": FLOOR}}, {"fix": {"A": A}}, {"bounds": {"alpha": (0.2, 0.36)}}):
            report(100, "gaussian", chosen.sets, **known)
        return
    narrow = {n: report(n, "gaussian", chosen.sets) for n in (20, 30, 60)}
    for noise in ("heavy", "uneven", "outliers"):
        for n in (20, 30, 60):
            report(n, noise, chosen.sets)
    fixed = {n: report(n, "gaussian", chosen.sets, delta=1e-3) for n in (20, 30, 60)}
    for bootstrap in ("wild", "parametric"):
        for noise in ("gaussian", "uneven"):
            report(30, noise, chosen.sets, bootstrap=bootstrap)
    ratios = ", ".join(f"{narrow[n] / fixed[n]:.2f} (n = {n})" for n in narrow)
    print(f"\nwidth over that with Huber's threshold fixed at 1e-3, Gaussian noise: {ratios}")
    print(f"\nEight records of each of 30 runs, drawn by run and by row, {chosen.sets} sets\n")
    print(f"| by | {' | '.join(PLANTED)} | far | width |\n|{'---|' * (len(PLANTED) + 3)}")
    for by in ("auto", "row"):
        shares, width = coverage(lambda k: records(30, 8, k), chosen.sets, by=by)
        print(
            f"| {'run' if by == 'auto' else by} | {' | '.join(f'{share:.3f}' for share in shares)} | {width:.3f} |"
        )
    if chosen.curves:
        bands(chosen.curves)


def report(n: int, noise: str, sets: int, **options) -> float:
    shares, width = coverage(lambda k: surface(n, noise, k), sets, **options)
    how = ", ".join(f"{key} {value}" for key, value in options.items()) or "pairs"
    print(f"| {n} | {noise} | {how} | {' | '.join(f'{share:.3f}' for share in shares)} | {width:.3f} |", flush=True)
    return width


def coverage(table, sets: int, **options) -> tuple[np.ndarray, float]:
    """Share of intervals that hold the planted value, of the parameters and of the law far away; median width."""
    truth = FLOOR + 2 * (FAR[0] / 1e4) ** -ALPHA + 3 * (FAR[1] / 1e4) ** -BETA
    hits, widths = [], []
    for k in range(sets):
        fit = fit_surface(table(k), resamples=RESAMPLES, **options)
        band = fit.predict(*FAR)
        ends = [(fit.intervals[name], value) for name, value in PLANTED.items()]
        ends.append(((band["low"][0], band["high"][0]), truth))
        hits.append([low <= value <= high for (low, high), value in ends])
        widths.append(np.log(fit.intervals["alpha"][1] / fit.intervals["alpha"][0]))
    return np.mean(hits, axis=0), float(np.median(widths))


def surface(n: int, noise: str, seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    params, examples = 10 ** rng.uniform(4, 7, size=(2, n))
    luck = {
        "gaussian": lambda: 0.01 * rng.normal(size=n),
        "heavy": lambda: 0.006 * rng.standard_t(3, size=n),
        "uneven": lambda: 0.01 * 3 ** (2 * (np.log10(params) - 4) / 3 - 1) * rng.normal(size=n),
        "outliers": lambda: np.where(rng.random(n) < 0.08, 0.08, 0.01) * rng.normal(size=n),
    }[noise]()
    return {"params": params, "examples": examples, "loss": law(params, examples) * np.exp(luck)}


def records(runs: int, per_run: int, seed: int) -> dict[str, np.ndarray]:
    """Runs of 2 % luck each, their records 0.3 % more, from a fiftieth of the examples to all."""
    rng = np.random.default_rng(seed)
    params, last = (np.repeat(10 ** rng.uniform(low, 7, size=runs), per_run) for low in (4, 5))
    examples = last * np.tile(np.geomspace(0.02, 1, per_run), runs)
    luck = np.repeat(0.02 * rng.normal(size=runs), per_run) + 0.003 * rng.normal(size=runs * per_run)
    names = np.repeat(np.arange(runs), per_run)
    return {"run_id": names, "params": params, "examples": examples, "loss": law(params, examples) * np.exp(luck)}


def law(params: np.ndarray, examples: np.ndarray) -> np.ndarray:
    return FLOOR + 2 * (params / 1e4) ** -ALPHA + 3 * (examples / 1e4) ** -BETA


def bands(path: Path) -> None:
    """Held-out points inside the bands of the mixture, and inside those of one law with a floor."""
    rows = []
    for x, y in curves(path):
        known = round(2 / 3 * len(x))
        table = {"examples": x[:known], "error": y[:known]}
        fits = (fit_laws(table, resamples=200), fit_law(table, resamples=200))
        bands_ = [fit.predict(x[known:]) for fit in fits]
        inside = [np.mean((band["low"] <= y[known:]) & (y[known:] <= band["high"])) for band in bands_]
        half = [np.mean(np.log(band["high"] / band["low"])) / 2 for band in bands_]
        off = [np.sqrt(np.mean(np.log(band["y"] / y[known:]) ** 2)) for band in bands_]
        rows.append([*inside, *half, *off])
    mean, median = np.mean(rows, axis=0), np.median(rows, axis=0)
    print(f"\nHeld-out third of {len(rows)} learning curves\n")
    print("| band | inside | half-width, mean | log RMSE, median |\n|---|---|---|---|")
    for k, name in enumerate(("mixture, calibrated by rolling origins", "one law with a floor")):
        print(f"| {name} | {mean[k]:.3f} | {mean[2 + k]:.2f} | {median[4 + k]:.3f} |")


def curves(path: Path):
    """Training examples and mean test error over two to six draws, for every classifier and data set."""
    from sklearn.datasets import load_digits

    warnings.simplefilter("ignore")
    mnist, digits = np.load(path), load_digits()
    test = np.random.default_rng(0).permutation(10000)[:4000]
    halved = [mnist[name].reshape(-1, 28, 28)[:, ::2, ::2].reshape(-1, 196) / 255 for name in ("x_train", "x_test")]
    order = np.random.default_rng(1).permutation(1797)
    small, labels = digits.data[order] / 16, digits.target[order]
    sets = [
        (halved[0], mnist["y_train"], halved[1][test], mnist["y_test"][test], np.geomspace(60, 20000, 16)),
        (small[:1200], labels[:1200], small[1200:], labels[1200:], np.geomspace(30, 1200, 14)),
    ]
    for x, y, x_test, y_test, sizes in sets:
        counts = np.unique(sizes.astype(int))
        for classifier in classifiers(small=len(x) < 5000):
            errors = []
            for n in counts:
                draws = [np.random.default_rng(s).permutation(len(x))[:n] for s in range(6 if n < 1500 else 2)]
                errors.append(
                    np.mean(
                        [
                            np.mean(classifier(k).fit(x[rows], y[rows]).predict(x_test) != y_test)
                            for k, rows in enumerate(draws)
                        ]
                    )
                )
            yield counts.astype(float), np.array(errors)


def classifiers(*, small: bool):
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.linear_model import RidgeClassifier, SGDClassifier
    from sklearn.naive_bayes import BernoulliNB, GaussianNB
    from sklearn.neighbors import KNeighborsClassifier, NearestCentroid
    from sklearn.svm import SVC
    from sklearn.tree import DecisionTreeClassifier

    every = [
        lambda _: RidgeClassifier(1.0),
        lambda _: NearestCentroid(),
        lambda _: GaussianNB(var_smoothing=1e-2),
        lambda _: BernoulliNB(binarize=0.5),
        lambda _: KNeighborsClassifier(1),
        lambda _: KNeighborsClassifier(9),
        lambda seed: DecisionTreeClassifier(random_state=seed),
        lambda seed: DecisionTreeClassifier(max_depth=6, random_state=seed),
        lambda seed: RandomForestClassifier(20, random_state=seed),
        lambda _: LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.05),
        lambda seed: SGDClassifier(random_state=seed, max_iter=15),
    ]
    return [*every, lambda _: SVC(C=5)] if small else every


if __name__ == "__main__":
    main()
