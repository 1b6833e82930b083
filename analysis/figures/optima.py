"""Figures of optima: isoFLOP curves and their minima, optima against compute, learning-rate parabolas."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from analysis.approaches.learning_rate import WINDOW
from analysis.figures import chart
from analysis.figures.chart import Chart
from analysis.figures.law import REACH
from analysis.figures.registry import Figure, FigureError, Findings
from analysis.figures.style import MARKERS
from analysis.numbers import short
from analysis.table import columns, seeds
from analysis.table.rows import measured

if TYPE_CHECKING:
    from analysis.approaches.isoflop_fit import IsoflopFit
    from analysis.approaches.learning_rate import LearningRates
    from analysis.figures.chart import Line

_LINE_POINTS = 100
MOST_NAMES = len(MARKERS)
"""Most designs that a legend names."""


def describe_isoflop(fit: IsoflopFit) -> Chart:
    """Describe isoFLOP curves: y against n, colour is the budget, with the curve through them and its minimum.

    The bar of a minimum is the interval of its height. A refused budget has points and no minimum.
    """
    parts, lines = [], []
    for curve in fit.curves:
        parts.append(_curve_points(curve.x, curve.y, curve.budget, f"{fit.n} {{}} at {short(curve.budget)} FLOPs"))
        if curve.x.size > 2:
            lines.append(_searched(curve.x, curve.y, fit.method, curve.budget))
    for row in fit.optima[fit.optima["refused"] == ""].itertuples():
        ends = f"[{short(row.n_low)}, {short(row.n_high)}]"
        name = f"optimum at {short(row.budget)} FLOPs: {fit.n} {short(row.n)} {ends}"
        look = {"low": [row.y_low], "high": [row.y_high], "shade": row.budget, "name": name}
        parts.append(chart.points([row.n], [row.y], **look))
    return Chart(
        **chart.axes(fit.n, fit.y),
        points=pd.concat(parts, ignore_index=True),
        lines=tuple(lines),
        shade_label=columns.label("budget"),
        marks={"strong": "optimum", "pale": "mean of seeds", "bar": "interval of its height"},
    )


def describe_optima(fit: IsoflopFit) -> Chart:
    """Describe P* and D* against compute: the optimum of every budget, the two laws with their bands and slopes.

    The laws are left out if the optima support no exponent.
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
    slopes = [f"{name} ~ C^{exponents[letter]}" for name, letter in zip(shades.values(), exponents, strict=True)]
    return Chart(
        x="budget",
        y="optimum",
        x_label=columns.label("budget"),
        y_label=f"optimal {fit.n} and {fit.d}",
        points=pd.concat(parts, ignore_index=True),
        lines=tuple(lines),
        shades=shades,
        marks={"bar": "interval"},
        annotation=tuple(slopes) if fit.supported else ("exponents not identified", *fit.reasons[:1]),
    )


def describe_learning_rates(frame: pd.DataFrame, rates: LearningRates) -> Chart:
    """Describe y against the learning rate, one colour per design, with a parabola around each best rate.

    Points are means over seeds. A minimum inside its grid is `strong`; a design with an unreliable minimum (`flag`)
    has its points and no parabola. For more than MOST_NAMES designs the colour is their `params`.

    Args:
        frame: the runs that `rates` were computed from.
        rates: from `best_learning_rates`.
    """
    table = measured(frame, [rates.lr, rates.y]).table
    designs = rates.best.to_dict("records")
    named = len(designs) <= MOST_NAMES
    sized = not named and "params" in table
    parts, lines, shades = [], [], {}
    for k, row in enumerate(designs, start=1):
        mine = table[_of_design(table, row, rates.by)]
        shade = float(k) if named else float(mine["params"].mean()) if sized else np.nan
        shades[shade] = name = ", ".join(
            f"{row[by]:g}" if isinstance(row[by], float) else f"{row[by]}" for by in rates.by
        )
        drawn = _bowl(mine, row, rates, {"shade": shade, "group": str(row.get("model", ""))}, name)
        parts += drawn[0]
        lines.append(drawn[1])
    return Chart(
        **chart.axes(rates.lr, rates.y),
        points=pd.concat(parts, ignore_index=True),
        lines=tuple(lines),
        shades=shades if named and rates.by else {},
        shade_label=", ".join(rates.by) if named else columns.label("params") if sized else "",
        marks={"strong": "optimum", "pale": "mean of seeds"},
    )


def _of_design(table: pd.DataFrame, row: dict[Any, Any], by: tuple[str, ...]) -> np.ndarray:
    """Whether each row belongs to a design."""
    mine = np.ones(len(table), dtype=bool)
    for name in by:
        mine &= (table[name] == row[name]).to_numpy() | (table[name].isna().to_numpy() & pd.isna(row[name]))
    return mine


def _bowl(
    mine: pd.DataFrame, row: dict[Any, Any], rates: LearningRates, look: dict[str, Any], name: str
) -> tuple[list[pd.DataFrame], Line]:
    """The best mean at each rate of one design, its minimum, and the line through them."""
    cell = seeds.cell_index(mine)
    rate, mean = mine[rates.lr].groupby(cell).first(), mine[rates.y].groupby(cell).mean()
    best = mean.groupby(rate).min()
    lr, y = best.index.to_numpy(dtype=float), best.to_numpy(dtype=float)
    means = chart.points(lr, y, strong=False, name=name, **look)
    if row["flag"]:
        return [means], chart.line(lr, y, style="link", **look)
    text = f"{name}: best {rates.lr} {short(row['lr'], 2)} [{short(row['lr_low'], 2)}, {short(row['lr_high'], 2)}]"
    optimum = chart.points([row["lr"]], [row["y"]], name=text, **look)
    return [means, optimum], _parabola(lr, y, look)


def _parabola(lr: np.ndarray, y: np.ndarray, look: dict[str, Any]) -> Line:
    """The fitted parabola in log lr, over the rates of its window."""
    lowest = int(np.argmin(y))
    near = np.abs(np.log(lr / lr[lowest])) <= np.log(WINDOW) * (1 + 1e-9)
    near[lowest - 1 : lowest + 2] = True
    log_lr = np.log(lr[near])
    at = np.linspace(log_lr[0], log_lr[-1], _LINE_POINTS)
    height = np.polynomial.Polynomial.fit(log_lr, y[near], 2)(at)
    good = height > 0
    return chart.line(np.exp(at[good]), height[good], style="link", **look)


def _curve_points(n: np.ndarray, y: np.ndarray, budget: float, name: str) -> pd.DataFrame:
    return chart.points(n, y, shade=budget, strong=False, name=[name.format(short(size, 4)) for size in n])


def _searched(n: np.ndarray, y: np.ndarray, method: str, budget: float) -> Line:
    """The curve whose minimum is the optimum."""
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


def _optima(findings: Findings) -> Chart:
    refused = findings.isoflop.optima["refused"]
    if not (refused == "").any():
        raise FigureError(f"no budget has a minimum: {refused.iloc[0]}")
    return describe_optima(findings.isoflop)


ISOFLOP = Figure("IsoFLOP curves", lambda findings: describe_isoflop(findings.isoflop))
OPTIMA = Figure("Optimal parameters and examples against compute", _optima)
LEARNING_RATE = Figure(
    "Learning rates", lambda findings: describe_learning_rates(findings.frame, findings.learning_rates), whole=True
)
