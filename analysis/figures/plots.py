"""Draw charts with matplotlib, onto given axes or as files for a paper.

matplotlib is imported when something is drawn; the global state of pyplot is not touched.
"""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.figures import legend
from analysis.figures.chart import Chart
from analysis.figures.style import DASHES, INK, MARKERS, Palette, axis_limits, log_ticks, tick_text

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from matplotlib.axes import Axes

    from analysis.figures.chart import Line

WIDTH, HEIGHT, DPI = 3.5, 2.9, 200
"""Size in inches, one column of a paper wide, and dots per inch of a PNG."""
_STYLE: Any = {
    "font.size": 8,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.minor.width": 0.4,
    "ytick.minor.width": 0.4,
    "svg.hashsalt": "isoflop",
    "svg.fonttype": "path",
    "pdf.fonttype": 42,
    "legend.fontsize": 7,
}
_LEGEND: Any = {
    "frameon": False,
    "handlelength": 1.6,
    "handletextpad": 0.5,
    "borderaxespad": 0.0,
    "labelspacing": 0.25,
}
_PENS: dict[str, Any] = {
    "curve": {"linewidth": 0.5, "alpha": 0.35},
    "link": {"linewidth": 0.8, "alpha": 0.8},
    "guide": {"linewidth": 0.8},
    "law": {"linewidth": 1.1},
    "beyond": {"linewidth": 0.9, "linestyle": (0, (4, 2.5))},
}
_BAND: Any = {"alpha": 0.13, "linewidth": 0}
_GREY = "#888888"
_RIGHT = 22
"""Most letters of an entry beside the axes; longer ones stand below."""


def draw(figure: Chart, ax: Axes) -> Axes:
    """Draw a chart onto `ax` and return it. A colour bar takes its space from `ax`."""
    palette = Palette(figure)
    ax.set_xscale("log" if figure.x_log else "linear")
    ax.set_yscale("log" if figure.y_log else "linear")
    own = legend.dashes(figure)
    for line in figure.lines:
        _draw_line(line, own.get(line.shade, line.dash), palette, ax)
    _draw_points(figure, palette, ax)
    _set_axes(figure, ax)
    if legend.has_bar(figure):
        palette.bar(_plain(figure.shade_label), ax)
    _legend(figure, palette, ax)
    if figure.annotation:
        ax.set_title("\n".join(figure.annotation), loc="left", fontsize="medium", linespacing=1.35)
    return ax


def save(
    figure: Any,
    stem: Path | str,
    formats: Sequence[str] = ("png", "svg"),
    draw: Callable[[Any, Axes], Axes] = draw,
) -> list[Path]:
    """Write `<stem>.<format>` for each format and return the paths; missing folders are created.

    `draw(figure, ax)` draws what was described, by default a `Chart`. Files are one paper column wide, at 200 dots
    per inch. The same figure gives the same bytes: files have no dates and fixed ids.

    Raises:
        ValueError: matplotlib does not support the format.
    """
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    stem = Path(stem)
    stem.parent.mkdir(parents=True, exist_ok=True)
    paths = [stem.with_name(f"{stem.name}.{kind}") for kind in formats]
    with mpl.rc_context(_STYLE):
        page = Figure(
            figsize=(WIDTH, _height(figure) if isinstance(figure, Chart) else HEIGHT), layout="constrained"
        )
        FigureCanvasAgg(page)
        draw(figure, page.add_subplot())
        for path in paths:
            page.savefig(path, dpi=DPI, metadata=_undated(path.suffix))
    return paths


def _draw_line(line: Line, dash: int, palette: Palette, ax: Axes) -> None:
    if line.style != "law":
        colour = _GREY if line.style == "guide" else palette.of(line.shade)
        style = DASHES[dash if line.style == "link" else line.dash][0]
        ax.plot(line.x, line.y, color=colour, linestyle=style, zorder=1, **_PENS[line.style])
        return
    colour = palette.of(line.shade, INK)
    if np.isfinite(line.low).any():
        ax.fill_between(line.x, line.low, line.high, color=colour, zorder=2, **_BAND)
    within = np.flatnonzero(line.inside)
    first, last = (within[0], within[-1]) if within.size else (line.x.size, line.x.size)
    ax.plot(line.x[first : last + 1], line.y[first : last + 1], color=colour, zorder=3, **_PENS["law"])
    for side in (slice(0, first + 1), slice(last, None)):
        ax.plot(line.x[side], line.y[side], color=colour, zorder=3, **_PENS["beyond"])


def _draw_points(figure: Chart, palette: Palette, ax: Axes) -> None:
    """Draw the pale points, then the strong ones; one call per look, since one per point would take seconds."""
    own = legend.markers(figure)
    for _, part in figure.points.groupby(["strong", "marker", "shade"], dropna=False):
        strong, marker, shade = (part[name].to_numpy()[0] for name in ("strong", "marker", "shade"))
        colour, front = palette.of(float(shade)), 5 if strong else 4
        bars = part[part["high"] > part["low"]]
        if len(bars):
            x, y, low, high = (bars[name].to_numpy(dtype=float) for name in ("x", "y", "low", "high"))
            ends = np.maximum([y - low, high - y], 0.0)
            ax.errorbar(x, y, ends, color=colour, elinewidth=0.7, capsize=1.2, fmt="none", zorder=front)
        ax.plot(
            part["x"],
            part["y"],
            linestyle="",
            marker=MARKERS[own.get(float(shade), int(marker))][0],
            zorder=front,
            **_dot(colour, strong=bool(strong)),
        )


def _dot(colour: Any, *, strong: bool) -> dict[str, Any]:
    edge: dict[str, Any] = {"markeredgecolor": INK if strong else colour, "markeredgewidth": 0.7 if strong else 0.0}
    size, alpha = (4.2, 1.0) if strong else (2.8, 0.6)
    return {"markerfacecolor": colour, "markersize": size, "alpha": alpha, **edge}


def _set_axes(figure: Chart, ax: Axes) -> None:
    from matplotlib.ticker import FixedLocator, NullFormatter, NullLocator

    for name, axis, log in (("x", ax.xaxis, figure.x_log), ("y", ax.yaxis, figure.y_log)):
        limits = axis_limits(figure, name)
        (ax.set_xlim if name == "x" else ax.set_ylim)(*limits)
        if not log:
            continue
        ticks = log_ticks(*limits, most=6)
        axis.set_major_locator(FixedLocator(ticks))
        axis.set_ticklabels([tick_text(tick) for tick in ticks])
        if limits[1] < 30 * limits[0]:
            axis.set_minor_locator(NullLocator())
        axis.set_minor_formatter(NullFormatter())
    ax.set_xlabel(_plain(figure.x_label))
    ax.set_ylabel(_plain(figure.y_label))
    ax.spines[["top", "right"]].set_visible(False)


def _sides(figure: Chart) -> tuple[list[legend.Section], list[legend.Section]]:
    """The sections of the legend to the right of the axes, and those below: marks, and groups that are too long."""
    groups = legend.groups(figure)
    fits = not legend.has_bar(figure) and all(_longest(part) <= _RIGHT for part in groups)
    rest = legend.marks(figure)
    return (groups if fits else []), [*([] if fits else groups), *([rest] if rest.keys else [])]


def _legend(figure: Chart, palette: Palette, ax: Axes) -> None:
    """Draw the legend outside of the axes: groups to the right, the kinds of marks below."""
    from matplotlib.transforms import ScaledTranslation

    right, below = _sides(figure)
    if right:
        keys = [key for part in right for key in _handles(part, palette)]
        beside = ax.legend(handles=keys, loc="upper left", bbox_to_anchor=(1.02, 1.0), **_LEGEND)
    if below:
        under = 3.8 * float(ax.xaxis.label.get_fontsize()) / 72  # inches: ticks and label of the axis
        place = ax.transAxes + ScaledTranslation(0, -under, ax.figure.dpi_scale_trans)
        keys = [key for part in below for key in _handles(part, palette)]
        look: Any = {"loc": "upper left", "bbox_to_anchor": (0, 0), "bbox_transform": place, **_LEGEND}
        ax.legend(handles=keys, ncols=_columns(below), columnspacing=1.0, **look)
    if right and below:
        ax.add_artist(beside)  # the second legend has replaced it
        beside.set_clip_on(False)  # clipped to the axes it would get no space


def _longest(part: legend.Section) -> int:
    return max(len(key.name) for key in part.keys)


def _columns(parts: list[legend.Section]) -> int:
    longest = max(map(_longest, parts))
    return 3 if longest <= 14 else 2 if longest <= 22 else 1


def _height(figure: Chart) -> float:
    """The height of a file in inches, with space for the legend and the lines above the axes."""
    right, below = (sum(len(part.keys) + bool(part.title) for part in side) for side in _sides(figure))
    rows = -(-below // _columns(_sides(figure)[1])) if below else 0
    return max(HEIGHT, 0.55 + 0.135 * right) + 0.135 * rows + 0.15 * len(figure.annotation)


def _handles(part: legend.Section, palette: Palette) -> list[Any]:
    """The entries of a section, under its title."""
    from matplotlib.lines import Line2D

    title = _plain(textwrap.fill(part.title, 16))
    return [
        *([Line2D([], [], linestyle="", label=title)] if title else []),
        *(_handle(key, palette) for key in part.keys),
    ]


def _handle(key: legend.Key, palette: Palette) -> Any:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    colour, label = palette.of(key.shade, _GREY), _plain(key.name)
    if key.look == "band":
        return Patch(facecolor=colour, label=label, alpha=0.3)
    if key.look == "bar":
        return Line2D(
            [], [], color=colour, label=label, linestyle="", marker="|", markersize=7, markeredgewidth=0.7
        )
    if key.look in ("strong", "pale"):
        line: Any = "" if key.dash is None else DASHES[key.dash][0]
        dot = _dot(colour, strong=key.look == "strong") | {"marker": MARKERS[key.marker or 0][0]}
        return Line2D([], [], color=colour, label=label, linestyle=line, linewidth=0.8, **dot)
    return Line2D([], [], color=colour, label=label, **{"linestyle": DASHES[key.dash or 0][0], **_PENS[key.look]})


def _plain(text: str) -> str:
    """A label without mathtext: dollar signs in column names stay dollar signs."""
    return text.replace("$", r"\$")


def _undated(suffix: str) -> dict[str, Any]:
    return {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}.get(suffix, {})
