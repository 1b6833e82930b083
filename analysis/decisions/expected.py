"""What the fits of a design will say: expected intervals of its exponents under an assumed law. numpy alone.

A surface's interval follows from the Fisher information of the runs (`information.py`), and that of one law through
many. No information describes that a frontier and isoFLOP minima select points before they fit, and that resamples
of a few single runs lack points that decide: these fits are rehearsed on planted tables.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from analysis.approaches import minima
from analysis.approaches.selection import beyond, draw_points, select
from analysis.decisions.information import condition, covariance
from analysis.fits import thresholds
from analysis.laws import newton
from analysis.laws.base import EXPONENT_BOUNDS
from analysis.laws.newton import Loss, Problem
from analysis.laws.power import POWER_LAWS
from analysis.numbers import short
from analysis.solver import quantiles

if TYPE_CHECKING:
    from collections.abc import Iterator

    from analysis.decisions.assumption import Assumption

Array = NDArray[np.float64]
TABLES, RESAMPLES = 8, 60
"""Planted tables that the law of a frontier is rehearsed on, and resamples of each."""
FEW_TABLES, FEW_RESAMPLES = 18, 100
"""The same of isoFLOP curves and of a few single runs, whose widths vary more from table to table."""
FEW_RUNS = 12
"""Single runs below which the fit of one law is rehearsed."""
NAMES = {"n": "params", "d": "examples", "flops": "FLOPs"}


@dataclass(frozen=True, eq=False)
class Cells:
    """The cells of a design, arrays [G]: params `n`, examples `d`, `flops`, `runs` of each, and its `budget`.

    The budget is NaN where none is shared.
    """

    n: Array
    d: Array
    flops: Array
    runs: NDArray[np.intp]
    budget: Array

    def column(self, x: str) -> Array:
        """One of `n`, `d`, `flops`; `flops` of isoFLOP curves is the budget."""
        return self.budget if x == "flops" and self.shares_budgets else np.asarray(getattr(self, x))

    def distinct(self, x: str) -> int:
        """Number of distinct `n` or `d`."""
        return int(np.unique(getattr(self, x)).size)

    def levels(self, x: str) -> int:
        """Number of values that were declared: distinct `n`, or distinct budgets or `d`."""
        return int(np.unique(self.budget).size) if x == "d" and self.shares_budgets else self.distinct(x)

    @property
    def shares_budgets(self) -> bool:
        """Whether two sizes or more on average share a budget, as in isoFLOP curves."""
        pairs = np.unique(np.stack([self.budget, self.n]), axis=1).shape[1]
        return bool(np.isfinite(self.budget).all() and 2 * np.unique(self.budget).size <= pairs)

    @property
    def cost(self) -> float:
        """FLOPs of all runs."""
        return float(self.flops @ self.runs)

    def price(self) -> tuple[float, float]:
        """Scale and power of the FLOPs of an example, scale n^power; of one size the power is 1."""
        log_n, log_price = np.log(self.n), np.log(self.flops / self.d)
        power = float(np.polyfit(log_n - log_n.mean(), log_price, 1)[0]) if self.distinct("n") > 1 else 1.0
        return float(np.exp(np.mean(log_price - power * log_n))), power


@dataclass(frozen=True)
class Expected:
    """The interval to expect of one quantity: `value` +- `half`, or why a fit would refuse it.

    The truth is `value`; `half` is NaN where nothing can be computed.
    """

    quantity: str
    value: float
    half: float
    refused: str = ""

    @property
    def answers(self) -> bool:
        """Whether it would be claimed, and its interval excludes values smaller by `thresholds.FAR`."""
        return not self.refused and self.half <= self.value * (1 - 1 / thresholds.FAR)

    def __str__(self) -> str:
        if self.refused:
            return self.refused
        digits = min(max(1 - math.floor(math.log10(max(self.half, 1e-6))), 0), 6) if self.half < 10 else 0
        return f"{self.value:.{digits}f} ± {self.half:.{digits}f}"


def surface(cells: Cells, assumed: Assumption, level: float = 0.95) -> tuple[Expected, ...]:
    """Alpha, beta and the params exponent of a surface through all runs."""
    names = ("alpha", "beta", "params exponent")
    alpha, beta = assumed.alpha, assumed.beta
    values = (alpha, beta, beta / (alpha + beta))
    law, theta, _ = assumed.place(cells.n, cells.d)
    slopes = law.gradient(theta[None])[1][0].T
    if why_not := _no_surface(cells, slopes):
        return tuple(Expected(name, value, np.nan, why_not) for name, value in zip(names, values, strict=True))
    spread = covariance(slopes, cells.runs, assumed.sigma)
    reach = _reach(cells, 2, theta.size, level)
    mixed = alpha * beta / (alpha + beta) ** 2 * np.array([-1.0, 0, 1, 0, 0])
    logs = reach * np.sqrt(np.diag(spread))
    exponents = [
        Expected(name, value, value * half, _not_identified(value, half))
        for name, value, half in zip(names[:2], values[:2], logs[[0, 2]], strict=True)
    ]
    refused = "; ".join(f"{e.quantity} {e.refused}" for e in exponents if e.refused)
    return (*exponents, Expected(names[2], values[2], float(reach * np.sqrt(mixed @ spread @ mixed)), refused))


def _no_surface(cells: Cells, slopes: Array) -> str:
    """Why cells with these gradients [G, 5] determine no surface."""
    for name, axis in (("params", cells.n), ("examples", cells.d)):
        if (count := np.unique(axis).size) < thresholds.LEAST_VALUES:
            return f"{count} distinct {name}; a surface needs {thresholds.LEAST_VALUES}"
    points = np.unique(np.stack([cells.n, cells.d]), axis=1).shape[1]
    if points <= slopes.shape[1]:
        return f"{points} distinct points for {slopes.shape[1]} parameters"
    return "" if condition(slopes) < thresholds.ILL else "only combinations of alpha and beta are determined"


def _reach(cells: Cells, inputs: int, parameters: int, level: float) -> float:
    """Half-width of an interval in standard deviations, of a law of one or two inputs through all runs."""
    points = np.unique(np.stack([cells.n, cells.d]), axis=1).shape[1]
    wider = quantiles.of_pairs(int(cells.runs.sum()), points, inputs, parameters, level)
    return quantiles.gauss(level) * wider


def _not_identified(value: float, half: float) -> str:
    """Why an exponent is not identified whose logarithm has an interval of this half-width."""
    if 2 * half <= np.log(thresholds.MAX_FACTOR):
        return ""
    low, high = (np.clip(value * np.exp(sign * min(half, 9.0)), *EXPONENT_BOUNDS) for sign in (-1, 1))
    return f"not identified ({short(low, 2)} to {short(high, 2)})"


def line(
    cells: Cells, assumed: Assumption, x: str, *, floor: bool = True, level: float = 0.95, rehearse: bool = True
) -> Expected:
    """The exponent of y against `n` or `d`, the other being the same in all runs: one law through all of them.

    Without `rehearse` that of a few single runs too follows from information alone: quicker, and too narrow.
    """
    name, at = NAMES[x], cells.column(x)
    exponent, coefficient = (assumed.alpha, assumed.A) if x == "n" else (assumed.beta, assumed.B)
    if why_not := _short(at, name, 2 + floor):
        return Expected(name, exponent, np.nan, why_not)
    logs, y = np.log(at), assumed.y(cells.n, cells.d)
    if rehearse and at.size < FEW_RUNS and cells.runs.max() == 1:
        half = _rehearsed(at, y, assumed.sigma, floor=floor, level=level)
        return Expected(name, exponent, exponent * float(np.sinh(half)), _not_identified(exponent, half))
    term, scale = coefficient * np.exp(-exponent * logs.mean()), np.median(y)
    rest = float(np.mean(y - coefficient * at**-exponent)) if floor else 0.0
    law = POWER_LAWS[floor, False]((logs - logs.mean())[None], np.array([logs.mean()]))
    theta = np.array([[np.log(exponent), np.log(term / scale), rest / scale, 0.0]])
    spread = covariance(law.gradient(theta)[1][0][law.free].T, cells.runs, assumed.sigma)
    half = float(_reach(cells, 1, 2 + floor, level) * np.sqrt(spread[0, 0]))
    return Expected(name, exponent, exponent * half, _not_identified(exponent, half))


def _rehearsed(at: Array, y: Array, sigma: float, *, floor: bool, level: float) -> float:
    """Half-width of the log exponent of a law through single runs y at places `at` [X], of noise `sigma`."""
    rng, count, parameters = np.random.default_rng(0), at.size, 2 + floor
    tables = np.repeat(y * np.exp(sigma * rng.normal(size=(FEW_TABLES, count))), FEW_RESAMPLES, axis=0)
    weights = draw_points(np.ones(tables.shape, dtype=bool), rng, parameters)
    logs = _log_exponents(at, tables, weights, floor=floor).reshape(FEW_TABLES, FEW_RESAMPLES)
    ends = np.quantile(logs, [0.5 - level / 2, 0.5 + level / 2], axis=1)
    return float(np.median(ends[1] - ends[0]) / 2 * quantiles.widening(count, parameters, level))


def frontier(cells: Cells, assumed: Assumption, x: str, level: float = 0.95) -> Expected:
    """The exponent of y against one of `n`, `d`, `flops`, everything else free: the law of the frontier."""
    name, at, y = NAMES[x], cells.column(x), assumed.y(cells.n, cells.d)
    running = not (x == "flops" and cells.shares_budgets)
    places, lowest, chosen = select(at, y[None], running=running)
    why_not = _short(places[chosen[0]], f"{name} on the frontier", 3)
    if chosen.sum() < thresholds.LEAST_VALUES:
        return Expected(name, np.nan, np.nan, why_not)
    rng, noise = np.random.default_rng(0), assumed.sigma / np.sqrt(cells.runs)
    tables = y * np.exp(noise * rng.normal(size=(TABLES, y.size)))
    spare = _spare(cells) if x == "flops" else 0
    known = spare >= thresholds.FEW_REPEATS
    noise = np.where((cells.runs > 1) | known, noise, 0.0)
    logs, off = _fits(places, lowest, chosen.astype(float))
    value, misfit = float(np.exp(logs[0])), _misfit(off[chosen], float(np.median(noise)), 3) if known else 1.0
    counts = select(at, tables, running=running)[2].sum(axis=1)
    halves = []
    for table, count in zip(tables, counts, strict=True):
        _, values, on = select(at, table * np.exp(noise * rng.normal(size=(RESAMPLES, y.size))), running=running)
        logs = _log_exponents(places, values, draw_points(on, rng, beyond(3, int(count)), every=known))
        ends = np.quantile(logs, [0.5 - level / 2, 0.5 + level / 2])
        wider = misfit * quantiles.student(spare, level) if known else quantiles.widening(int(count), 3, level)
        halves.append((ends[1] - ends[0]) / 2 * wider)
    half = float(np.median(halves))
    return Expected(name, value, value * float(np.sinh(half)), why_not or _not_identified(value, half))


def _spare(cells: Cells) -> int:
    """Degrees of freedom of the noise that the repeats tell, or the scatter about the isoFLOP curves."""
    repeats = int(np.sum(cells.runs - 1))
    if repeats >= thresholds.FEW_REPEATS or not cells.shares_budgets:
        return repeats
    return int(np.sum(np.maximum(np.unique(cells.budget, return_counts=True)[1] - minima.NEIGHBOURS, 0)))


def _log_exponents(at: Array, y: Array, weights: Array, *, floor: bool = True) -> Array:
    """Log exponents [B] of laws through y [B, X] at places `at` [X], points counting `weights`."""
    return _fits(at, y, weights, floor=floor)[0]


def _fits(at: Array, y: Array, weights: Array, *, floor: bool = True) -> tuple[Array, Array]:
    """Log exponents [B] as `_log_exponents`, and the residuals of log y about these laws [B, X]."""
    logs, centre = np.log(at), np.median(np.log(y))
    law = POWER_LAWS[floor, False]((logs - logs.mean())[None], np.array([logs.mean()]))
    problem = Problem(law, np.log(y) - centre, weights, np.ones(at.size), Loss())
    theta = newton.refine(problem, law.starts(problem, 1)[:, 0], rough=True)[0]
    return np.asarray(theta[:, 0]), np.asarray(problem.log_y - law.value(theta))


def _misfit(off: Array, sd: float, parameters: int) -> float:
    """The scatter of points about a law that they leave by `off` [k] without noise, over their noise `sd`."""
    return float(np.sqrt(1 + np.sum(off**2) / max(off.size - parameters, 1) / sd**2))


def _short(at: Array, name: str, parameters: int) -> str:
    """Why the places of a law with that many parameters are too few, or too close."""
    count, need = np.unique(at).size, parameters + thresholds.SPARE_X
    if count < need:
        return f"{count} distinct {name}; a claim needs {need}"
    if (span := at.max() / at.min()) < thresholds.MIN_SPAN:
        return f"{name} spans a factor of {short(span, 2)}; a claim needs {thresholds.MIN_SPAN:g}"
    return ""


def optimum(cells: Cells, assumed: Assumption, level: float = 0.95) -> Expected:
    """The exponent of the best params in FLOPs, from the minima of isoFLOP curves (Akima's, as `fit_isoflop`)."""
    name, rng = "best params", np.random.default_rng(0)
    curves = list(isoflop_curves(cells, assumed))
    value = assumed.beta / (assumed.alpha + cells.price()[1] * assumed.beta)
    log_c = np.log(np.unique(cells.budget))
    logs = np.full((FEW_TABLES, 1 + FEW_RESAMPLES, len(curves)), np.nan)
    tables = [log_y + noise * rng.normal(size=(FEW_TABLES, log_y.size)) for _, log_y, noise in curves]
    estimated = _estimated_noise(cells, assumed, [u for u, *_ in curves], tables)
    if why_not := _no_minima(max(u.size for u, *_ in curves), estimated):
        return Expected(name, value, np.nan, why_not)
    for g, (u, _, noise) in enumerate(curves):
        if u.size >= thresholds.LEAST_SIZES:
            sd = (estimated / assumed.sigma)[:, None, None] * noise
            drawn = tables[g][:, None] + sd * rng.normal(size=(FEW_TABLES, FEW_RESAMPLES, u.size))
            logs[:, :, g] = _minima(u, np.concatenate([tables[g][:, None], drawn], axis=1))
    reach = log_c - log_c.mean()
    halves = [_half_width(reach, table, level) for table in logs]
    refused = ""
    if np.mean(np.isfinite(halves)) <= 0.5:
        found = int(np.median(np.isfinite(logs[:, 0]).sum(axis=1)))
        refused = f"{found} of {len(curves)} budgets would have a minimum; a law needs {thresholds.LEAST_BUDGETS}"
    half = float(np.nanmedian(halves)) if np.isfinite(halves).any() else np.nan
    return Expected(name, value, half, refused)


def _no_minima(most: int, noise: Array) -> str:
    """Why curves of at most that many sizes, whose noise fits would find to be this, have no minima to report."""
    if most < thresholds.LEAST_SIZES:
        return f"at most {most} sizes a budget; a minimum needs {thresholds.LEAST_SIZES}"
    return (
        "" if np.isfinite(noise).all() else f"no repeats and at most {most} sizes a budget: the noise is not known"
    )


def _estimated_noise(cells: Cells, assumed: Assumption, places: list[Array], tables: list[Array]) -> Array:
    """The noise of a run that a fit of each table finds, [T]: from repeats, or from the scatter about its curves.

    `tables` are log y [T, P] at the log sizes `places` [P] of each budget. NaN where nothing tells the noise.
    """
    if np.sum(cells.runs - 1) >= thresholds.FEW_REPEATS:
        return np.full(len(tables[0]), assumed.sigma)
    left = [
        np.concatenate([minima.neighbours(u, log_y[k]) for u, log_y in zip(places, tables, strict=True)])
        for k in range(len(tables[0]))
    ]
    return np.array([np.sqrt(np.mean(one**2)) if one.size else np.nan for one in left])


def isoflop_curves(cells: Cells, assumed: Assumption) -> Iterator[tuple[Array, Array, Array]]:
    """Of each budget, rising, log sizes [P] rising, log y there, and the noise of the mean of its runs."""
    for budget in np.unique(cells.budget):
        own = np.flatnonzero(cells.budget == budget)
        own = own[np.argsort(cells.n[own])]
        yield (
            np.log(cells.n[own]),
            np.log(assumed.y(cells.n[own], cells.d[own])),
            assumed.sigma / np.sqrt(cells.runs[own]),
        )


def _minima(u: Array, log_y: Array) -> Array:
    """Log sizes of the minima of curves [T, 1 + B, P], of each table's own curve first; NaN where refused."""
    at = minima.akima(u, log_y.reshape(-1, u.size))[0].reshape(log_y.shape[:2])
    outer = np.isin(log_y[:, 0].argmin(axis=1), [0, u.size - 1])
    sure = np.isfinite(at[:, 1:]).mean(axis=1) >= thresholds.SURE
    return np.where((~outer & sure & np.isfinite(at[:, 0]))[:, None], at, np.nan)


def _half_width(reach: Array, logs: Array, level: float) -> float:
    """Half-width of the slope of one table's minima [1 + B, budgets]; NaN where too few have one."""
    used = np.isfinite(logs[0])
    if used.sum() < thresholds.LEAST_BUDGETS:
        return float("nan")
    (start, *_), slopes = minima.growth(reach[used], logs[:, used])
    spread, spare = np.nanstd(logs[1:, used], axis=0), int(used.sum()) - 2
    birge = np.sqrt(np.sum(((logs[0, used] - start - slopes[0] * reach[used]) / spread) ** 2) / spare)
    ends = np.nanquantile(slopes[1:], [0.5 - level / 2, 0.5 + level / 2])
    return float((ends[1] - ends[0]) / 2 * max(1.0, birge))
