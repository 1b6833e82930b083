"""A figure as plain data: exactly what will be drawn, in the units of its axes, before any drawing library.

Every `describe_*` returns a `Chart`; `analysis.figures.plots` draws it on paper, `analysis.report.page` on a page.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Mapping

Array = NDArray[np.float64]
Style = Literal["law", "curve", "link", "guide"]


@dataclass(frozen=True, eq=False)
class Line:
    """A line through `x`, `y` [n], with its band `low`, `high` [n] (NaN: none).

    Attributes:
        inside: [n], false where the line extrapolates, which is drawn dashed.
        style: `law` is a fit, `curve` one run's training, `link` joins points that belong together, `guide` a
            mark to compare with, such as zero.
        shade: value on the chart's colour map; NaN is ink for laws and guides, the one colour for the rest.
        dash: which of `Chart.dashes` it is; 0 is solid.
        name: what it is, for the legend and for who points at it; a curve's is its run.
        group: what a reader can filter by.
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
    """What will be drawn.

    Attributes:
        x, y: names of the columns, or of what the axes hold.
        x_label, y_label: texts with units.
        points: columns `x`, `y`, `low`, `high` (ends of an error bar; NaN: none), `shade` (NaN without one),
            `marker` (which of `markers`), `strong` (fitted, or an optimum: drawn full, the others pale),
            `name` (what a reader who points at it is told) and `group` (what a reader can filter by).
        lines: in the order in which they are drawn.
        shade_label: what the colours stand for, beside a colour bar; empty for none.
        shades: names of shades, where their numbers are not names enough. Without a `shade_label` these
            names are the legend.
        markers, dashes: names of the kinds of points and of lines; `marker_label`, `dash_label` say of what.
        x_log, y_log: whether the axis is logarithmic.
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
    x_log: bool = True
    y_log: bool = True
    annotation: tuple[str, ...] = ()

    def of(self, style: Style) -> tuple[Line, ...]:
        """The lines of one style."""
        return tuple(line for line in self.lines if line.style == style)


def line(x: Any, y: Any, *, low: Any = None, high: Any = None, inside: Any = None, **said: Any) -> Line:
    """A `Line` from anything array-like; without a band, and inside the data, unless told otherwise."""
    x, y = np.asarray(x, float), np.asarray(y, float)
    blank = np.full(x.shape, np.nan)
    return Line(
        x,
        y,
        blank if low is None else np.asarray(low, float),
        blank if high is None else np.asarray(high, float),
        np.ones(x.shape, bool) if inside is None else np.asarray(inside, bool),
        **said,
    )


def points(x: Any, y: Any, **said: Any) -> pd.DataFrame:
    """The frame `Chart.points` from columns: x and y, and those of the others that are known."""
    plain: dict[str, Any] = {
        "low": np.nan,
        "high": np.nan,
        "shade": np.nan,
        "marker": 0,
        "strong": True,
        "name": "",
        "group": "",
    }
    frame = pd.DataFrame({"x": np.asarray(x, float), "y": np.asarray(y, float)})
    return frame.assign(**{**plain, **{name: np.asarray(column) for name, column in said.items()}})
