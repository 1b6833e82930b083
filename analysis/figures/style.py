"""Colours and ticks of a chart, shared by the paper and the page."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap, Normalize
    from numpy.typing import NDArray

    from analysis.figures.chart import Chart

INK, PLAIN = "#222222", "#4C6A92"
MARKERS = (
    *(("o", "circle"), ("s", "square"), ("^", "triangle-up"), ("D", "diamond"), ("v", "triangle-down")),
    *(("p", "pentagon"), ("<", "triangle-left"), (">", "triangle-right"), ("P", "cross"), ("X", "x")),
    *(("*", "star"), ("d", "diamond-tall")),
)
"""Markers that a reader can tell apart: names in matplotlib and in plotly."""
DASHES: tuple[tuple[Any, str], ...] = (
    *(("-", "solid"), ((0, (1, 1.2)), "dot"), ((0, (5, 1.5, 1, 1.5)), "dashdot"), ((0, (3, 1)), "dash")),
    ((0, (7, 2)), "longdash"),
)
"""Line styles that a reader can tell apart: in matplotlib and in plotly; the first is solid."""
_LIGHTEST = 0.88  # of viridis: its yellow end vanishes on white paper


class Palette:
    """Colours of shades, and the bar that names them.

    Attributes:
        shades: the distinct shades of the chart, sorted.
        stepped: whether they are few enough for one step each.
    """

    def __init__(self, figure: Chart) -> None:
        import matplotlib as mpl
        from matplotlib.colors import BoundaryNorm, ListedColormap, LogNorm

        shades = [*figure.points["shade"], *(line.shade for line in figure.lines)]
        self.shades = np.unique(np.asarray(shades, dtype=float))
        self.shades = self.shades[np.isfinite(self.shades)]
        smooth = mpl.colormaps["viridis"]
        self.map: Colormap = ListedColormap(smooth(np.linspace(0.0, _LIGHTEST, 256)))
        self.stepped = 0 < self.shades.size <= len(MARKERS)
        self.norm: Normalize
        if self.stepped:
            self.map = ListedColormap(smooth(np.linspace(0.0, _LIGHTEST, self.shades.size)))
            self.norm = BoundaryNorm(_edges(self.shades), self.shades.size)
        else:
            self.norm = LogNorm(*(self.shades[[0, -1]] if self.shades.size else (1.0, 10.0)))

    def of(self, shade: float, otherwise: str = PLAIN) -> Any:
        """The colour of a shade; `otherwise` without one."""
        return self.map(self.norm(shade)) if math.isfinite(shade) else otherwise

    def hex(self, shade: float, otherwise: str = PLAIN) -> str:
        """The colour of a shade as `#rrggbb`."""
        from matplotlib.colors import to_hex

        return str(to_hex(self.of(shade, otherwise)))

    def bar(self, label: str, ax: Axes) -> None:
        """Draw a slim colour bar beside the axes."""
        from matplotlib.cm import ScalarMappable
        from matplotlib.ticker import FixedLocator, NullLocator

        bar = ax.figure.colorbar(ScalarMappable(self.norm, self.map), ax=ax, aspect=28, pad=0.02)
        bar.outline.set_visible(False)
        ticks = log_ticks(*self.shades[[0, -1]])
        bar.ax.yaxis.set_major_locator(FixedLocator(list(ticks)))
        bar.ax.yaxis.set_minor_locator(NullLocator())
        bar.ax.set_yticklabels([tick_text(tick) for tick in ticks])
        bar.ax.tick_params(length=2)
        bar.set_label(label)


def _edges(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Boundaries between values, [values + 1], at the middle of their logarithms."""
    logs = np.log(values)
    middle = (logs[1:] + logs[:-1]) / 2
    first, last = (middle[0] - logs[0], logs[-1] - middle[-1]) if values.size > 1 else (0.5, 0.5)
    return np.asarray(np.exp(np.concatenate([[logs[0] - first], middle, [logs[-1] + last]])))


def axis_limits(figure: Chart, axis: str) -> tuple[float, float]:
    """Limits around points, their error bars and lines, with a margin; bands may exceed them."""
    log = figure.x_log if axis == "x" else figure.y_log
    bars = [figure.points[end] for end in ("low", "high")] if axis == "y" else []
    parts = [figure.points[axis], *bars, *(getattr(line, axis) for line in figure.lines)]
    every = np.concatenate([np.asarray(part, dtype=float) for part in parts])
    every = every[np.isfinite(every) & ((every > 0) | (not log))]
    low, high = float(every.min()), float(every.max())
    if not log:
        margin = 0.05 * (high - low) or 1.0
        return low - margin, high + margin
    margin = max((high / low) ** 0.05, 1.05)
    return low / margin, high * margin


def log_ticks(low: float, high: float, most: int = 7) -> list[float]:
    """Three to `most` round ticks for a log axis from `low` to `high`, also below one decade."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    for mantissas in ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 4, 6, 8)):
        candidates = [round(m * 10.0**e, 15 - e) for e in range(first, last + 1) for m in mantissas]
        ticks = [tick for tick in candidates if low <= tick <= high]
        if len(ticks) >= 3:
            return ticks[:: -(-len(ticks) // most)]
    return _linear_ticks(low, high)


def _linear_ticks(low: float, high: float) -> list[float]:
    rough = (high - low) / 4
    unit = 10.0 ** math.floor(math.log10(rough))
    step = unit * max(m for m in (1, 2, 5) if m * unit <= rough)
    return [float(f"{k * step:.10g}") for k in range(math.ceil(low / step), math.floor(high / step) + 1)]


def tick_text(value: float) -> str:
    """A tick as mathtext: plain from 0.001 to 9999, otherwise 3 x 10^9."""
    exponent = math.floor(math.log10(value) + 1e-9)
    if -4 < exponent < 4:
        return f"{value:.10g}"
    mantissa = value / 10.0**exponent
    power = f"10^{{{exponent}}}"
    return f"${power}$" if abs(mantissa - 1) < 1e-6 else rf"${mantissa:.6g}{{\times}}{power}$"
