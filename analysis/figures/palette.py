"""The colours of a chart: one perceptual map over the logarithm of its shades; steps where they are few."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.figures.ticks import log_ticks, tick_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap, Normalize
    from numpy.typing import NDArray

    from analysis.figures.chart import Chart

INK, PLAIN = "#222222", "#4C6A92"
_FEW = 8
_LIGHTEST = 0.88  # of viridis: its yellow end vanishes on white paper


class Palette:
    """Colours of shades, and the bar that names them.

    Attributes:
        shades: the distinct shades of the chart, sorted.
        stepped: whether they are few enough for a step each.
    """

    def __init__(self, figure: Chart) -> None:
        import matplotlib as mpl
        from matplotlib.colors import BoundaryNorm, ListedColormap, LogNorm

        shades = [*figure.points["shade"], *(line.shade for line in figure.lines)]
        self.shades = np.unique(np.asarray(shades, dtype=float))
        self.shades = self.shades[np.isfinite(self.shades)]
        self._names = figure.shades
        smooth = mpl.colormaps["viridis"]
        self.map: Colormap = ListedColormap(smooth(np.linspace(0.0, _LIGHTEST, 256)))
        self.stepped = 0 < self.shades.size <= _FEW
        self.norm: Normalize
        if self.stepped:
            self.map = ListedColormap(smooth(_places(self.shades)))
            self.norm = BoundaryNorm(_edges(self.shades), self.shades.size)
        else:
            self.norm = LogNorm(*(self.shades[[0, -1]] if self.shades.size else (1.0, 10.0)))

    def of(self, shade: float, otherwise: str = PLAIN) -> Any:
        """The colour of a shade; `otherwise` without one."""
        return self.map(self.norm(shade)) if math.isfinite(shade) else otherwise

    def hex(self, shade: float, otherwise: str = PLAIN) -> str:
        """The same as `#rrggbb`."""
        from matplotlib.colors import to_hex

        return str(to_hex(self.of(shade, otherwise)))

    def bar(self, label: str, ax: Axes) -> None:
        """A slim colour bar beside the axes, one step a value where they are few."""
        from matplotlib.cm import ScalarMappable
        from matplotlib.ticker import FixedLocator, NullLocator

        bar = ax.figure.colorbar(ScalarMappable(self.norm, self.map), ax=ax, aspect=28, pad=0.02, spacing="uniform")
        bar.outline.set_visible(False)
        edges = _edges(self.shades)
        ticks = (edges[1:] + edges[:-1]) / 2 if self.stepped else log_ticks(*self.shades[[0, -1]])
        named = self.shades if self.stepped else ticks
        bar.ax.yaxis.set_major_locator(FixedLocator(list(ticks)))
        bar.ax.yaxis.set_minor_locator(NullLocator())
        bar.ax.set_yticklabels([self._names.get(float(v)) or tick_text(float(v)) for v in named])
        bar.ax.tick_params(length=0 if self.stepped else 2)
        bar.set_label(label)


def _places(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Where each value lies on the colour map, [values] in 0 to _LIGHTEST, by its logarithm."""
    logs = np.log(values)
    return np.asarray(_LIGHTEST * (logs - logs[0]) / max(logs[-1] - logs[0], 1e-12))


def _edges(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Boundaries between values, [values + 1], in the middle of their logarithms."""
    logs = np.log(values)
    middle = (logs[1:] + logs[:-1]) / 2
    first, last = (middle[0] - logs[0], logs[-1] - middle[-1]) if values.size > 1 else (0.5, 0.5)
    return np.asarray(np.exp(np.concatenate([[logs[0] - first], middle, [logs[-1] + last]])))
