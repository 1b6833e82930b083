"""The params and examples that a fitted surface calls best at a budget, and what one example costs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from analysis.fits.quantity import Quantity, quantity
from analysis.solver.fitting import FitError
from analysis.table import columns

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd

    from analysis.approaches.surface import SurfaceFit

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Price:
    """FLOPs of a training: C = scale N^power D, fitted to the FLOPs of real runs or taken as 6 N D.

    `off` is the largest deviation of a run's FLOPs from it, as a fraction. For an MLP the power differs from 1:
    first and last layer grow with the width, the body with its square, and the first layer has no input gradient.
    """

    scale: float = 6.0
    power: float = 1.0
    off: float = 0.0

    def examples(self, budget: float | Array, n: float | Array) -> Array:
        """Examples that `budget` pays for at size `n`."""
        return np.asarray(budget / (self.scale * np.asarray(n, dtype=float) ** self.power))


SIX_N_D = Price()


def fit_price(
    frame: pd.DataFrame | Mapping[str, Any], n: str = "params", d: str = "examples", flops: str = "flops"
) -> Price:
    """The price that the runs of a table paid, by least squares of log (C / D) on log N.

    Raises:
        ValueError: a column is missing or unfit, there is only one size, or larger ones cost less.
    """
    table, _ = columns.check(frame, [n, d, flops])
    log_n, log_d, log_c = (np.log(table[name].to_numpy(dtype=float)) for name in (n, d, flops))
    if np.unique(log_n).size < 2:
        raise ValueError(f"found {np.unique(log_n).size} distinct {n!r}; the price of a size needs at least 2")
    power, intercept = np.polyfit(log_n - log_n.mean(), log_c - log_d, 1)
    if not power > 0:
        raise ValueError(f"{flops!r} of an example falls as {n}^{power:.2g}; a larger size must cost more")
    off = np.max(np.abs(np.expm1(log_c - log_d - intercept - power * (log_n - log_n.mean()))))
    return Price(float(np.exp(intercept - power * log_n.mean())), float(power), float(off))


@dataclass(frozen=True, eq=False)
class Optimum:
    """The best n, d and the y they give at one budget, each with its interval."""

    budget: float
    n: Quantity
    d: Quantity
    y: Quantity


def optimum(
    fit: SurfaceFit, budget: float, price: Price = SIX_N_D, *, dataset_size: float | None = None
) -> Optimum:
    """Where `fit` is lowest among the n and d that cost `budget`.

    For floor + A N^-alpha + B D^-beta in closed form (Hoffmann et al. 2022, equation 4, here with C = scale
    N^power D), for any other surface by search. A surface that knows repeated examples needs `dataset_size`,
    the distinct ones there are.

    Raises:
        ValueError: the budget is not positive, or `dataset_size` is missing or not asked for.
        FitError: the surface has no minimum along the budget.
    """
    if not (np.isfinite(budget) and budget > 0):
        raise ValueError(f"budget is {budget!r}; expected positive FLOPs")
    values, drawn = optima(fit, np.log([budget]), price, dataset_size)
    absent = set(fit.law.terms) & set(fit.at_bounds)
    if absent or not np.all(np.isfinite(values)):
        both = f"{fit.x[0]} and {fit.x[-1]}"
        raise FitError(f"{fit.y!r} has no lowest point along {budget:.3g}: it does not fall with both of {both}")
    parts = [
        quantity(float(np.exp(v[0])), np.exp(r[:, 0]), fit.level, wider=fit.wider, log=True)
        for v, r in zip(values, drawn, strict=True)
    ]
    return Optimum(float(budget), *parts)


def optima(fit: SurfaceFit, log_c: Array, price: Price, dataset_size: float | None = None) -> tuple[Array, Array]:
    """Logs of n*, d*, y* at log compute [m]: of the estimate [3, m] and of the replicates [3, B, m].

    NaN where there is none.

    Raises:
        ValueError: `dataset_size` is missing or not asked for.
    """
    if fit.name == "chinchilla" and dataset_size is None:
        own = {name: np.array([fit[name]]) for name in ("A", "alpha", "B", "beta", "floor")}
        return solve_chinchilla(own, log_c, price)[:, 0], solve_chinchilla(fit.replicates, log_c, price)
    return searched(fit, log_c, price, dataset_size)


def inputs(fit: SurfaceFit, n: Array, d: Array, dataset_size: float | None = None) -> tuple[Any, ...]:
    """What `fit.predict` takes for sizes and examples: with repeated examples the distinct ones between them.

    Raises:
        ValueError: `dataset_size` is missing, or the surface does not ask for it.
    """
    if (len(fit.x) == 3) != (dataset_size is not None):
        problem = "needs a dataset_size" if dataset_size is None else "has no input dataset_size"
        raise ValueError(f"the surface {fit.name!r} {problem}")
    return (n, d) if dataset_size is None else (n, dataset_size, d)


def exponents(alpha: Array | float, beta: Array | float, power: float = 1.0) -> dict[str, Array]:
    """Exponents in compute of n* and d* (rising) and of y* - floor (falling) where C = scale N^power D."""
    alpha, beta = np.asarray(alpha), np.asarray(beta)
    both = alpha + power * beta
    return {"n": beta / both, "d": alpha / both, "y": alpha * beta / both}


def solve_chinchilla(p: dict[str, Array], log_c: Array, price: Price) -> Array:
    """Logs of n*, d*, y* [3, B, m] of parameters A, alpha, B, beta, floor [B] at log compute [m], or NaN."""
    alpha, beta = p["alpha"][:, None], p["beta"][:, None]
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        log_a, log_b = np.log(p["A"])[:, None], np.log(p["B"])[:, None]
        paid = log_c - np.log(price.scale)
        ratio = np.log(alpha / (price.power * beta)) + log_a - log_b
        log_n = (ratio + beta * paid) / (alpha + price.power * beta)
        log_d = paid - price.power * log_n
        log_y = np.log(p["floor"][:, None] + np.exp(log_a - alpha * log_n) + np.exp(log_b - beta * log_d))
    logs = np.stack([log_n, log_d, log_y])
    return np.where(np.isfinite(logs).all(axis=0), logs, np.nan)


def searched(fit: SurfaceFit, log_c: Array, price: Price, dataset_size: float | None = None) -> tuple[Array, Array]:
    """Return what `optima` returns, for any surface: by a search over sizes up to 1000 x beyond those fitted."""
    low, high = np.log(fit.ranges[fit.x[0]])
    grid = np.linspace(low - np.log(1e3), high + np.log(1e3), 400)
    rows = []
    for c in log_c:
        at = inputs(fit, np.exp(grid), price.examples(np.exp(c), np.exp(grid)), dataset_size)
        log_n, log_y = _lowest(
            grid, np.log(np.concatenate([fit.predict(*at)["y"].to_numpy()[None], fit.drawn(*at)]))
        )
        rows.append([log_n, c - np.log(price.scale) - price.power * log_n, log_y])
    stacked = np.moveaxis(np.array(rows), 0, -1)
    return stacked[:, 0], stacked[:, 1:]


def _lowest(grid: Array, log_y: Array) -> tuple[Array, Array]:
    """Lowest interior point of each row by the parabola through three grid points; NaN at the ends."""
    k = log_y.argmin(axis=1)
    inside = (k > 0) & (k < grid.size - 1)
    k = np.clip(k, 1, grid.size - 2)
    row, step = np.arange(len(log_y)), grid[1] - grid[0]
    before, at, after = (log_y[row, k + j] for j in (-1, 0, 1))
    bend = before - 2 * at + after
    with np.errstate(divide="ignore", invalid="ignore"):
        shift = 0.5 * (before - after) / bend
    place, height = grid[k] + step * shift, at - 0.25 * (before - after) * shift
    return np.where(inside, place, np.nan), np.where(inside, height, np.nan)
