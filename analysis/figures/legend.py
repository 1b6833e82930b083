"""The legend of a chart as plain data: one entry for every kind of mark in it, shared by the paper and the page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from analysis.figures.style import DASHES, MARKERS
from analysis.numbers import short

if TYPE_CHECKING:
    from collections.abc import Iterator

    from analysis.figures.chart import Chart

Look = Literal["strong", "pale", "curve", "link", "law", "beyond", "band", "bar", "guide"]
_NAMES: dict[Look, str] = {
    "strong": "mean of seeds",
    "pale": "other runs",
    "curve": "training curve",
    "link": "same group",
    "law": "law",
    "beyond": "extrapolation",
    "band": "interval",
    "bar": "± 1 sd of seeds",
    "guide": "reference",
}
"""Names of marks that `Chart.marks` does not name, in the order of the legend."""


@dataclass(frozen=True)
class Key:
    """An entry: a mark drawn as `look`, with a `marker` and a `dash` (indices; None: neither) and a `shade`."""

    name: str
    look: Look
    shade: float = np.nan
    marker: int | None = None
    dash: int | None = None


@dataclass(frozen=True)
class Section:
    """Entries under a title, which may be empty."""

    title: str
    keys: tuple[Key, ...]


def shades(figure: Chart) -> list[float]:
    """The shades of a chart, sorted."""
    every = np.unique([*figure.points["shade"], *(line.shade for line in figure.lines)])
    return [float(shade) for shade in every[np.isfinite(every)]]


def has_bar(figure: Chart) -> bool:
    """Whether colours are named by a bar, since they are more than a legend can tell apart."""
    return bool(figure.shade_label) and len(shades(figure)) > len(MARKERS)


def markers(figure: Chart) -> dict[float, int]:
    """The marker of each shade, where markers have no meaning of their own and suffice for all shades."""
    found = shades(figure)
    free = len(figure.markers) == 1 and 1 < len(found) <= len(MARKERS)
    return {shade: k for k, shade in enumerate(found)} if free else {}


def dashes(figure: Chart) -> dict[float, int]:
    """The dash of the links of each shade, where dashes have no meaning of their own; neighbours differ."""
    found = shades(figure)
    free = len(figure.dashes) == 1 and 1 < len(found) <= len(MARKERS)
    return {shade: k % len(DASHES) for k, shade in enumerate(found)} if free else {}


def groups(figure: Chart) -> list[Section]:
    """The legend of what tells groups apart: colours (unless a bar names them), markers, and dashes."""
    markers = (Key(name, "strong", marker=k) for k, name in enumerate(figure.markers))
    dashes = (Key(name, "link", dash=k) for k, name in enumerate(figure.dashes))
    parts = [
        Section(figure.shade_label, tuple(_shade_keys(figure))),
        Section(figure.marker_label, _several(markers)),
        Section(figure.dash_label, _several(dashes)),
    ]
    return [part for part in parts if part.keys]


def marks(figure: Chart) -> Section:
    """The legend of every other kind of mark."""
    keys = [key for part in groups(figure) for key in part.keys]
    linked = any(key.dash is not None for key in keys)
    return Section("", tuple(_mark_keys(figure, {key.look for key in keys} | ({"link"} if linked else set()))))


def _several(keys: Iterator[Key]) -> tuple[Key, ...]:
    every = tuple(keys)
    return every if len(every) > 1 else ()


def _shade_keys(figure: Chart) -> Iterator[Key]:
    if has_bar(figure) or not (figure.shade_label or figure.shades):
        return
    linked = {line.shade for line in figure.of("link")}
    marker, dash = markers(figure), dashes(figure)
    for shade in shades(figure):
        name = figure.shades.get(shade) or short(shade, 4)
        own = dash.get(shade, 0) if shade in linked and len(figure.dashes) == 1 else None
        yield Key(name, "strong", shade, marker.get(shade, 0), own)


def _mark_keys(figure: Chart, explained: set[Look]) -> Iterator[Key]:
    """A key for each kind of mark that is drawn and not `explained` by others, or that the chart names itself."""
    named = [line for line in figure.of("law") if line.name]
    for look in _present(figure):
        if look == "law" and named:
            yield from (Key(line.name, "law", line.shade, dash=0) for line in named)
        elif look in figure.marks or look not in explained:
            line = look in ("curve", "link", "law", "guide")
            point = look in ("strong", "pale")
            yield Key(
                figure.marks.get(look, _NAMES[look]), look, marker=0 if point else None, dash=0 if line else None
            )


def _present(figure: Chart) -> list[Look]:
    """The kinds of marks that are drawn, in the order of the legend."""
    points, laws = figure.points, figure.of("law")
    strong = points["strong"].to_numpy(dtype=bool)
    there: dict[Look, bool] = {
        "strong": bool(strong.any()),
        "pale": bool((~strong).any()),
        "curve": bool(figure.of("curve")),
        "link": bool(figure.of("link")),
        "law": bool(laws),
        "beyond": any(not line.inside.all() for line in laws),
        "band": any(bool(np.isfinite(line.low).any()) for line in laws),
        "bar": bool((points["high"] > points["low"]).any()),
        "guide": bool(figure.of("guide")),
    }
    return [look for look in _NAMES if there[look]]
