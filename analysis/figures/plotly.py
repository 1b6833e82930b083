"""A chart as plotly's JSON, with the points, lines and colours that `analysis.figures.plots` draws.

plotly interprets some tags in its texts, so every text that comes from a table is escaped here.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.figures import legend
from analysis.figures.style import DASHES, INK, MARKERS, PLAIN, Palette, axis_limits, log_ticks

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pandas as pd

    from analysis.figures.chart import Chart, Line

_GREY = "#8a8a86"
_PENS: dict[str, dict[str, Any]] = {
    "curve": {"width": 1},
    "link": {"width": 1.2},
    "guide": {"width": 1.2},
    "law": {"width": 2, "dash": "solid"},
    "beyond": {"width": 1.5, "dash": "dash"},
}


def to_plotly(figure: Chart) -> dict[str, Any]:
    """`{"data": [traces], "layout": {...}}` of a chart, as JSON can hold it.

    The `meta` of a trace is the group by which the page filters, empty for traces that always stay. Annotations are
    left out: the page has them as text.
    """
    palette, dashes = Palette(figure), legend.dashes(figure)
    drawn = [line for line in figure.lines if line.style != "curve"]
    traces = [trace for line in drawn for trace in _line(line, dashes.get(line.shade, line.dash), palette)]
    traces = [*_curves(figure, palette), *traces, *_points(figure, palette), *_keys(figure, palette)]
    axes = {f"{name}axis": _axis(figure, name) for name in ("x", "y")}
    return {"data": traces, "layout": {**axes, "showlegend": any(trace.get("showlegend") for trace in traces)}}


def escaped(text: str) -> str:
    """A text escaped so that plotly shows it letter by letter."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _axis(figure: Chart, name: str) -> dict[str, Any]:
    """An axis with powers of ten if it spans two decades or more, else plain numbers: a lone `5` is ambiguous."""
    label, log = (figure.x_label, figure.x_log) if name == "x" else (figure.y_label, figure.y_log)
    low, high = axis_limits(figure, name)
    axis = {"title": {"text": escaped(label)}, "type": "log" if log else "linear"}
    if not log:
        return {**axis, "range": numbers([low, high])}
    ticks = log_ticks(low, high)
    ticked = {"tickvals": numbers(ticks), "ticktext": [short_power(tick) for tick in ticks]}
    minor = {"minor": {"ticks": "outside", "ticklen": 3, "dtick": "D1"}} if high > 30 * low else {}
    return {**axis, "range": numbers(np.log10([low, high])), **ticked, **minor}


def _line(line: Line, dash: int, palette: Palette) -> Iterable[dict[str, Any]]:
    """The band, the part inside the data, and the dashed ends of a line."""
    colour = palette.hex(line.shade, {"law": INK, "guide": _GREY}.get(line.style, PLAIN))
    plain = {"type": "scatter", "mode": "lines", "hoverinfo": "skip", "showlegend": False, "meta": line.group}
    if line.style != "law":
        pen = {"color": colour, "width": 1.2, "dash": DASHES[dash if line.style == "link" else line.dash][1]}
        yield {**plain, "x": numbers(line.x), "y": numbers(line.y), "line": pen, "opacity": 0.8}
        return
    if np.isfinite(line.low).any():
        ring = {"x": numbers([*line.x, *line.x[::-1]]), "y": numbers([*line.low, *line.high[::-1]])}
        yield {**plain, **ring, "fill": "toself", "fillcolor": colour, "opacity": 0.13, "line": {"width": 0}}
    within = np.flatnonzero(line.inside)
    first, last = (within[0], within[-1]) if within.size else (line.x.size, line.x.size)
    for part, look in (
        (slice(first, last + 1), "law"),
        (slice(0, first + 1), "beyond"),
        (slice(last, None), "beyond"),
    ):
        if line.x[part].size > 1:
            pen = {"color": colour, **_PENS[look]}
            yield {**plain, "x": numbers(line.x[part]), "y": numbers(line.y[part]), "line": pen}


def _curves(figure: Chart, palette: Palette) -> list[dict[str, Any]]:
    """Training curves; one trace with gaps per colour and group, since a hundred traces would be slow."""
    together: dict[tuple[str, str], list[Line]] = {}
    for line in figure.of("curve"):
        together.setdefault((palette.hex(line.shade), line.group), []).append(line)
    traces = []
    for (colour, group), lines in together.items():
        x, y = ([v for line in lines for v in (*numbers(getattr(line, axis)), None)] for axis in ("x", "y"))
        names = [name for line in lines for name in (*[escaped(f"run {line.name[:8]}")] * line.x.size, "")]
        plain = {"type": "scatter", "mode": "lines", "showlegend": False, "meta": group, "opacity": 0.35}
        hover = {"text": names, "hovertemplate": _hover(figure)}
        traces.append({**plain, **hover, "x": x, "y": y, "line": {"color": colour, "width": 1}})
    return traces


def _points(figure: Chart, palette: Palette) -> list[dict[str, Any]]:
    """One trace per group, the strong points over the pale ones."""
    ordered = figure.points.sort_values("strong", kind="stable")
    return [_trace(str(group), part, figure, palette) for group, part in ordered.groupby("group", sort=True)]


def _trace(group: str, part: pd.DataFrame, figure: Chart, palette: Palette) -> dict[str, Any]:
    strong = part["strong"].to_numpy(dtype=bool)
    own = legend.markers(figure)
    marker = {
        "color": [palette.hex(float(shade)) for shade in part["shade"]],
        "symbol": [
            MARKERS[own.get(float(shade), int(kind))][1]
            for shade, kind in zip(part["shade"], part["marker"], strict=True)
        ],
        "size": np.where(strong, 9, 6).tolist(),
        "opacity": np.where(strong, 1.0, 0.6).tolist(),
        "line": {"color": INK, "width": np.where(strong, 1, 0).tolist()},
    }
    trace = {
        "type": "scatter",
        "mode": "markers",
        "name": escaped(group),
        "meta": group,
        "showlegend": False,
        "x": numbers(part["x"]),
        "y": numbers(part["y"]),
        "text": [escaped(str(name)) for name in part["name"]],
        "hovertemplate": _hover(figure),
        "marker": marker,
    }
    up, down = (part["high"] - part["y"]).to_numpy(dtype=float), (part["y"] - part["low"]).to_numpy(dtype=float)
    if np.any(up > 0) or np.any(down > 0):
        bars = {"type": "data", "symmetric": False, "thickness": 1, "width": 2, "color": "#b8b8b2"}
        trace["error_y"] = {**bars, "array": numbers(up), "arrayminus": numbers(down)}
    return trace


def _hover(figure: Chart) -> str:
    x, y = (escaped(name).replace("%", "&#37;").replace("{", "&#123;") for name in (figure.x, figure.y))
    return f"%{{text}}<br>{x} %{{x:.4~g}}<br>{y} %{{y:.4~g}}<extra></extra>"


def _keys(figure: Chart, palette: Palette) -> list[dict[str, Any]]:
    """The legend, and the colour bar if there are many colours."""
    nothing = {"type": "scatter", "x": [None], "y": [None], "hoverinfo": "skip", "meta": ""}
    keys: list[dict[str, Any]] = []
    if legend.has_bar(figure):
        keys.append({**nothing, "mode": "markers", "showlegend": False, "marker": _bar(figure, palette)})
    for k, part in enumerate([*legend.groups(figure), legend.marks(figure)]):
        group = {"legendgroup": str(k), "legendgrouptitle": {"text": escaped(part.title)}}
        looks = [{"name": escaped(key.name), "showlegend": True, **_look(key, palette)} for key in part.keys]
        keys += [{**nothing, **group, **look} for look in looks]
    return keys


def _look(key: legend.Key, palette: Palette) -> dict[str, Any]:
    """How the mark of an entry is drawn."""
    colour = palette.hex(key.shade, _GREY)
    if key.look == "band":
        return {"mode": "markers", "marker": {"symbol": "square", "color": colour, "size": 12, "opacity": 0.3}}
    if key.look == "bar":
        return {
            "mode": "markers",
            "marker": {"symbol": "line-ns", "size": 10, "line": {"color": colour, "width": 1}},
        }
    if key.look not in ("strong", "pale"):
        pen = {"color": colour, "dash": DASHES[key.dash or 0][1], **_PENS[key.look]}
        return {"mode": "lines", "line": pen, "opacity": 0.35 if key.look == "curve" else 1}
    strong = key.look == "strong"
    dot = {"symbol": MARKERS[key.marker or 0][1], "color": colour, "size": 9 if strong else 6}
    marker = {**dot, "opacity": 1.0 if strong else 0.6, "line": {"color": INK, "width": int(strong)}}
    if key.dash is None:
        return {"mode": "markers", "marker": marker}
    return {"mode": "lines+markers", "marker": marker, "line": {"color": colour, "dash": DASHES[key.dash][1]}}


def _bar(figure: Chart, palette: Palette) -> dict[str, Any]:
    """An invisible marker that carries the colour bar, on the logarithm of the shades."""
    low, high = (float(v) for v in palette.shades[[0, -1]])
    places = np.linspace(0, 1, 9)
    colours = [palette.hex(float(math.exp(math.log(low) + p * math.log(high / low)))) for p in places]
    ticks = log_ticks(low, high)
    return {
        "color": [math.log10(low)],
        "cmin": math.log10(low),
        "cmax": math.log10(high),
        "colorscale": [[float(p), colour] for p, colour in zip(places, colours, strict=True)],
        "showscale": True,
        "colorbar": {
            "title": {"text": escaped(figure.shade_label), "side": "right"},
            "tickvals": [math.log10(tick) for tick in ticks],
            "ticktext": [short_power(tick) for tick in ticks],
            "thickness": 10,
            "outlinewidth": 0,
        },
    }


def short_power(tick: float) -> str:
    """A tick as HTML, as `analysis.figures.style.tick_text` is in mathtext."""
    mantissa, _, power = f"{tick:.5e}".partition("e")
    if -4 < int(power) < 4:
        return f"{tick:.10g}"
    whole = mantissa.rstrip("0").rstrip(".")
    return f"10<sup>{int(power)}</sup>" if whole == "1" else f"{whole}\u00d710<sup>{int(power)}</sup>"


def numbers(values: Any) -> list[float | None]:
    """Numbers to six digits, more than a screen can show; None for NaN and infinity."""
    return [float(f"{value:.6g}") if math.isfinite(value) else None for value in np.asarray(values, dtype=float)]
