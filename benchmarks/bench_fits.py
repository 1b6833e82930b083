"""Accuracy and speed of the fits: against published optima, random restarts and other libraries.

`./run python benchmarks/bench_fits.py TABLES [--peers FOLDER]`

TABLES is a folder with CSV files of published runs; without it only planted data are used. FOLDER holds `lmfit` and
`chinchilla` with their dependencies, installed by `pip install --target FOLDER lmfit chinchilla`; they are not
dependencies of isoflop. One thread; CPU seconds unless stated otherwise; about four minutes.
"""

from __future__ import annotations

import os

os.environ.update({"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"})

import argparse
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd

from analysis import fit_laws, fit_surface
from analysis.laws import newton
from analysis.laws.surfaces.chinchilla import Chinchilla
from analysis.solver import fitting
from analysis.table.data import read
from analysis.table.options import Options

PUBLISHED = {"alpha": (0.317, 0.373), "beta": (0.331, 0.415), "floor": (1.769, 1.871)}
LOSSES = {
    "Huber 1e-3, log": {"delta": 1e-3},
    "squares, log": {"loss": "squares"},
    "squares, raw": {"loss": "squares", "residuals": "raw"},
    "Huber from the data, log": {},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tables", nargs="?", type=Path)
    parser.add_argument("--peers", type=Path)
    parser.add_argument("--surfaces", type=int, default=300)
    chosen = parser.parse_args()
    if chosen.peers:
        sys.path.append(str(chosen.peers))
    if chosen.tables:
        published(chosen.tables)
        addition(chosen.tables)
    optima(chosen.surfaces)
    peers(chosen.tables)


def published(folder: Path) -> None:
    table = chinchilla_points(folder)
    print("Chinchilla's 240 points, median of 20 fits\n")
    print("| loss | objective | A | B | floor | alpha | beta | ms |\n|---|---|---|---|---|---|---|---|")
    for name, options in LOSSES.items():
        fit, seconds = timed(lambda o=options: fit_surface(table, d="tokens", resamples=0, **o), 20)
        numbers = " | ".join(f"{fit[key]:.6g}" for key in ("A", "B", "floor", "alpha", "beta"))
        print(f"| {name} | {fit.objective:.14f} | {numbers} | {1000 * seconds:.1f} |")
    fit, seconds = timed(lambda: fit_surface(table, d="tokens", delta=1e-3, resamples=4000), 3)
    print(f"\n4000 resamples of rows, Huber 1e-3: {seconds:.2f} s (median of 3); ends against the published ones")
    for name, ends in PUBLISHED.items():
        found = fit.intervals[name]
        off = max(abs(mine / theirs - 1) for mine, theirs in zip(found, ends, strict=True))
        print(f"- {name} {found[0]:.3f} to {found[1]:.3f}, published {ends[0]} to {ends[1]}: {off:.1%} off")


def addition(folder: Path) -> None:
    table = pd.read_csv(folder / "four_digit_addition.csv")
    known, later = table[table["training"] == 1], table[table["training"] == 0]
    found, seconds = timed(lambda: fit_laws(known, "examples", "loss", resamples=0), 10)
    off = np.log(found.predict(later["examples"])["y"].to_numpy() / later["loss"].to_numpy())
    print(
        f"\nFour-digit addition: {found.best.name} of {len(found.fits)} laws, "
        f"log RMSE {np.sqrt(np.mean(off**2)):.4f} on the last 3, {seconds:.3f} s (median of 10)"
    )


def optima(count: int) -> None:
    """Every planted surface under three losses: is the end within 1e-6 of the best of 400 random starts?"""
    rng = np.random.default_rng(0)
    missed, shares, seconds = [], [], []
    losses = [options for name, options in LOSSES.items() if name != "squares, raw"]
    for k in range(count):
        table, _ = planted(rng, llm=bool(k % 2))
        for options in losses:
            chosen = Options(**options)
            data = read(table, ("params", "examples"), "loss", chosen)
            law = Chinchilla(data.logs, data.centre_x)
            start = time.process_time()
            fit = fitting.minimise(law, data, chosen)
            seconds.append(time.process_time() - start)
            problem = fitting.pose(law, data, fit.loss)
            every = newton.refine(problem.rows(np.zeros(400, dtype=int)), random_starts(rng, 400))[1]
            shares.append(np.mean(every <= every.min() * (1 + 1e-6)))
            if fit.objective > every.min() * (1 + 1e-6) or not fit.converged:
                missed.append((k, options))
    middle, most = 1000 * np.quantile(seconds, [0.5, 0.95])
    print(f"\n{count} planted surfaces x {len(losses)} losses: {len(missed)} missed {missed or ''}")
    print(f"- {middle:.1f} ms a fit (median; 95 % under {most:.1f})")
    print(f"- of 400 random starts with these steps {np.mean(shares):.0%} reach it, {min(shares):.0%} at worst")


def peers(folder: Path | None, count: int = 60) -> None:
    """Least squares on y, the loss that all of them can minimise, on the same planted surfaces."""
    rng = np.random.default_rng(1)
    tables = [planted(rng, llm=bool(k % 2)) for k in range(count)]
    best = [fit_surface(table, loss="squares", residuals="raw", resamples=0).objective for table, _ in tables]
    print(f"\nPeers, {count} planted surfaces, least squares on y; failed: raised, or a loss 1 % above ours\n")
    print("| library | failed | alpha off by, median | of 95 % | s a fit, median |\n|---|---|---|---|---|")
    for name, fit, few in PEERS:
        if name.split()[0] in ("lmfit", "chinchilla") and not importable(name.split()[0]):
            print(f"| {name} | not installed | | | |")
            continue
        failed, off, seconds = 0, [], []
        for (table, truth), least in list(zip(tables, best, strict=True))[:few]:
            start = time.perf_counter()
            try:
                law = fit(table)
            except Exception:  # noqa: BLE001 - whatever a library raises counts as a failure
                law = None
            seconds.append(time.perf_counter() - start)
            bad = law is None or 0.5 * np.sum((table["loss"] - surface(table, *law)) ** 2) > 1.01 * least
            failed += bad
            off.append(abs(law[2] / truth - 1) if law is not None and np.isfinite(law[2]) else np.inf)
        print(
            f"| {name} | {failed} of {len(off)} | {np.median(off):.1%} | {np.quantile(off, 0.95):.1%} | "
            f"{np.median(seconds):.3f} |",
            flush=True,
        )
    if folder and importable("chinchilla"):
        table = chinchilla_points(folder).rename(columns={"tokens": "examples"})
        start = time.perf_counter()
        law = by_chinchilla(table, huber)
        off = np.log(table["loss"]) - np.log(surface(table, *law))
        print(
            f"\nchinchilla on the 240 points, 108 starts, Huber 1e-3: objective {240 * huber_mean(off):.10f}, "
            f"{time.perf_counter() - start:.0f} s"
        )


def by_ours(table):
    fit = fit_surface(table, loss="squares", residuals="raw", resamples=0)
    return [fit[name] for name in ("A", "B", "alpha", "beta", "floor")]


def by_curve_fit(table, start=None):
    from scipy.optimize import curve_fit

    at = (table["params"].to_numpy(), table["examples"].to_numpy())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return curve_fit(law, at, table["loss"].to_numpy(), p0=start, maxfev=20000)[0]


def by_lmfit(table):
    import lmfit

    model = lmfit.Model(lambda n, d, a, b, alpha, beta, floor: law((n, d), a, b, alpha, beta, floor), ["n", "d"])
    guess = model.make_params(a=400, b=400, alpha=0.3, beta=0.3, floor=float(table["loss"].min()) / 2)
    for name in guess:
        guess[name].min = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        out = model.fit(
            table["loss"].to_numpy(), guess, n=table["params"].to_numpy(), d=table["examples"].to_numpy()
        )
    return [out.params[name].value for name in ("a", "b", "alpha", "beta", "floor")]


def by_chinchilla(table, loss=lambda y, predicted: (y - predicted) ** 2):
    from chinchilla import Chinchilla

    grid = {
        "e": np.log([0.1, 1.0, 2.0]),
        "a": np.log([10.0, 400.0, 1e4]),
        "b": np.log([10.0, 400.0, 1e4]),
        "alpha": [0.3, 0.6],
        "beta": [0.3, 0.6],
    }
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = Chinchilla(folder, param_grid=grid, loss_fn=loss, log_level=50)
        for row in table.itertuples():
            found.append(N=row.params, D=row.examples, loss=row.loss)
        found.visualizer.optim = lambda *_, **__: None
        found.fit(parallel=True)
    return [float(getattr(found, name)) for name in ("A", "B", "alpha", "beta", "E")]


PEERS = [
    ("isoflop", by_ours, None),
    ("scipy curve_fit, no start", by_curve_fit, None),
    ("scipy curve_fit, start 400, 400, 0.3, 0.3, 1", lambda t: by_curve_fit(t, [400, 400, 0.3, 0.3, 1]), None),
    ("lmfit, bounds, the same start", by_lmfit, None),
    ("chinchilla 0.2.0, 108 starts", by_chinchilla, 3),
]


def planted(rng: np.random.Generator, *, llm: bool) -> tuple[pd.DataFrame, float]:
    """A surface with alpha, beta from 0.15 to 0.8, 15 to 150 points, log noise 0.002 to 0.03; and its alpha."""
    n = round(np.exp(rng.uniform(np.log(15), np.log(150))))
    alpha, beta = rng.uniform(0.15, 0.8, size=2)
    noise = np.exp(rng.uniform(np.log(0.002), np.log(0.03)))
    ranges = ((7.5, 10.3), (9, 11.7)) if llm else ((4, 7), (3, 6))
    params, examples = (10 ** rng.uniform(*ends, size=n) for ends in ranges)
    floor = rng.uniform(1, 2) if llm else rng.uniform(0, 0.3)
    a, b = (
        10 ** (rng.uniform(-1, 0.5) + power * np.log10(axis).mean())
        for power, axis in ((alpha, params), (beta, examples))
    )
    loss = (floor + a * params**-alpha + b * examples**-beta) * np.exp(noise * rng.normal(size=n))
    return pd.DataFrame({"params": params, "examples": examples, "loss": loss}), alpha


def random_starts(rng: np.random.Generator, count: int) -> np.ndarray:
    exponents = rng.uniform(np.log(0.02), np.log(3), size=(2, count))
    terms = rng.normal(-1, 1.5, size=(2, count))
    return np.column_stack([exponents[0], terms[0], exponents[1], terms[1], rng.uniform(0, 1, count)])


def law(at, a, b, alpha, beta, floor):
    return floor + a * at[0] ** -alpha + b * at[1] ** -beta


def surface(table, *parameters):
    return law((table["params"].to_numpy(), table["examples"].to_numpy()), *parameters)


def huber(y, predicted):
    off = np.abs(np.log(y) - np.log(predicted))
    return np.where(off <= 1e-3, 0.5 * off**2, 1e-3 * (off - 0.5e-3))


def huber_mean(off):
    return np.mean(huber(np.exp(off), 1.0))


def chinchilla_points(folder: Path) -> pd.DataFrame:
    table = pd.read_csv(folder / "epoch_points.csv")
    return table[~table["excluded"]]


def importable(name: str) -> bool:
    from importlib.util import find_spec

    return find_spec(name) is not None


def timed(call, times: int):
    """What the call returns, and the processor seconds it takes: median of several calls after a first one."""
    out, seconds = call(), []
    for _ in range(times):
        start = time.process_time()
        out = call()
        seconds.append(time.process_time() - start)
    return out, float(np.median(seconds))


if __name__ == "__main__":
    main()
