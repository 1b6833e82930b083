"""The params and examples that a fitted surface calls best at a budget, and what one example costs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from analysis.fits.quantity import Quantity, quantity
from analysis.numbers import short
from analysis.solver.fitting import FitError
from analysis.table import columns

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

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
CLOSED = ("chinchilla", "coupled", "bounded")
"""Surfaces whose optimum has a closed form."""
BENT = ("bounded", "overfitted")
"""Surfaces whose lowest y, less the floor, is no power of compute."""
_BEYOND, _GRID, _REFINED, _CHUNK = np.log(1e3), 400, 2, 32


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
        raise ValueError(f"{flops!r} of an example falls as {n}^{short(power, 2)}; a larger size must cost more")
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

    In closed form where two falling terms, coupled or bounded or not, make up the surface (Hoffmann et al. 2022,
    equation 4, here with C = scale N^power D), for any other surface by search. A surface that knows repeated
    examples needs `dataset_size`, the distinct ones there are.

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
        raise FitError(f"{fit.y!r} has no lowest point along {short(budget)}: it does not fall with both of {both}")
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
    theta = np.concatenate([fit.solution.theta[None], fit.solution.replicates])
    logs = along(fit, theta, log_c, price, dataset_size)
    return logs[:, 0], logs[:, 1:]


def along(fit: SurfaceFit, theta: Array, log_c: Array, price: Price, dataset_size: float | None = None) -> Array:
    """Logs of n*, d*, y* [3, B, m] of the surface with scaled parameters theta [B, P] at log compute [m], or NaN.

    Raises:
        ValueError: `dataset_size` is missing or not asked for.
    """
    if fit.name in CLOSED and dataset_size is None:
        with np.errstate(over="ignore"):
            return closed_form(fit.law.parameters(theta, fit.data.centre_y), log_c, price)
    rows = [searched(fit, theta, float(c), price, dataset_size) for c in log_c]
    return np.stack(rows, axis=-1)


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


def growth(p: dict[str, Array], power: float) -> Array:
    """Exponent of n* in compute [B] where C = scale N^power D, far out, of the parameters [B] of any form."""
    two = exponents(p["alpha"], p["beta"], power)["n"]
    if "gamma" not in p:
        return two
    return np.minimum(two, p["delta"] / (p["alpha"] + p["gamma"] + power * p["delta"]))


def closed_form(p: dict[str, Array], log_c: Array, price: Price) -> Array:
    """Logs of n*, d*, y* [3, B, m] of a form of `CLOSED` with parameters [B] at log compute [m], or NaN.

    At the optimum the terms to the power q are to one another as power beta to alpha; a ceiling moves no optimum.
    """
    alpha, beta = p["alpha"][:, None], p["beta"][:, None]
    q, ceiling = (p.get(name, np.array([other]))[:, None] for name, other in (("q", 1.0), ("ceiling", np.inf)))
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        log_a, log_b = np.log(p["A"])[:, None], np.log(p["B"])[:, None]
        paid = log_c - np.log(price.scale)
        ratio = np.log(alpha / (price.power * beta)) / q + log_a - log_b
        log_n = (ratio + beta * paid) / (alpha + price.power * beta)
        log_d = paid - price.power * log_n
        total = np.exp(np.logaddexp(q * (log_a - alpha * log_n), q * (log_b - beta * log_d)) / q)
        log_y = np.log(p["floor"][:, None] + total) - np.log1p(total / ceiling)
    logs = np.stack([log_n, log_d, log_y])
    return np.where(np.isfinite(logs).all(axis=0), logs, np.nan)


def searched(fit: SurfaceFit, theta: Array, log_c: float, price: Price, dataset_size: float | None = None) -> Array:
    """Logs of n*, d*, y* [3, B] of any surface with scaled parameters theta [B, P] at one log compute, or NaN.

    The lowest point of a grid of sizes up to 1000 x beyond those fitted, refined by parabolas.
    """
    low, high = np.log(fit.ranges[fit.x[0]])
    grid = np.linspace(low - _BEYOND, high + _BEYOND, _GRID)

    def log_y(log_n: Array, rows: Array) -> Array:
        n = np.exp(log_n)
        at = np.log(np.stack(np.broadcast_arrays(*inputs(fit, n, price.examples(np.exp(log_c), n), dataset_size))))
        return np.asarray(fit.law.at(at - fit.data.centre_x[:, None]).value(rows) + fit.data.centre_y)

    parts = [_lowest(grid, log_y, theta[at : at + _CHUNK]) for at in range(0, len(theta), _CHUNK)]
    log_n, lowest = np.concatenate(parts, axis=1)
    return np.stack([log_n, log_c - np.log(price.scale) - price.power * log_n, lowest])


def _lowest(grid: Array, log_y: Callable[[Array, Array], Array], theta: Array) -> Array:
    """Place and height [2, B] of the lowest interior point of each row of theta [B, P]; NaN at the ends."""
    heights, count = log_y(grid, theta), len(theta)
    k = heights.argmin(axis=1)
    inside, k, row = (k > 0) & (k < grid.size - 1), np.clip(k, 1, grid.size - 2), np.arange(count)
    step = grid[1] - grid[0]
    place, height = _vertex(grid[k], step, *(heights[row, k + j] for j in (-1, 0, 1)))
    for _ in range(_REFINED):
        step /= 10.0
        near = place[:, None] + step * np.array([-1.0, 0.0, 1.0])
        own = log_y(near.ravel(), theta).reshape(count, count, 3)[row, row]
        place, height = _vertex(place, step, *own.T)
    return np.where(inside, np.stack([place, height]), np.nan)


def _vertex(place: Array, step: float, before: Array, at: Array, after: Array) -> tuple[Array, Array]:
    """Place and height of the lowest point of the parabola through three equidistant points."""
    bend = before - 2 * at + after
    shift = np.clip(0.5 * (before - after) / np.where(bend > 0, bend, np.inf), -5.0, 5.0)
    return place + step * shift, at - 0.25 * (before - after) * shift
