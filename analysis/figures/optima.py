"""Figures of optima: isoFLOP curves and their minima, how those grow with compute, and learning-rate parabolas."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from analysis.approaches.learning_rate import WINDOW
from analysis.figures import chart
from analysis.figures.chart import Chart
from analysis.figures.law import REACH
from analysis.table import columns, seeds

if TYPE_CHECKING:
    from analysis.approaches.isoflop_fit import IsoflopFit
    from analysis.approaches.learning_rate import LearningRates
    from analysis.figures.chart import Line

_LINE_POINTS = 100
MOST_NAMES = 8
"""Designs that a colour bar can name."""


def describe_isoflop(fit: IsoflopFit) -> Chart:
    """The isoFLOP curves: y against n, colour is the budget, the curve that was searched, its minimum `strong`.

    A minimum has the interval of its height as a bar. A refused budget has points and no minimum.
    """
    parts, lines = [], []
    for curve in fit.curves:
        parts.append(_curve_points(curve.x, curve.y, curve.budget, f"{fit.n} {{:.4g}} at {curve.budget:.3g} FLOPs"))
        if curve.x.size > 2:
            lines.append(_searched(curve.x, curve.y, fit.method, curve.budget))
    for row in fit.optima[fit.optima["refused"] == ""].itertuples():
        said = f"optimum at {row.budget:.3g} FLOPs: {fit.n} {row.n:.3g} [{row.n_low:.3g}, {row.n_high:.3g}]"
        ends = {"low": [row.y_low], "high": [row.y_high], "shade": row.budget, "name": said, "marker": 1}
        parts.append(chart.points([row.n], [row.y], **ends))
    return Chart(
        x=fit.n,
        y=fit.y,
        x_label=columns.label(fit.n),
        y_label=columns.label(fit.y),
        points=pd.concat(parts, ignore_index=True),
        lines=tuple(lines),
        shade_label=columns.label("budget"),
        markers=("runs", "optimum"),
    )


def describe_optima(fit: IsoflopFit) -> Chart:
    """P* and D* against compute with both slopes: the optimum of every budget, the two laws and their bands.

    The laws are left out where the optima support no exponent.
    """
    used = fit.optima[fit.optima["refused"] == ""]
    parts, lines = [], []
    exponents = {"n": fit.n_exponent, "d": fit.d_exponent}
    shades = {1.0: f"{columns.symbol(fit.n)}*", 2.0: f"{columns.symbol(fit.d)}*"}
    for (shade, name), letter in zip(shades.items(), ("n", "d"), strict=True):
        low, high = used[f"{letter}_low"], used[f"{letter}_high"]
        parts.append(chart.points(used["budget"], used[letter], low=low, high=high, shade=shade, group=name))
        if fit.supported:
            lines.append(_growth(fit, letter, shade))
    said = [f"{name} ~ C^{exponents[letter]}" for name, letter in zip(shades.values(), exponents, strict=True)]
    return Chart(
        x="budget",
        y="optimum",
        x_label=columns.label("budget"),
        y_label=f"optimal {fit.n} and {fit.d}",
        points=pd.concat(parts, ignore_index=True),
        lines=tuple(lines),
        shades=shades,
        annotation=tuple(said) if fit.supported else ("no exponent claimed", *fit.reasons[:1]),
    )


def describe_learning_rates(frame: pd.DataFrame, found: LearningRates) -> Chart:
    """Y against the learning rate, a colour a design, with the parabola of each around its best rate.

    Points are means over seeds. A minimum inside its grid is `strong`; a design whose minimum is not to be trusted
    (`flag`) has its points and no parabola. Of more than MOST_NAMES designs the colour is their `params`.

    Args:
        frame: the runs that `found` was made from.
        found: from `best_learning_rates`.
    """
    table, _ = columns.check(frame, [found.lr, found.y])
    designs = found.best.to_dict("records")
    named = len(designs) <= MOST_NAMES
    sized = not named and "params" in table
    parts, lines, shades = [], [], {}
    for k, row in enumerate(designs, start=1):
        mine = table[_of_design(table, row, found.by)]
        shade = float(k) if named else float(mine["params"].mean()) if sized else np.nan
        shades[shade] = name = ", ".join(
            f"{row[by]:g}" if isinstance(row[by], float) else f"{row[by]}" for by in found.by
        )
        drawn = _bowl(mine, row, found, {"shade": shade, "group": str(row.get("model", ""))}, name)
        parts += drawn[0]
        lines.append(drawn[1])
    return Chart(
        x=found.lr,
        y=found.y,
        x_label=columns.label(found.lr),
        y_label=columns.label(found.y),
        points=pd.concat(parts, ignore_index=True),
        lines=tuple(lines),
        shades=shades if named and found.by else {},
        shade_label=", ".join(found.by) if named else columns.label("params") if sized else "",
        markers=("mean of seeds", "optimum"),
    )


def _of_design(table: pd.DataFrame, row: dict[Any, Any], by: tuple[str, ...]) -> np.ndarray:
    """Which rows are of a design."""
    mine = np.ones(len(table), dtype=bool)
    for name in by:
        mine &= (table[name] == row[name]).to_numpy() | (table[name].isna().to_numpy() & pd.isna(row[name]))
    return mine


def _bowl(
    mine: pd.DataFrame, row: dict[Any, Any], found: LearningRates, look: dict[str, Any], name: str
) -> tuple[list[pd.DataFrame], Line]:
    """The best mean at each rate of one design, its minimum, and the line through them."""
    cell = seeds.cell_index(mine)
    rate, mean = mine[found.lr].groupby(cell).first(), mine[found.y].groupby(cell).mean()
    best = mean.groupby(rate).min()
    rates, y = best.index.to_numpy(dtype=float), best.to_numpy(dtype=float)
    tried = chart.points(rates, y, strong=False, name=name, **look)
    if row["flag"]:
        return [tried], chart.line(rates, y, style="link", **look)
    said = f"{name}: best {found.lr} {row['lr']:.2g} [{row['lr_low']:.2g}, {row['lr_high']:.2g}]"
    optimum = chart.points([row["lr"]], [row["y"]], marker=1, name=said, **look)
    return [tried, optimum], _parabola(rates, y, look)


def _parabola(rates: np.ndarray, y: np.ndarray, look: dict[str, Any]) -> Line:
    """The parabola in log lr that was fitted, through the rates of its window."""
    lowest = int(np.argmin(y))
    near = np.abs(np.log(rates / rates[lowest])) <= np.log(WINDOW) * (1 + 1e-9)
    near[lowest - 1 : lowest + 2] = True
    log_lr = np.log(rates[near])
    at = np.linspace(log_lr[0], log_lr[-1], _LINE_POINTS)
    height = np.polynomial.Polynomial.fit(log_lr, y[near], 2)(at)
    good = height > 0
    return chart.line(np.exp(at[good]), height[good], style="link", **look)


def _curve_points(n: np.ndarray, y: np.ndarray, budget: float, name: str) -> pd.DataFrame:
    return chart.points(n, y, shade=budget, strong=False, name=[name.format(size) for size in n])


def _searched(n: np.ndarray, y: np.ndarray, method: str, budget: float) -> Line:
    """The curve whose minimum was taken."""
    log_n = np.log(n)
    at = np.unique(np.append(np.linspace(log_n[0], log_n[-1], _LINE_POINTS), log_n))
    if method == "parabola":
        height = np.polynomial.Polynomial.fit(log_n, y, 2)(at)
    else:
        from scipy.interpolate import Akima1DInterpolator

        height = np.exp(Akima1DInterpolator(log_n, np.log(y))(at))
    good = height > 0
    return chart.line(np.exp(at[good]), height[good], style="link", shade=budget)


def _growth(fit: IsoflopFit, letter: str, shade: float) -> Line:
    budgets = fit.optima.loc[fit.optima["refused"] == "", "budget"]
    low, high = float(budgets.min()), float(budgets.max())
    at = np.unique(np.append(np.geomspace(low / REACH, high * REACH, _LINE_POINTS), [low, high]))
    law = fit.predict(at)
    inside = (at >= low) & (at <= high)
    return chart.line(
        at, law[letter], low=law[f"{letter}_low"], high=law[f"{letter}_high"], inside=inside, shade=shade
    )
