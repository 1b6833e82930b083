"""Figures that check a fit: its residuals, and whether intervals hold as often as they say."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy.special import betaincinv

from analysis.figures import chart
from analysis.figures.chart import Chart
from analysis.table import columns

if TYPE_CHECKING:
    from analysis.checks.validate import Validation
    from analysis.fits.power_law_fit import PowerLawFit


def describe_residuals(fit: PowerLawFit) -> Chart:
    """Residuals of log y, in percent against x: scatter where the law holds, a bend where it does not."""
    x = fit.points[fit.x].to_numpy(dtype=float)
    y = fit.points[fit.y].to_numpy(dtype=float)
    residual = 100 * (np.log(y) - np.log(fit.law.predict(x)[0]))
    ends = [x.min(), x.max()]
    return Chart(
        x=fit.x,
        y="residual",
        x_label=columns.label(fit.x),
        y_label=f"residual of log {columns.label(fit.y)} (%)",
        points=chart.points(x, residual),
        lines=(chart.line(ends, [0.0, 0.0], style="guide"),),
        y_log=False,
        annotation=(f"{fit.n} points, rms {100 * fit.rms:.2g} %",),
    )


def describe_held_out(found: Validation) -> Chart:
    """How far off each law was on the runs held out, in percent rms, against how far beyond its fit they lay."""
    table = found.table[found.table["log_rmse"] > 0]
    names = [name for name in found.scores["law"] if (table["law"] == name).any()]
    shades = {float(k): str(name) for k, name in enumerate(names, start=1)}
    parts, links = [], []
    for shade, name in shades.items():
        rows = table[table["law"] == name].sort_values("reach")
        said = [f"{name}: {100 * share:.0f} % of the held-out runs in its band" for share in rows["covered"]]
        parts.append(chart.points(rows["reach"], 100 * rows["log_rmse"], shade=shade, name=said))
        links.append(chart.line(rows["reach"], 100 * rows["log_rmse"], style="link", shade=shade))
    return Chart(
        x="reach",
        y="log_rmse",
        x_label=f"largest {found.order} held out over largest fitted",
        y_label=f"error of the prediction of {found.y} (% rms)",
        points=pd.concat(parts, ignore_index=True),
        lines=tuple(links),
        shades=shades,
    )


def describe_coverage(table: pd.DataFrame, *, level: float = 0.95) -> Chart:
    """How often intervals held the truth, against how often they said: a calibrated method lies on the diagonal.

    Args:
        table: columns `nominal` (the level that was asked for) and `covered` (the share that held the truth), both
            in [0, 1]; `n` (intervals tried) gives error bars, exact for a binomial (Clopper, Pearson 1934);
            `method` names what is compared.
        level: of the error bars.

    Raises:
        ValueError: a column is missing, or a share lies outside [0, 1].
    """
    checked, _ = columns.check(table, ["nominal", "covered"], positive=False)
    nominal, covered = checked["nominal"].to_numpy(dtype=float), checked["covered"].to_numpy(dtype=float)
    if np.any((covered < 0) | (covered > 1) | (nominal < 0) | (nominal > 1)):
        raise ValueError("'nominal' and 'covered' are shares; expected values in [0, 1]")
    low, high = np.full((2, covered.size), np.nan)
    if "n" in checked:
        n, tail = checked["n"].to_numpy(dtype=float), (1 - level) / 2
        held = np.round(covered * n)
        low = np.where(held > 0, betaincinv(np.maximum(held, 1), n - held + 1, tail), 0.0)
        high = np.where(held < n, betaincinv(held + 1, np.maximum(n - held, 1), 1 - tail), 1.0)
    methods = list(dict.fromkeys(checked["method"].astype(str))) if "method" in checked else []
    shades = {float(k): name for k, name in enumerate(methods, start=1)} if len(methods) > 1 else {}
    shade = np.full(covered.size, np.nan)
    if shades:
        shade = checked["method"].astype(str).map({name: k for k, name in shades.items()}).to_numpy(dtype=float)
    points = chart.points(nominal, covered, low=low, high=high, shade=shade)
    links = [
        chart.line(part["x"], part["y"], style="link", shade=float(part["shade"].iloc[0]))
        for _, part in points.sort_values("x", kind="stable").groupby("shade", dropna=False)
    ]
    diagonal = chart.line([nominal.min(), nominal.max()], [nominal.min(), nominal.max()], style="guide")
    return Chart(
        x="nominal",
        y="covered",
        x_label="nominal coverage",
        y_label="share of intervals that held the truth",
        points=points,
        lines=(diagonal, *links),
        shades=shades,
        x_log=False,
        y_log=False,
    )
