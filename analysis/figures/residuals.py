"""Figures that check a fit: its residuals, its predictions of held-out runs, the coverage of its intervals."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy.special import betaincinv

from analysis.checks.parts import attempt
from analysis.figures import chart
from analysis.figures.chart import Chart
from analysis.figures.law import refused
from analysis.figures.registry import Figure, FigureError, Findings
from analysis.numbers import short
from analysis.table import columns

if TYPE_CHECKING:
    from analysis.checks.validate import Validation
    from analysis.fits.result import LawFit


def describe_residuals(fit: LawFit) -> Chart:
    """Describe the residuals of log y in percent against x: scatter if the law holds, a bend if it does not.

    An unsupported fit has no residuals; the annotation says why.
    """
    x, y = fit.data.x[0], fit.data.y
    ends = [x.min(), x.max()]
    points = chart.points([], [])
    if fit.supported:
        points = chart.points(x, 100 * (np.log(y) - np.log(fit.predict(x)["y"].to_numpy())))
    return Chart(
        x=fit.x[0],
        y="residual",
        x_label=columns.label(fit.x[0]),
        y_label=f"residual of log {columns.label(fit.y)} (%)",
        points=points,
        lines=(chart.line(ends, [0.0, 0.0], style="guide"),),
        y_log=False,
        marks={"strong": "fitted point", "guide": "the law" if fit.supported else "zero"},
        annotation=(f"{fit.n} points, rms {short(100 * fit.rms, 2)} %",) if fit.supported else refused(fit),
    )


def describe_held_out(validation: Validation) -> Chart:
    """Describe the error of each law on held-out runs, in percent rms, against how far they lie beyond the fit."""
    table = validation.table[validation.table["log_rmse"] > 0]
    names = [name for name in validation.scores["law"] if (table["law"] == name).any()]
    shades = {float(k): str(name) for k, name in enumerate(names, start=1)}
    parts, links = [], []
    for shade, name in shades.items():
        rows = table[table["law"] == name].sort_values("reach")
        shares = [f"{name}: {100 * share:.0f} % of the held-out runs in its band" for share in rows["covered"]]
        parts.append(chart.points(rows["reach"], 100 * rows["log_rmse"], shade=shade, name=shares))
        links.append(chart.line(rows["reach"], 100 * rows["log_rmse"], style="link", shade=shade))
    return Chart(
        x="reach",
        y="log_rmse",
        x_label=f"largest {validation.order} held out over largest fitted",
        y_label=f"error of the prediction of {validation.y} (% rms)",
        points=pd.concat(parts, ignore_index=True),
        lines=tuple(links),
        shades=shades,
    )


def describe_coverage(table: pd.DataFrame, *, level: float = 0.95) -> Chart:
    """Describe the coverage of intervals against their nominal level; a calibrated method lies on the diagonal.

    Args:
        table: columns `nominal` (the level) and `covered` (the share that contained the truth), both in [0, 1];
            `n` (number of intervals) gives error bars, exact for a binomial (Clopper, Pearson 1934); `method` names
            what is compared.
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
        hits = np.round(covered * n)
        low = np.where(hits > 0, betaincinv(np.maximum(hits, 1), n - hits + 1, tail), 0.0)
        high = np.where(hits < n, betaincinv(hits + 1, np.maximum(n - hits, 1), 1 - tail), 1.0)
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
        y_label="share of intervals that contain the truth",
        points=points,
        lines=(diagonal, *links),
        shades=shades,
        marks={"strong": "share", "bar": f"{100 * level:g} % interval", "guide": "calibrated"},
        x_log=False,
        y_log=False,
    )


def _residuals(findings: Findings) -> Chart:
    """Of the law against compute, else of the first one; supported laws come before refused ones."""
    laws = {x: attempt(lambda x=x: findings.law(x)) for x in findings.axes}  # type: ignore[misc]
    fits = {x: fit for x, (fit, _) in laws.items() if fit is not None}
    if not fits:
        raise FigureError("; ".join(f"{x}: {why_not}" for x, (_, why_not) in laws.items()))
    return describe_residuals(fits[min(fits, key=lambda x: (not fits[x].supported, x != "flops"))])


def _held_out(findings: Findings) -> Chart:
    validation = findings.verdict.validation
    if validation is None:
        raise FigureError(next(text for text in findings.verdict.warnings if "held-out" in text))
    return describe_held_out(validation)


RESIDUALS = Figure("Residuals of the law", _residuals)
HELD_OUT = Figure("Prediction of the largest budgets, held out", _held_out)
