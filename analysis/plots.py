"""Figures: described as plain data, then drawn onto the axes that the caller gives.

matplotlib is imported when something is drawn, never before; no global state of pyplot is touched.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.law_figure import Curve, LawFigure, describe_law

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap, Normalize
    from numpy.typing import NDArray

__all__ = ["Curve", "LawFigure", "describe_law", "draw", "log_ticks", "save"]

WIDTH, HEIGHT, DPI = 3.5, 2.9, 200
"""Inches of a paper's column, and dots an inch of a PNG."""
_FEW_COLOURS = 8
_INK = "#222222"
_STYLE: Any = {
    "font.size": 8,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.minor.width": 0.4,
    "ytick.minor.width": 0.4,
    "svg.hashsalt": "isoflop",
    "svg.fonttype": "path",
}


def draw(figure: LawFigure, ax: Axes) -> Axes:
    """Draw a described figure onto `ax` and return it. A colour bar takes its room from `ax`."""
    colours = _Colours(figure)
    ax.set_xscale("log")
    ax.set_yscale("log")
    for curve in figure.curves:
        ax.plot(curve.x, curve.y, color=colours.of(curve.colour), linewidth=0.5, alpha=0.35, zorder=1)
    _draw_line(figure.line, ax)
    _draw_points(figure.points, colours, ax)
    _set_axes(figure, ax)
    if figure.colour_label:
        colours.bar(figure.colour_label, ax)
    if figure.annotation:
        ax.set_title("\n".join(figure.annotation), loc="left", fontsize="medium", linespacing=1.35)
    return ax


def save(
    figure: Any,
    stem: Path | str,
    formats: Sequence[str] = ("png", "svg"),
    draw: Callable[[Any, Axes], Axes] = draw,
) -> list[Path]:
    """Write `<stem>.<format>` for each format and return the paths; folders are made as needed.

    `draw(figure, ax)` draws what was described: a law, unless another is given. One paper column wide, 200 dots an
    inch. The same figure gives the same bytes: no dates, fixed ids.

    Raises:
        ValueError: matplotlib knows no such format.
    """
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    stem = Path(stem)
    stem.parent.mkdir(parents=True, exist_ok=True)
    paths = [stem.with_name(f"{stem.name}.{kind}") for kind in formats]
    with mpl.rc_context(_STYLE):
        page = Figure(figsize=(WIDTH, HEIGHT), layout="constrained")
        FigureCanvasAgg(page)
        draw(figure, page.add_subplot())
        for path in paths:
            page.savefig(path, dpi=DPI, metadata=_undated(path.suffix))
    return paths


def log_ticks(low: float, high: float, most: int = 7) -> list[float]:
    """Three to `most` round ticks for a log axis from `low` to `high`, also when it is under one decade."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    for mantissas in ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 4, 6, 8)):
        every = [round(m * 10.0**e, 15 - e) for e in range(first, last + 1) for m in mantissas]
        ticks = [tick for tick in every if low <= tick <= high]
        if len(ticks) >= 3:
            return ticks[:: -(-len(ticks) // most)]
    return _linear_ticks(low, high)


def _linear_ticks(low: float, high: float) -> list[float]:
    rough = (high - low) / 4
    unit = 10.0 ** math.floor(math.log10(rough))
    step = unit * max(m for m in (1, 2, 5) if m * unit <= rough)
    return [float(f"{k * step:.10g}") for k in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _tick_text(value: float) -> str:
    exponent = math.floor(math.log10(value) + 1e-9)
    if -4 < exponent < 4:
        return f"{value:.10g}"
    mantissa = value / 10.0**exponent
    power = f"10^{{{exponent}}}"
    return f"${power}$" if abs(mantissa - 1) < 1e-6 else rf"${mantissa:.6g}{{\times}}{power}$"


class _Colours:
    """One perceptual map over the logarithm of the colour values; steps where the values are few."""

    def __init__(self, figure: LawFigure) -> None:
        import matplotlib as mpl
        from matplotlib.colors import BoundaryNorm, ListedColormap, LogNorm

        shades = figure.points["colour"].dropna()
        self.values = np.unique(shades.to_numpy(dtype=float))
        smooth = mpl.colormaps["viridis"]
        self.map: Colormap = ListedColormap(smooth(np.linspace(0.0, 0.88, 256)))
        self.stepped = 0 < self.values.size <= _FEW_COLOURS
        self.norm: Normalize
        if self.stepped:
            self.map = ListedColormap(smooth(_places(self.values)))
            self.norm = BoundaryNorm(_edges(self.values), self.values.size)
        else:
            self.norm = LogNorm(*(self.values[[0, -1]] if self.values.size else (1.0, 10.0)))

    def of(self, value: float) -> Any:
        """The colour of a value; grey-blue without one."""
        return self.map(self.norm(value)) if math.isfinite(value) else "#4C6A92"

    def bar(self, label: str, ax: Axes) -> None:
        """A slim colour bar beside the axes, one step a value where they are few."""
        from matplotlib.cm import ScalarMappable
        from matplotlib.ticker import FixedLocator, NullLocator

        bar = ax.figure.colorbar(ScalarMappable(self.norm, self.map), ax=ax, aspect=28, pad=0.02, spacing="uniform")
        bar.outline.set_visible(False)
        edges = _edges(self.values)
        ticks = np.sqrt(edges[1:] * edges[:-1]) if self.stepped else log_ticks(*self.values[[0, -1]])
        if self.stepped:
            ticks = (edges[1:] + edges[:-1]) / 2
        names = [_tick_text(v) for v in (self.values if self.stepped else ticks)]
        bar.ax.yaxis.set_major_locator(FixedLocator(list(ticks)))
        bar.ax.yaxis.set_minor_locator(NullLocator())
        bar.ax.set_yticklabels(names)
        bar.ax.tick_params(length=0 if self.stepped else 2)
        bar.set_label(_plain(label))


def _places(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Where each value lies on the colour map, [values] in 0 to 0.88, by its logarithm."""
    logs = np.log(values)
    return np.asarray(0.88 * (logs - logs[0]) / max(logs[-1] - logs[0], 1e-12))


def _edges(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Boundaries between values, [values + 1], in the middle of their logarithms."""
    logs = np.log(values)
    middle = (logs[1:] + logs[:-1]) / 2
    first, last = (middle[0] - logs[0], logs[-1] - middle[-1]) if values.size > 1 else (0.5, 0.5)
    return np.asarray(np.exp(np.concatenate([[logs[0] - first], middle, [logs[-1] + last]])))


def _draw_line(line: pd.DataFrame, ax: Axes) -> None:
    if line.empty:
        return
    ax.fill_between(line["x"], line["low"], line["high"], color=_INK, alpha=0.13, linewidth=0, zorder=2)
    inside = line[line["inside"]]
    ax.plot(inside["x"], inside["y"], color=_INK, linewidth=1.1, zorder=3)
    ends = inside["x"].iloc[[0, -1]]
    for side in (line[line["x"] <= ends.iloc[0]], line[line["x"] >= ends.iloc[1]]):
        ax.plot(side["x"], side["y"], color=_INK, linewidth=0.9, linestyle=(0, (4, 2.5)), zorder=3)


def _draw_points(points: pd.DataFrame, colours: _Colours, ax: Axes) -> None:
    ordered = points.sort_values("fitted", kind="stable")
    columns = (ordered[name].to_numpy() for name in ("x", "y", "sd", "colour", "fitted"))
    for x, y, sd, shade, used in zip(*columns, strict=True):
        colour, front = colours.of(float(shade)), 5 if used else 4
        if sd > 0:
            ends = [[min(sd, 0.99 * y)], [sd]]
            ax.errorbar([x], [y], yerr=ends, color=colour, elinewidth=0.7, capsize=1.2, fmt="none", zorder=front)
        ax.plot(
            [x],
            [y],
            marker="o",
            markersize=4.2 if used else 2.8,
            markerfacecolor=colour,
            markeredgecolor=_INK if used else colour,
            markeredgewidth=0.7 if used else 0.0,
            alpha=1.0 if used else 0.6,
            zorder=front,
        )


def _set_axes(figure: LawFigure, ax: Axes) -> None:
    from matplotlib.ticker import FixedLocator, NullFormatter, NullLocator

    for axis, limits, set_limits in (
        (ax.xaxis, _limits(figure, "x"), ax.set_xlim),
        (ax.yaxis, _limits(figure, "y"), ax.set_ylim),
    ):
        ticks = log_ticks(*limits, most=6)
        set_limits(*limits)
        axis.set_major_locator(FixedLocator(ticks))
        axis.set_ticklabels([_tick_text(tick) for tick in ticks])
        if limits[1] < 30 * limits[0]:
            axis.set_minor_locator(NullLocator())
        axis.set_minor_formatter(NullFormatter())
    ax.set_xlabel(_plain(figure.x_label))
    ax.set_ylabel(_plain(figure.y_label))
    ax.spines[["top", "right"]].set_visible(False)


def _limits(figure: LawFigure, axis: str) -> tuple[float, float]:
    """Limits that hold points, curves and line, with a margin; the band may leave them."""
    parts = [figure.points[axis], figure.line[axis], *(getattr(curve, axis) for curve in figure.curves)]
    every = np.concatenate([np.asarray(part, dtype=float) for part in parts])
    low, high = float(every.min()), float(every.max())
    margin = max((high / low) ** 0.05, 1.05)
    return low / margin, high * margin


def _plain(text: str) -> str:
    """A label as it is: a stranger's dollar sign is no mathematics."""
    return text.replace("$", r"\$")


def _undated(suffix: str) -> dict[str, Any]:
    return {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}.get(suffix, {})
