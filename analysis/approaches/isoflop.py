"""Approach 2 of Hoffmann et al. (2022, 3.2): the minimum of each isoFLOP curve as a function of compute."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Unpack, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.approaches import minima, optimum
from analysis.approaches.curves import ONE_SIZE, Curve, Curves, by_budget, draw_curves, merged
from analysis.approaches.isoflop_fit import Growth, IsoflopCurve, IsoflopFit, Method
from analysis.approaches.optimum import fit_price
from analysis.approaches.surface import fit_surface
from analysis.fits.quantity import quantity
from analysis.fits.thresholds import LEAST_BUDGETS, LEAST_SIZES, SURE
from analysis.numbers import short
from analysis.solver import quantiles
from analysis.table import columns, groups, seeds
from analysis.table.options import Options
from analysis.table.rows import measured, refusals

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from analysis.table.options import OptionNames

Array = NDArray[np.float64]
_OF_MEANS = dict.fromkeys(
    ("weights", "sd", "bootstrap", "by"), "a curve is made of the best cells, drawn with the noise of their repeats"
)
_OF_A_LAW = dict.fromkeys(
    ("loss", "delta", "residuals", "quantile", "fix", "tie", "bounds"),
    "the minimum of each curve is found without a law; method 'joint' fits one",
)
"""Options of other fits that have no meaning here, and why."""


def fit_isoflop(
    frame: pd.DataFrame | Mapping[str, Any],
    n: str = "params",
    y: str = "error",
    *,
    d: str = "examples",
    budget: str | None = None,
    method: Method = "akima",
    **options: Unpack[OptionNames],
) -> IsoflopFit:
    """The optimum of each budget and its growth with compute, n* ~ C^a and d* ~ C^b, with intervals.

    "parabola" is the published method (Hoffmann et al. 2022, 3.2): least squares of y on log n. Its vertex is
    biased if the curve is asymmetric, see `design_bias`. "akima" interpolates log y between the sizes: closer to
    published minima, with wider intervals under noise. "joint" fits floor + A n^-alpha + B d^-beta to the points of
    all curves and takes its minimum on each: no bias and the narrowest intervals if the surface holds.

    A budget is refused if it has fewer than 4 sizes, or if its minimum is not between the outer sizes, in the data
    or in more than a fifth of the resamples. d* is the curve's d at n*. Each resample gives every cell noise of the
    size that its repeats show, selects the best cell of each size and finds the minimum; for "joint" the selected
    points are drawn with replacement. Sizes within 4 % of each other are averaged. No exponent is claimed
    where that noise is not known, nor by "parabola" or "joint" where the points leave it by more than the noise.

    Args:
        frame: one row a run; rows that share a `cell_id` are repeats, without it those that differ in seed and
            measured columns only. Cells of one size and budget (a learning-rate grid) compete.
        n: column of sizes.
        y: column that was measured.
        d: column of examples; if absent, C / (6 n).
        budget: column of compute, values within 10 % being one budget; default `budget` if present, else `flops`.
        method: "akima", "parabola" or "joint".
        **options: `run`, `cell`, `resamples`, `level`, `seed`, `pool` of `Options`; for "joint" also the loss and
            the constraints of the surface. `weights`, `sd`, `bootstrap` and `by` have no use here.

    Raises:
        ValueError: a column or option is missing or not valid, or the budgets are not separate.
    """
    if method not in get_args(Method):
        raise ValueError(f"method is {method!r}; expected 'akima', 'joint' or 'parabola'")
    chosen = Options.of(options, unused=_OF_MEANS if method == "joint" else _OF_MEANS | _OF_A_LAW)
    resamples, level = chosen.resamples, chosen.level
    table, budget, notes = prepare(frame, n, y, d, budget, run=chosen.run, cell=chosen.cell)
    group = by_budget(table, budget)
    drawn = draw_curves(table, group, n, y, resamples=resamples, seed=chosen.seed)
    curves = tuple(_isoflop(curve, drawn, table, d, budget) for curve in drawn.curves)
    find = _finder(method, curves, drawn, chosen)
    optima, log_n = _locate(curves, find, level)
    lines, scatter = _draw_lines(curves, optima, log_n, find.wider)
    notes = (*notes, *drawn.notes, *_merged_sizes(drawn, curves), *_cautions(optima, method, scatter))
    pooled = _populations(table, group, n, y)
    reasons = _reasons(optima, find.misfit, method, unknown=resamples > 0 and not drawn.noise > 0)
    reasons, warnings = _with_rows(reasons, notes, pooled, pool=chosen.pool)
    exponents = {name: quantity(line.slope, line.slopes, level, wider=line.wider) for name, line in lines.items()}
    return IsoflopFit(
        *(n, d, y, budget, method, exponents["n"], exponents["d"], optima, level, resamples, drawn.noise, scatter),
        curves=curves,
        lines=lines,
        warnings=warnings,
        reasons=reasons,
    )


def _with_rows(
    reasons: tuple[str, ...], notes: tuple[str, ...], pooled: dict[str, float], *, pool: bool
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Reasons and warnings with those that lie in the rows themselves: saturated values, several populations."""
    reasons = (*refusals(notes), *groups.refusal(pooled, pool=pool), *reasons)
    return reasons, tuple(dict.fromkeys((*reasons, *groups.pooled(pooled, pool=pool), *notes)))


def _populations(table: pd.DataFrame, budget: NDArray[np.intp], n: str, y: str) -> dict[str, float]:
    """Column that splits the table -> `groups.share_law` of the best cells of each size and budget.

    Log y is taken to be quadratic in log n and the budget, which describes curves whatever their law.
    """
    tests = {}
    means = seeds.cell_means(cells := seeds.cell_index(table), table[y].to_numpy(dtype=float))[cells]
    for name in groups.axes(table, (n,), (y,)):
        keyed = pd.DataFrame({"group": groups.index(table, [name]), "budget": budget, "n": table[n], "y": means})
        best = keyed.groupby(["group", "budget", "n"], as_index=False)["y"].min()
        u, v = (np.log(best["n"]) - np.log(best["n"]).mean()), best["budget"] - best["budget"].mean()
        basis = np.stack([np.ones(len(best)), u, v, u * u, u * v, v * v])
        tests[groups.listed(table, name)] = groups.share_law(
            np.log(best["y"].to_numpy()), basis, best["group"].to_numpy(), np.arange(len(best))
        )
    return tests


def prepare(
    frame: pd.DataFrame | Mapping[str, Any],
    n: str,
    y: str,
    d: str,
    budget: str | None,
    *,
    run: str | None = None,
    cell: str | None = None,
) -> tuple[pd.DataFrame, str, tuple[str, ...]]:
    """A clean table with the four columns, the name of the column of compute, and notes for the reader."""
    given = pd.DataFrame(dict(frame)) if not isinstance(frame, pd.DataFrame) else frame
    budget = budget or ("budget" if "budget" in given else "flops")
    notes = []
    if d not in given:
        columns.require(given, n)
        columns.require(given, budget)
        given = given.assign(**{d: given[budget] / (6.0 * given[n])})
        notes.append(f"no column {d!r}: taken as {budget} / (6 {n})")
    table, dropped, found = measured(given, [n, d, budget, y], run=run, cell=cell)
    notes += found
    if dropped:
        notes.append(f"{dropped} {'row' if dropped == 1 else 'rows'} without a finite {y} left out")
    if not len(table):
        raise ValueError(f"no row has a finite {y!r}")
    return table.sort_values([budget, n, y], kind="stable", ignore_index=True), budget, tuple(notes)


def _isoflop(curve: Curve, drawn: Curves, table: pd.DataFrame, d: str, budget: str) -> IsoflopCurve:
    """The curve of a budget with its examples, near-equal sizes merged."""
    examples, compute = (
        seeds.cell_means(drawn.cell, table[name].to_numpy(dtype=float))[curve.cells] for name in (d, budget)
    )
    place, share = merged(np.log(curve.x), np.log(curve.y), drawn.noise)
    mean = (np.arange(place[-1] + 1) == place[:, None]) * share[:, None]
    x, y, at, resamples = (np.exp(np.log(values) @ mean) for values in (curve.x, curve.y, examples, curve.drawn))
    first = np.unique(place, return_index=True)[1]
    each = float(np.exp(np.mean(np.log(compute))))
    return IsoflopCurve(x, y, resamples, curve.cells[first], curve.spare, d=at, budget=each)


def _merged_sizes(drawn: Curves, curves: tuple[IsoflopCurve, ...]) -> tuple[str, ...]:
    gone = sum(curve.x.size for curve in drawn.curves) - sum(curve.x.size for curve in curves)
    if not gone:
        return ()
    return (f"{gone} {'size' if gone == 1 else 'sizes'} within {100 * ONE_SIZE:g} % of another averaged with it",)


@dataclass(frozen=True)
class _Finder:
    """Finds log n* and log y* of a curve: the estimate, then its resamples, [1 + B] each; NaN if not interior."""

    find: Callable[[IsoflopCurve], tuple[Array, Array]]
    wider: float | None = None
    """Factor by which intervals are wider than percentiles; None takes it from the noise of each curve."""
    misfit: float = 1.0


def _finder(method: Method, curves: tuple[IsoflopCurve, ...], drawn: Curves, options: Options) -> _Finder:
    if method == "joint":
        return _joint(curves, drawn, options)
    find = minima.METHODS[method]

    def alone(curve: IsoflopCurve) -> tuple[Array, Array]:
        return find(np.log(curve.x), np.log(np.concatenate([curve.y[None], curve.drawn])))

    if method == "akima" or not options.resamples:  # without resamples nothing is asked of the noise
        return _Finder(alone)
    turning = [c for c in curves if c.x.size >= LEAST_SIZES and 0 < c.y.argmin() < c.x.size - 1]
    residuals = [np.log(c.y) - minima.bowl(np.log(c.x), c.y) for c in turning]
    every = np.concatenate([*residuals, np.empty(0)])
    rms = float(np.sqrt(np.sum(every**2) / max(every.size, 1) * _runs_a_point(curves, drawn)))
    return _Finder(alone, misfit=drawn.misfit(rms, every.size, 3 * len(turning)))


def _runs_a_point(curves: tuple[IsoflopCurve, ...], drawn: Curves) -> float:
    """Mean number of runs behind a point of the curves."""
    return drawn.repeats * sum(c.x.size for c in drawn.curves) / sum(c.x.size for c in curves)


def _joint(curves: tuple[IsoflopCurve, ...], drawn: Curves, options: Options) -> _Finder:
    points = {name: np.concatenate([getattr(c, name) for c in curves]) for name in ("x", "d", "y")}
    of_points = replace(options, run=None, cell=None)
    fit = fit_surface(points, "x", "d", "y", **vars(of_points))
    run_rms = fit.rms * float(np.sqrt(_runs_a_point(curves, drawn)))
    misfit = drawn.misfit(run_rms, fit.n, fit.solution.theta.size)

    def together(curve: IsoflopCurve) -> tuple[Array, Array]:
        price = fit_price({"x": curve.x, "d": curve.d, "flops": np.full(curve.x.size, curve.budget)}, "x", "d")
        values, replicates = optimum.optima(fit, np.log([curve.budget]), price)
        log_n, _, log_y = np.concatenate([values[:, None], replicates], axis=1)[:, :, 0]
        inside = (log_n > np.log(curve.x[0])) & (log_n < np.log(curve.x[-1]))
        return np.where(inside, log_n, np.nan), np.where(inside, log_y, np.nan)

    return _Finder(together, fit.wider, misfit)


def _locate(curves: tuple[IsoflopCurve, ...], find: _Finder, level: float) -> tuple[pd.DataFrame, Array]:
    """The table `optima` of an IsoflopFit and log n* of the resamples [B, G]; refused budgets are NaN in both."""
    rows, drawn = [], []
    for curve in curves:
        row, log_n = _optimum(curve, find, level)
        rows.append(row)
        drawn.append(log_n)
    most = max(log_n.size for log_n in drawn)
    return pd.DataFrame(rows), np.stack([d if d.size else np.full(most, np.nan) for d in drawn], axis=1)


def _optimum(curve: IsoflopCurve, find: _Finder, level: float) -> tuple[dict[str, Any], Array]:
    row: dict[str, Any] = {"budget": curve.budget, "sizes": curve.x.size}
    few = f"{curve.x.size} {'size' if curve.x.size == 1 else 'sizes'}; a minimum needs {LEAST_SIZES}"
    refusal, minimum = few, (np.array([np.nan]),) * 2
    if curve.x.size >= LEAST_SIZES:
        candidate = find.find(curve)
        refusal = _refusal(curve, candidate[0])
        minimum = minimum if refusal else candidate
    wider = quantiles.widening(curve.spare, 0, level) if find.wider is None else find.wider
    return row | _numbers(curve, *minimum, level, wider) | {"refused": refusal}, minimum[0][1:]


def _refusal(curve: IsoflopCurve, log_n: Array) -> str:
    """Why a budget has no minimum to report, or an empty text."""
    lowest = int(np.argmin(curve.y))
    if lowest in (0, curve.x.size - 1):  # a parabola through a curve that only falls may still turn inside
        end, missing = ("smallest", "smaller") if lowest == 0 else ("largest", "larger")
        return f"the lowest point is the {end} size; {missing} ones are needed"
    if not np.isfinite(log_n[0]):
        return "the curve has no minimum between its outer sizes"
    sure = float(np.mean(np.isfinite(log_n[1:]))) if log_n.size > 1 else 1.0
    if sure < SURE:
        return f"the minimum is between the outer sizes in only {100 * sure:.0f} % of the resamples"
    return ""


def _numbers(curve: IsoflopCurve, log_n: Array, log_y: Array, level: float, wider: float) -> dict[str, Any]:
    log_d = _log_d(curve, log_n)
    row: dict[str, Any] = {}
    for name, logs in (("n", log_n), ("d", log_d), ("y", log_y)):
        at = quantity(float(np.exp(logs[0])), np.exp(logs[1:]), level, wider=wider, log=True)
        row |= {name: at.value, f"{name}_low": at.low, f"{name}_high": at.high}
    return row


def _draw_lines(
    curves: tuple[IsoflopCurve, ...], optima: pd.DataFrame, log_n: Array, wider: float | None
) -> tuple[dict[str, Growth], float]:
    """The lines of log n* and log d* in log C by least squares, and Birge's ratio of the first."""
    log_c = np.log(optima["budget"].to_numpy(dtype=float))
    lines, scatter = {}, np.nan
    for name in ("n", "d"):
        at = np.log(optima[name].to_numpy(dtype=float))
        drawn = log_n
        if name == "d":
            drawn = np.stack([_log_d(curve, log_n[:, g]) for g, curve in enumerate(curves)], axis=1)
        ratio = _birge(log_c, at, drawn)
        scatter = ratio if name == "n" else scatter
        lines[name] = _line(log_c, at, drawn, wider=wider or max(1.0, np.nan_to_num(ratio)))
    return lines, scatter


def _log_d(curve: IsoflopCurve, log_n: Array) -> Array:
    """Log of the examples that the curve has at log n [any], NaN where that is."""
    return np.where(np.isfinite(log_n), np.interp(log_n, np.log(curve.x), np.log(curve.d)), np.nan)


def _line(log_c: Array, at: Array, drawn: Array, wider: float) -> Growth:
    used = np.isfinite(at)
    centre = float(log_c[used].mean()) if used.any() else 0.0
    intercepts, slopes = minima.growth(log_c - centre, np.concatenate([at[None], drawn]))
    return Growth(centre, float(intercepts[0]), float(slopes[0]), intercepts[1:], slopes[1:], wider)


def _birge(log_c: Array, at: Array, drawn: Array) -> float:
    """Root mean square of the residuals about the line in units of their own noise."""
    used = np.isfinite(at)
    if used.sum() <= LEAST_BUDGETS - 1 or len(drawn) < 20:
        return np.nan
    intercept, slope = minima.growth(log_c[used], at[None, used])
    noise = np.nanstd(drawn[:, used], axis=0)
    if not np.all(noise > 0):
        return np.nan
    squares = np.sum(((at[used] - intercept - slope * log_c[used]) / noise) ** 2)
    return float(np.sqrt(squares / (used.sum() - 2)))


def _reasons(optima: pd.DataFrame, misfit: float, method: Method, *, unknown: bool) -> tuple[str, ...]:
    used, reasons = int(np.sum(optima["refused"] == "")), []
    if used < LEAST_BUDGETS:
        reasons.append(f"{used} of {len(optima)} budgets have a minimum; a law needs {LEAST_BUDGETS}")
    if misfit > 1:
        form = "the surface" if method == "joint" else "the parabolas"
        reasons.append(f"the points leave {form} by {misfit:.1f} x the noise of a run: the minima are biased")
    if unknown:
        reasons.append("the noise of a run is not known, so there are no intervals")
    return tuple(reasons)


def _cautions(optima: pd.DataFrame, method: Method, scatter: float) -> tuple[str, ...]:
    cautions = []
    used = optima[optima["refused"] == ""]
    span = used["budget"].max() / used["budget"].min() if len(used) else np.nan
    if len(used) >= LEAST_BUDGETS and span < 10:
        cautions.append(f"the budgets span less than a decade (a factor of {short(span, 2)})")
    if scatter > 2:
        cautions.append(
            f"the optima scatter about their line {scatter:.1f} x as much as their noise; intervals widened"
        )
    if method == "parabola":
        cautions.append("the vertex of a parabola is biased if a curve is asymmetric: see design_bias")
    return tuple(cautions)
