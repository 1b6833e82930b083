"""Draw charts with matplotlib, onto given axes or as files for a paper.

matplotlib is imported when something is drawn; the global state of pyplot is not touched.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.figures.style import DASHES, INK, MARKERS, Palette, axis_limits, log_ticks, tick_text

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from matplotlib.axes import Axes

    from analysis.figures.chart import Chart, Line

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
_LEGEND: Any = {"frameon": False, "handlelength": 1.6, "handletextpad": 0.5, "labelspacing": 0.25}
_BEYOND = (0, (4, 2.5))


def draw(figure: Chart, ax: Axes) -> Axes:
    """Draw a chart onto `ax` and return it. A colour bar takes its space from `ax`."""
    palette = Palette(figure)
    ax.set_xscale("log" if figure.x_log else "linear")
    ax.set_yscale("log" if figure.y_log else "linear")
    for line in figure.lines:
        _draw_line(line, palette, ax)
    _draw_points(figure, palette, ax)
    _set_axes(figure, ax)
    if figure.shade_label:
        palette.bar(_plain(figure.shade_label), ax)
    _legend(figure, palette, ax)
    _set_head(figure, ax)
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
        page = Figure(figsize=(WIDTH, HEIGHT), layout="constrained")
        FigureCanvasAgg(page)
        draw(figure, page.add_subplot())
        for path in paths:
            page.savefig(path, dpi=DPI, metadata=_undated(path.suffix))
    return paths


def _draw_line(line: Line, palette: Palette, ax: Axes) -> None:
    if line.style in ("curve", "link"):
        width, alpha = (0.5, 0.35) if line.style == "curve" else (0.8, 0.8)
        colour, dash = palette.of(line.shade), DASHES[line.dash][0]
        ax.plot(line.x, line.y, color=colour, linestyle=dash, linewidth=width, alpha=alpha, zorder=1)
        return
    if line.style == "guide":
        ax.plot(line.x, line.y, color="#888888", linewidth=0.8, linestyle=DASHES[line.dash][0], zorder=1.5)
        return
    colour = palette.of(line.shade, INK)
    if np.isfinite(line.low).any():
        ax.fill_between(line.x, line.low, line.high, color=colour, alpha=0.13, linewidth=0, zorder=2)
    within = np.flatnonzero(line.inside)
    first, last = (within[0], within[-1]) if within.size else (line.x.size, line.x.size)
    ax.plot(line.x[first : last + 1], line.y[first : last + 1], color=colour, linewidth=1.1, zorder=3)
    for side in (slice(0, first + 1), slice(last, None)):
        ax.plot(line.x[side], line.y[side], color=colour, linewidth=0.9, linestyle=_BEYOND, zorder=3)


def _draw_points(figure: Chart, palette: Palette, ax: Axes) -> None:
    """Draw the pale points, then the strong ones; one call per look, since one per point would take seconds."""
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
            marker=MARKERS[int(marker)][0],
            markersize=4.2 if strong else 2.8,
            markerfacecolor=colour,
            markeredgecolor=INK if strong else colour,
            markeredgewidth=0.7 if strong else 0.0,
            alpha=1.0 if strong else 0.6,
            zorder=front,
        )


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


def _legend(figure: Chart, palette: Palette, ax: Axes) -> None:
    """Draw the legend of lines and (without a colour bar) colours where it hides least."""
    keys: list[Any] = []
    if figure.shades and not figure.shade_label:
        keys += [_key(name, palette.of(v), marker="o", linestyle="") for v, name in figure.shades.items()]
    named = [line for line in figure.lines if line.name and line.style != "curve"]
    keys += [_key(line.name, palette.of(line.shade, INK)) for line in named]
    if keys:
        longest = max(len(key.get_label()) for key in keys)
        side, top = _free_place(figure, ax, width=min(0.1 + 0.022 * longest, 0.9), height=0.075 * len(keys))
        place: Any = {"loc": f"upper {side}", "bbox_to_anchor": (0.0 if side == "left" else 1.0, top)}
        ax.add_artist(ax.legend(handles=keys, borderaxespad=0.2, **place, **_LEGEND))


def _free_place(figure: Chart, ax: Axes, *, width: float, height: float) -> tuple[str, float]:
    """The side and the top of a box of that size, in axes units, where it hides least; of equals the highest."""
    to_axes = ax.transData + ax.transAxes.inverted()
    steps = np.linspace(0, 1, 41)
    marks = [to_axes.transform(figure.points[["x", "y"]].to_numpy(dtype=float))]
    for line in figure.lines:
        corners = to_axes.transform(np.stack([line.x, line.y], axis=1))
        at = np.linspace(0, 1, len(corners))
        marks.append(np.stack([np.interp(steps, at, corners[:, 0]), np.interp(steps, at, corners[:, 1])], axis=1))
    x, y = np.concatenate(marks).T
    hidden = {}
    for top in np.arange(1.0, height, -0.05):
        rows = (y < top) & (y > top - height)
        hidden["right", float(top)] = int(np.sum(rows & (x > 1 - width)))
        hidden["left", float(top)] = int(np.sum(rows & (x < width)))
    return min(hidden, key=lambda place: hidden[place])


def _set_head(figure: Chart, ax: Axes) -> None:
    """Draw the annotation above the axes, and below it the legends of dashes and of markers, one row each."""
    dashes = [_key(name, linestyle=DASHES[k][0]) for k, name in enumerate(figure.dashes)]
    markers = [_key(name, marker=MARKERS[k][0], linestyle="") for k, name in enumerate(figure.markers)]
    rows = [row for row in ((figure.dash_label, dashes), (figure.marker_label, markers)) if len(row[1]) > 1]
    place: Any = {"loc": "lower left", "borderpad": 0, "borderaxespad": 0.3, "columnspacing": 0.8, **_LEGEND}
    for k, (label, row) in enumerate(rows):
        keys = [_key(label, linestyle=""), *row]
        legend = ax.legend(handles=keys, ncols=len(keys), bbox_to_anchor=(-0.02, 1.0 + 0.07 * k), **place)
        legend.set_in_layout(False)  # it may extend over the colour bar: only its height needs space
        ax.add_artist(legend)
    if figure.annotation or rows:
        head = [*figure.annotation, *(" " for _ in rows)]
        ax.set_title("\n".join(head), loc="left", fontsize="medium", linespacing=1.35)


def _key(name: str, colour: Any = "#555555", **style: Any) -> Any:
    from matplotlib.lines import Line2D

    return Line2D([], [], color=colour, label=_plain(name), **{"linewidth": 1.0, "markersize": 3.5, **style})


def _plain(text: str) -> str:
    """A label without mathtext: dollar signs in column names stay dollar signs."""
    return text.replace("$", r"\$")


def _undated(suffix: str) -> dict[str, Any]:
    return {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}.get(suffix, {})
