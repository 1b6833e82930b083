"""A figure as plain data: exactly what will be drawn, in the units of its axes, independent of any drawing library.

Every `describe_*` returns a `Chart`; `analysis.figures.plots` draws it with matplotlib, `analysis.report.page` with
plotly.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.table import columns

if TYPE_CHECKING:
    from collections.abc import Mapping

    from analysis.figures.legend import Look

Array = NDArray[np.float64]
Style = Literal["law", "curve", "link", "guide"]


@dataclass(frozen=True, eq=False)
class Line:
    """A line through `x`, `y` [n], with its band `low`, `high` [n] (NaN: none).

    Attributes:
        inside: [n], false where the line extrapolates; that part is drawn dashed.
        style: `law` is a fit, `curve` the training curve of a run, `link` joins points that belong together,
            `guide` is a reference line, such as zero.
        shade: value on the chart's colour map; NaN is ink for laws and guides, the default colour for the rest.
        dash: index into `Chart.dashes`; 0 is solid.
        name: text for the legend and the tooltip; for a curve, its run.
        group: value by which the page filters.
    """

    x: Array
    y: Array
    low: Array
    high: Array
    inside: NDArray[np.bool_]
    style: Style = "law"
    shade: float = np.nan
    dash: int = 0
    name: str = ""
    group: str = ""


@dataclass(frozen=True, eq=False)
class Chart:
    """A figure to draw.

    Attributes:
        x, y: names of the quantities on the axes.
        x_label, y_label: labels with units.
        points: columns `x`, `y`, `low`, `high` (ends of an error bar; NaN: none), `shade` (NaN: none), `marker`
            (index into `markers`), `strong` (fitted, or an optimum: drawn full, the others pale), `name` (tooltip)
            and `group` (value by which the page filters).
        lines: in the order in which they are drawn.
        shade_label: label of the colour bar; empty for none.
        shades: names of shades; without a `shade_label` they are the legend.
        markers, dashes: names of the kinds of points and of lines; `marker_label`, `dash_label` are their titles.
        x_log, y_log: whether the axis is logarithmic.
        marks: names in the legend of other kinds of marks, by their `legend.Look`; the rest have their usual names.
        annotation: lines of text above the axes, mathtext between dollar signs.
    """

    x: str
    y: str
    x_label: str
    y_label: str
    points: pd.DataFrame = field(repr=False)
    lines: tuple[Line, ...] = field(repr=False, default=())
    shade_label: str = ""
    shades: Mapping[float, str] = field(default_factory=dict)
    markers: tuple[str, ...] = ("",)
    marker_label: str = ""
    dashes: tuple[str, ...] = ("",)
    dash_label: str = ""
    marks: Mapping[Look, str] = field(default_factory=dict)
    x_log: bool = True
    y_log: bool = True
    annotation: tuple[str, ...] = ()

    def of(self, style: Style) -> tuple[Line, ...]:
        """The lines of one style."""
        return tuple(line for line in self.lines if line.style == style)


def axes(x: str, y: str) -> dict[str, Any]:
    """The keywords `x`, `y`, `x_label` and `y_label` of a `Chart` of two columns."""
    return {"x": x, "y": y, "x_label": columns.label(x), "y_label": columns.label(y)}


def line(x: Any, y: Any, *, low: Any = None, high: Any = None, inside: Any = None, **attributes: Any) -> Line:
    """A `Line` from array-likes; by default without a band and inside the data."""
    x, y = np.asarray(x, float), np.asarray(y, float)
    blank = np.full(x.shape, np.nan)
    return Line(
        x,
        y,
        blank if low is None else np.asarray(low, float),
        blank if high is None else np.asarray(high, float),
        np.ones(x.shape, bool) if inside is None else np.asarray(inside, bool),
        **attributes,
    )


def points(x: Any, y: Any, **others: Any) -> pd.DataFrame:
    """The frame `Chart.points` from x, y and any of its other columns; the rest get their defaults."""
    frame = pd.DataFrame({"x": np.asarray(x, float), "y": np.asarray(y, float)})
    frame = frame.assign(low=np.nan, high=np.nan, shade=np.nan, marker=0, strong=True, name="", group="")
    return frame.assign(**{name: np.asarray(column) for name, column in others.items()})
