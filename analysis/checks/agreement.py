"""The three approaches of Hoffmann et al. 2022 side by side on one table, and the algebra that ties them.

Where y = floor + A N^-alpha + B D^-beta and C = k N D, the optimum at C is N* ~ C^n with n = beta / (alpha + beta),
D* ~ C^d with d = alpha / (alpha + beta), and y* - floor falls as C^-(alpha beta / (alpha + beta)).
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.approaches.curves import by_budget
from analysis.approaches.frontier import fit_frontier, frontier
from analysis.approaches.isoflop import fit_isoflop, prepare
from analysis.approaches.optimum import exponents, fit_price
from analysis.approaches.surface import fit_surface
from analysis.fits.power_law import fit_power_law
from analysis.fits.quantity import Draws, Quantity, quantity
from analysis.solver import bootstrap
from analysis.solver.fitting import FitError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from analysis.approaches.isoflop_fit import Method

Array = NDArray[np.float64]

QUANTITIES = {
    "n": "exponent of the best params in compute",
    "d": "exponent of the best examples in compute",
    "y": "exponent of the lowest reducible error in compute",
}


@dataclass(frozen=True, eq=False)
class Agreement:
    """What each approach says of the exponents n, d, y of QUANTITIES.

    Attributes:
        table: one row an approach and quantity: `approach`, `quantity`, `value`, `low`, `high`, and `why_not` where
            the approach has no answer (value NaN).
        conflicts: pairs of approaches whose intervals do not meet, one sentence each.
        level: of the intervals.
        warnings: what a reader must know; the conflicts are among them.
    """

    table: pd.DataFrame
    conflicts: tuple[str, ...]
    level: float
    warnings: tuple[str, ...]

    @property
    def agrees(self) -> bool:
        """Whether no two approaches contradict each other."""
        return not self.conflicts

    def summary(self) -> str:
        """A line for every quantity, with every approach on it."""
        lines = ["the approaches agree" if self.agrees else "the approaches do not agree"]
        for name, text in QUANTITIES.items():
            mine = self.table[(self.table["quantity"] == name) & self.table["value"].notna()]
            said = [f"{row.approach} {_quoted(row)}" for row in mine.itertuples()]
            lines.append(f"  {text}: {'; '.join(said) or 'no answer'}")
        silent = self.table[self.table["value"].isna()].drop_duplicates(["approach", "why_not"])
        lines += [f"  {row.approach} has no answer: {row.why_not}" for row in silent.itertuples()]
        return "\n".join([*lines, *(f"  caution: {text}" for text in self.warnings)])

    def to_dict(self) -> dict[str, Any]:
        """As JSON can hold it."""
        table = self.table.astype(object).where(self.table.notna(), None)
        out = {"agrees": self.agrees, "level": self.level, "table": table.to_dict("records")}
        return out | {"conflicts": list(self.conflicts), "warnings": list(self.warnings)}

    def __str__(self) -> str:
        return self.summary()


def agree(
    frame: pd.DataFrame | Mapping[str, Any],
    n: str = "params",
    d: str = "examples",
    y: str = "error",
    *,
    budget: str | None = None,
    resamples: int = 400,
    level: float = 0.95,
    seed: int = 0,
) -> Agreement:
    """Run approach 1 (frontier), 2 (isoFLOP minima, interpolated and by parabolas) and 3 (surface) on one table.

    Intervals that do not meet are a conflict: the surface is not the law of this table, or the design moves an
    approach (see `design_bias`). Agreement is no proof: the approaches share their data.

    Args:
        frame: one row a run.
        n: name of the column of sizes.
        d: name of the column of examples; without one, C / (6 n).
        y: name of the column that was measured.
        budget: the column of compute; default `budget` where there is one, else `flops`.
        resamples: bootstrap resamples of every approach.
        level: nominal coverage of the intervals.
        seed: of the resampling.

    Raises:
        ValueError: a column is missing or unfit.
    """
    table, budget, notes = prepare(frame, n, y, d, budget)
    rows = approaches(table, (n, d, y, budget), resamples=resamples, level=level, seed=seed)
    conflicts = tuple(_conflicts(rows))
    price = fit_price(table, n, d, budget)
    if abs(price.power - 1) > 0.02:
        told = (
            f"{budget} grows as {n}^{price.power:.2f} an example, not as {n}: the surface's exponents allow for it"
        )
        notes = (*notes, told)
    return Agreement(pd.DataFrame(rows), conflicts, level, (*conflicts, *notes))


def approaches(
    table: pd.DataFrame, names: tuple[str, str, str, str], *, resamples: int, level: float, seed: int
) -> list[dict[str, Any]]:
    """Rows of `Agreement.table` for a table checked by `prepare`; `names` are the columns n, d, y, budget."""
    options = Draws(resamples=resamples, level=level, seed=seed)
    runs: dict[str, Callable[[], dict[str, Quantity]]] = {
        "frontier": lambda: _frontier(table, names, **options),
        "isoflop akima": lambda: _isoflop(table, names, "akima", **options),
        "isoflop parabola": lambda: _isoflop(table, names, "parabola", **options),
        "surface": lambda: _surface(table, names, **options),
    }
    rows = []
    for approach, run in runs.items():
        try:
            found, why_not = run(), ""
        except (FitError, ValueError) as error:
            found, why_not = {}, str(error)
        for name in QUANTITIES:
            at = found.get(name, Quantity(np.nan, np.nan, np.nan, np.empty(0)))
            row = {"approach": approach, "quantity": name, "value": at.value, "low": at.low, "high": at.high}
            rows.append(row | {"why_not": why_not or ("" if np.isfinite(at.value) else "not determined")})
    return rows


def _frontier(
    table: pd.DataFrame, names: tuple[str, str, str, str], **options: Unpack[Draws]
) -> dict[str, Quantity]:
    """Approach 1: slopes of log n and log d along the frontier.

    Its points are drawn with replacement, each anywhere within half a step of the grid of sizes: a frontier cell
    is the best of those that were run.
    """
    n, d, y, budget = names
    points = frontier(table, x=budget, y=y)
    fit = fit_frontier(table, x=budget, y=y, **options)
    log_c, count = np.log(points[budget].to_numpy(dtype=float)), len(points)
    rng = np.random.default_rng(options["seed"])
    weights = bootstrap.resample(np.arange(count), log_c, options["resamples"], rng, 2)
    every, wider = np.concatenate([np.ones((1, count)), weights]), bootstrap.widening(count, 2, options["level"])
    off = _grid_step(table, n, budget) * rng.uniform(-0.5, 0.5, every.shape)
    off[0] = 0.0
    out = {}
    for name, column, sign in (("n", n, 1.0), ("d", d, -1.0)):
        slopes = _slopes(log_c, np.log(points[column].to_numpy(dtype=float)) + sign * off, every)
        out[name] = quantity(float(slopes[0]), slopes[1:], options["level"], wider=wider)
    return out | {"y": _exponent(fit.exponent, fit.intervals["exponent"], fit.replicates.exponent)}


def _isoflop(
    table: pd.DataFrame,
    names: tuple[str, str, str, str],
    method: Method,
    **options: Unpack[Draws],
) -> dict[str, Quantity]:
    n, d, y, budget = names
    fit = fit_isoflop(table, n, y, d=d, budget=budget, method=method, **options)
    if not fit.supported:
        raise FitError("; ".join(fit.reasons))
    found = {"n": fit.n_exponent, "d": fit.d_exponent}
    used = fit.optima[fit.optima["refused"] == ""]
    if len(used) > 3:
        lowest = fit_power_law(used, x="budget", y="y", **options)
        found["y"] = _exponent(lowest.exponent, lowest.intervals["exponent"], lowest.replicates.exponent)
    return found


def _surface(
    table: pd.DataFrame, names: tuple[str, str, str, str], **options: Unpack[Draws]
) -> dict[str, Quantity]:
    n, d, y, budget = names
    fit = fit_surface(table, n, d, y, **options)
    power = fit_price(table, n, d, budget).power
    if fit.reasons:
        raise FitError("; ".join(fit.reasons))
    values = exponents(fit["alpha"], fit["beta"], power)
    drawn = exponents(fit.replicates["alpha"], fit.replicates["beta"], power)
    return {k: quantity(float(values[k]), drawn[k], fit.level, wider=fit.wider, log=True) for k in QUANTITIES}


def _exponent(value: float, ends: tuple[float, float], replicates: Array) -> Quantity:
    return Quantity(value, *ends, replicates)


def _grid_step(table: pd.DataFrame, n: str, budget: str) -> float:
    """The typical step of log n between neighbouring sizes of one budget; 0 where no budgets are told apart."""
    try:
        group = by_budget(table, budget)
    except ValueError:
        return 0.0
    steps = [np.diff(np.unique(np.log(sizes))) for _, sizes in table[n].groupby(group)]
    every = np.concatenate(steps)
    return float(np.median(every)) if every.size else 0.0


def _slopes(x: Array, y: Array, weights: Array) -> Array:
    """Weighted least-squares slopes of y [n] on x [n] for every row of weights [B, n]; y [n] or [B, n]."""
    total = weights.sum(axis=1)
    reach = x - ((weights @ x) / total)[:, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        slopes: Array = (weights * reach * y).sum(axis=1) / (weights * reach**2).sum(axis=1)
    return slopes


def _conflicts(rows: list[dict[str, Any]]) -> list[str]:
    said = [row for row in rows if np.isfinite(row["high"] - row["low"])]
    pairs = itertools.combinations(said, 2)
    apart = [
        (a, b)
        for a, b in pairs
        if a["quantity"] == b["quantity"] and (a["high"] < b["low"] or b["high"] < a["low"])
    ]
    return [
        f"{QUANTITIES[a['quantity']]}: {a['approach']} {_ends(a)} contradicts {b['approach']} {_ends(b)}"
        for a, b in apart
    ]


def _ends(row: Mapping[str, Any]) -> str:
    return str(Quantity(row["value"], row["low"], row["high"], np.empty(0)))


def _quoted(row: Any) -> str:
    return str(Quantity(row.value, row.low, row.high, np.empty(0)))
