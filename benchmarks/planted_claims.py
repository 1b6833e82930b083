"""Planted tables for `bench_claims.py`: healthy ones, and ones with the faults that real tables have.

Every function takes a random generator and returns a `Planted`. Curves have one input; surfaces have params N and
examples D. The base curve is 0.05 + 0.6 (C / 1e9)^-0.3; the base surface is nearly that of Hoffmann et al. 2022.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Array = NDArray[np.float64]
Law = Callable[..., Array]
P, R, FLOOR, A, B = 0.34, 0.28, 1.7, 406.0, 411.0
BUDGETS = np.geomspace(1e18, 1e21, 6)


@dataclass(frozen=True, eq=False)
class Planted:
    """A table, its columns, the true y of its inputs (one function a population), and the true values by name."""

    table: pd.DataFrame
    x: tuple[str, ...]
    y: str
    laws: tuple[Law, ...]
    truth: dict[str, tuple[float, ...]]
    by: str | None = None
    without: tuple[str, ...] = ()
    """Verbs that the design does not allow, such as isoFLOP minima without budgets."""


def curve(rng, *, n=30, decades=4.0, floor=0.05, noise=0.01, x=None, bent=None, law=None):
    """A curve of `n` points; `bent` changes its noiseless values, in order of x."""

    def base(at):
        return floor + 0.6 * (at / 1e9) ** -0.3

    x = np.geomspace(1e9, 1e9 * 10**decades, n) if x is None else x
    clean = (law or base)(x)
    y = (bent(clean) if bent else clean) * np.exp(noise * rng.normal(size=len(x)))
    truth = {"exponent": (0.3,), "floor": (floor,)}
    return Planted(pd.DataFrame({"flops": x, "error": y}), ("flops",), "error", (law or base,), truth)


def warm_up(rng, share, start=10.8, noise=0.003):
    """Loss of a training curve; the first points, at the rising learning rate, still come down from `start`."""

    def law(at):
        return 2.2 + 3.0 * (at / 1e9) ** -0.22

    def bent(y):
        first = int(share * len(y))
        share_left = np.linspace(1, 0, first, endpoint=False)
        y = y.copy()
        y[:first] += share_left * (start - y[:first])
        return y

    made = curve(rng, n=40, noise=noise, law=law, bent=bent)
    return replace(made, truth={"exponent": (0.22,), "floor": (2.2,)})


def broken(rng):
    """The exponent falls from 0.5 to 0.15 in the middle of the range; what lies beyond has 0.15."""

    def law(at):
        u = at / 1e11
        return 0.1 * u**-0.5 * (1 + u ** (0.35 * 3)) ** (1 / 3)

    return replace(curve(rng, law=law, decades=5), truth={"exponent": (0.15,), "floor": (0.0,)})


def plateau(rng, where, part=5):
    """One in `part` of the points at a plateau: at chance first, or at the end of what the data allow."""

    def first(y):
        return np.minimum(y, y[len(y) // part])

    def last(y):
        return np.maximum(y, y[-len(y) // part])

    made = curve(rng, bent=first if where == "first" else last)
    if where == "first":
        return made
    law, end = made.laws[0], float(made.laws[0](made.table["flops"].to_numpy())[-len(made.table) // part])
    return replace(made, laws=(lambda at: np.maximum(law(at), end),), truth={"exponent": (0.3,), "floor": (end,)})


def kinked(rng):
    """The larger half was trained with another schedule, 8 % lower."""
    return curve(rng, bent=lambda y: y * np.where(np.arange(len(y)) < len(y) // 2, 1.0, 0.92))


def curve_histories(rng):
    """Twenty-five records of each of six runs, which share the luck of their run; W&B's column names."""
    made = curve(rng, x=np.tile(np.geomspace(1e9, 1e13, 25), 6), noise=0.002)
    run = np.repeat(np.arange(6), 25)
    luck = np.exp(0.03 * rng.normal(size=6)[run])
    names = {"Name": [f"run-{k}" for k in run], "_step": np.tile(np.arange(25) * 100, 6)}
    return replace(made, table=made.table.assign(**names, error=made.table["error"] * luck))


def surface_law(q=1.0, floor=FLOOR, ceiling=None, over=0.0):
    """Floor + ((A N^-P)^q + (B D^-R)^q)^(1/q); saturating at `ceiling` above the floor; + `over` N^0.3 D^-0.5."""

    def law(n, d):
        h = ((A * n**-P) ** q + (B * d**-R) ** q) ** (1 / q) + over * n**0.3 * d**-0.5
        return floor + (h if ceiling is None else ceiling * h / (ceiling + h))

    return law


def _truth(floor=FLOOR, p=P, r=R):
    named = {"alpha": p, "beta": r, "params_exponent": r / (p + r), "frontier_exponent": p * r / (p + r)}
    return {name: (value,) for name, value in (named | {"floor": floor}).items()}


def isoflop(rng, law=None, *, noise=0.005, sizes=9, budgets=BUDGETS, step=1.414, **truth):
    """`sizes` sizes about the square root of each budget, one run each."""
    law = law or surface_law()
    places = [(b / 120) ** 0.5 * step ** (np.arange(sizes) - (sizes - 1) / 2) for b in budgets]
    n, c = np.concatenate(places), np.repeat(budgets, sizes)
    return _surface(rng, law, n, c / 6 / n, noise, **truth)


def grid(rng, law=None, *, noise=0.003, repeats=3, **truth):
    """Five sizes, five counts of examples, three seeds."""
    n, d = (
        axis.ravel() for axis in np.meshgrid(np.geomspace(1e7, 3e9, 5), np.geomspace(3e8, 1e11, 5), indexing="ij")
    )
    made = _surface(rng, law or surface_law(), np.repeat(n, repeats), np.repeat(d, repeats), noise, **truth)
    rows = np.arange(len(made.table))
    ids = {"cell_id": [f"c{k // repeats}" for k in rows], "seed": rows % repeats, "run_id": [f"r{k}" for k in rows]}
    return replace(made, table=made.table.assign(**ids))


def scattered(rng, law=None, *, n=60, noise=0.01, **truth):
    """Sizes and examples at random over 2.5 decades each."""
    sizes, examples = (low * 10 ** rng.uniform(0, 2.5, n) for low in (1e7, 3e8))
    made = _surface(rng, law or surface_law(), sizes, examples, noise, **truth)
    return replace(made, without=("approach 2",))


def _surface(rng, law, n, d, noise, **truth):
    y = law(n, d) * np.exp(noise * rng.normal(size=len(n)))
    table = pd.DataFrame({"params": n, "examples": d, "flops": 6 * n * d, "loss": y})
    return Planted(table, ("params", "examples"), "loss", (law,), _truth(**truth))


def rates(rng, **options):
    """An error rate without floor on an isoFLOP design, from 0.4 down to 0.02."""

    def law(n, d):
        return 0.02 * ((n / 3e9) ** -P + (d / 6e10) ** -R)

    return isoflop(rng, law, noise=0.01, floor=0.0, **options)


def influential(rng):
    """Of 245 rows five, the largest of the smallest budgets, were not trained to the end: 6 % higher."""
    made = isoflop(rng, budgets=np.geomspace(1e18, 3e21, 9), sizes=27, step=1.15)
    table = made.table.copy()
    table.loc[table.sort_values(["flops", "params"]).index[22:27], "loss"] *= 1.06
    return replace(made, table=table)


def near_duplicates(rng):
    """Every size was run twice, 0.01 to 3 % apart."""
    law = surface_law()
    base = isoflop(rng, law).table
    n = base["params"].to_numpy() * (1 + 10 ** rng.uniform(-4, -1.52, len(base)))
    twin = _surface(rng, law, n, base["flops"].to_numpy() / 6 / n, 0.005)
    return replace(twin, table=pd.concat([base, twin.table], ignore_index=True))


def diverged(rng):
    """Four runs of large size diverged and kept a loss near chance."""
    made = isoflop(rng)
    bad = rng.choice(made.table.index[made.table["params"] > made.table["params"].median()], 4, replace=False)
    table = made.table.assign(state="done")
    table.loc[bad, ["state", "loss"]] = ["diverged", 10.8]
    return replace(made, table=table)


def zeros(rng):
    """An error rate counted on 10000 test images, down to 3 errors: some of the best runs have none."""

    def law(n, d):
        return 1.5e-4 * ((n / 3e9) ** -1.1 + (d / 6e10) ** -0.9)

    made = isoflop(rng, law, noise=0.0, floor=0.0, p=1.1, r=0.9)
    return replace(made, table=made.table.assign(loss=rng.binomial(10000, made.table["loss"]) / 10000))


def surface_histories(rng):
    """Records of six runs under W&B's names, which share the luck of their run."""
    n = np.repeat(np.geomspace(1e7, 3e9, 6), 25)
    made = _surface(rng, surface_law(), n, np.tile(np.geomspace(3e8, 1e11, 25), 6), 0.002)
    run = np.repeat(np.arange(6), 25)
    names = {"Name": [f"run-{k}" for k in run], "_step": np.tile(np.arange(25) * 100, 6)}
    loss = made.table["loss"] * np.exp(0.01 * rng.normal(size=6)[run])
    return replace(made, table=made.table.assign(**names, loss=loss))


def twice(made, *, ids):
    """The table twice: with ids as runs of two sweeps, without as an export that was joined to itself."""
    table = made.table
    if not ids:
        kept = table.drop(columns=["run_id", "cell_id", "seed"], errors="ignore")
        return replace(made, table=pd.concat([kept, kept], ignore_index=True))
    if "run_id" not in table:
        table = table.assign(run_id=[f"r{k}" for k in table.index], cell_id=[f"c{k}" for k in table.index])
    both = pd.concat([table.assign(sweep="first"), table.assign(sweep="second")], ignore_index=True)
    return replace(made, table=both)


def families(rng, kind):
    """Two families in one table: of one law, of laws that differ in compute or level (5 %), or in exponents."""
    one = isoflop(rng)
    if kind == "same law":
        other = isoflop(rng)
    elif kind == "less compute":
        part = 0.8 ** (P * R / (P + R))  # of what lies above the floor, for the loss of 25 % more compute
        other = isoflop(rng, lambda n, d: FLOOR + part * (A * n**-P + B * d**-R))
    elif kind == "other level":
        base = surface_law()
        other = isoflop(rng, lambda n, d: 1.05 * base(n, d), floor=1.05 * FLOOR)
    else:
        law = lambda n, d: FLOOR + 60 * n**-0.22 + 2000 * d**-0.36  # noqa: E731 - read beside its neighbours
        other = isoflop(rng, law, p=0.22, r=0.36)
    table = pd.concat([one.table.assign(family="s-mlp"), other.table.assign(family="b-mlp")], ignore_index=True)
    truth = {name: one.truth[name] + other.truth[name] for name in one.truth}
    asked_alone = ("approach 1", "approach 2", "approach 3", "allocate", "forms", "verdict", "suggest")
    without = asked_alone if kind == "less compute" else ()
    laws = (*one.laws, *other.laws)
    return replace(one, table=table, truth=truth, laws=laws, by="family", without=without)


def confounded(rng):
    """Twenty examples a parameter, give or take 3 %."""
    n = np.geomspace(1e7, 3e9, 30)
    return _surface(rng, surface_law(), n, 20 * n * np.exp(0.03 * rng.normal(size=30)), 0.005)


def overfitting(rng):
    """Large models overfit few examples; the optimum is no power law, so that its exponents have no true value."""
    made = grid(rng, surface_law(over=30.0))
    nobody = dict.fromkeys(("params_exponent", "frontier_exponent"), (np.nan,))
    return replace(made, truth=made.truth | nobody)


BOUNDED = {"ceiling": 3.0}
HEALTHY: dict[str, Callable[..., Planted]] = {
    "curve with floor": curve,
    "curve without floor": lambda rng: curve(rng, floor=0.0),
    "curve, 0.1 % noise": lambda rng: curve(rng, noise=0.001),
    "isoflop, 0.3 % noise": lambda rng: isoflop(rng, noise=0.003),
    "isoflop, 1 % noise": lambda rng: isoflop(rng, noise=0.01),
    "isoflop, no floor": rates,
    "grid of seeds": grid,
    "scattered": scattered,
    "one law, two families": lambda rng: families(rng, "same law"),
    "a fifth less compute": lambda rng: families(rng, "less compute"),
    "curve, copies": lambda rng: twice(curve(rng), ids=True),
    "isoflop, copies": lambda rng: twice(isoflop(rng), ids=True),
    "grid, duplicates": lambda rng: twice(grid(rng), ids=False),
    "near-duplicate sizes": near_duplicates,
    "diverged rows": diverged,
}
FAULTY: dict[str, Callable[..., Planted]] = {
    "floor in the noise": lambda rng: curve(rng, n=12, decades=2, noise=0.02),
    "curve, 5 % noise": lambda rng: curve(rng, noise=0.05),
    "warm-up 10 %": lambda rng: warm_up(rng, 0.1),
    "warm-up 20 %": lambda rng: warm_up(rng, 0.2),
    "mild warm-up 10 %": lambda rng: warm_up(rng, 0.1, 6.5),
    "mild warm-up 10 %, 3 % noise": lambda rng: warm_up(rng, 0.1, 6.5, 0.03),
    "mild warm-up 20 %, 3 % noise": lambda rng: warm_up(rng, 0.2, 6.5, 0.03),
    "plateau last, 10 %": lambda rng: plateau(rng, "last", 10),
    "plateau first": lambda rng: plateau(rng, "first"),
    "plateau last": lambda rng: plateau(rng, "last"),
    "broken power law": broken,
    "kinked schedule": kinked,
    "curve histories": curve_histories,
    "curve duplicates, 8 points": lambda rng: twice(curve(rng, n=8, noise=0.02), ids=False),
    "isoflop, 3 % noise": lambda rng: isoflop(rng, noise=0.03),
    "three by three": lambda rng: isoflop(rng, budgets=BUDGETS[:3], sizes=3, step=4.0),
    "smooth maximum, isoflop": lambda rng: isoflop(rng, surface_law(1.6), noise=0.002, sizes=13),
    "smooth maximum, grid": lambda rng: grid(rng, surface_law(2.5)),
    "coupled below one, grid": lambda rng: grid(rng, surface_law(0.7)),
    "bounded, isoflop": lambda rng: isoflop(rng, surface_law(**BOUNDED), noise=0.003),
    "bounded, grid": lambda rng: grid(rng, surface_law(**BOUNDED)),
    "overfitting, grid": overfitting,
    "two families": lambda rng: families(rng, "other exponents"),
    "two levels": lambda rng: families(rng, "other level"),
    "five influential rows": influential,
    "zero errors": zeros,
    "surface histories": surface_histories,
    "confounded": confounded,
}
KINDS = HEALTHY | FAULTY
