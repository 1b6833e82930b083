"""The figures that the table of a sweep can be drawn as, by name: what a figure is, and what it may draw from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from analysis.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import pandas as pd

    from analysis.approaches.isoflop_fit import IsoflopFit
    from analysis.approaches.learning_rate import LearningRates
    from analysis.approaches.surface import SurfaceFit
    from analysis.checks.compare import Comparison
    from analysis.checks.verdict import Verdict
    from analysis.figures.chart import Chart
    from analysis.fits.result import LawFit


class FigureError(ValueError):
    """This table cannot be drawn as this figure; the message says why."""


class Findings(Protocol):
    """What a figure may draw from: the runs of one sweep and what was fitted to them.

    Fits are made when they are first read. Where the table does not allow one, reading it raises FigureError,
    ValueError or FitError with the reason; a figure may let that pass, and the reason is shown in its place.
    """

    @property
    def frame(self) -> pd.DataFrame:
        """One row per run, in any state; the columns of `orchestrator.results`."""

    @property
    def y(self) -> str:
        """The column that was measured."""

    @property
    def history(self) -> pd.DataFrame | None:
        """One row per record of a run, or None."""

    @property
    def done(self) -> pd.DataFrame:
        """The finished runs, at least one."""

    @property
    def best(self) -> pd.DataFrame:
        """The finished runs of the best cell of each model, dataset size and budget."""

    @property
    def axes(self) -> tuple[str, ...]:
        """The columns in which a law may exist on this task."""

    @property
    def isoflop(self) -> IsoflopFit:
        """Approach 2."""

    @property
    def surface(self) -> SurfaceFit:
        """Approach 3."""

    @property
    def learning_rates(self) -> LearningRates:
        """The best learning rate of each design."""

    @property
    def comparison(self) -> Comparison:
        """The two families of the table, compared."""

    @property
    def verdict(self) -> Verdict:
        """What the table supports."""

    def law(self, x: str) -> LawFit:
        """What was measured against one of `axes`."""


@dataclass(frozen=True)
class Figure:
    """An entry of FIGURES.

    Attributes:
        heading: title on the page.
        describe: turns findings into a chart; raises FigureError, ValueError or FitError if they do not allow it.
        whole: whether a table of several populations is drawn as one, instead of a figure for each population.
        together: draws the findings on several populations, by name, as one chart; errors as for `describe`.
    """

    heading: str
    describe: Callable[[Findings], Chart]
    whole: bool = False
    together: Callable[[Mapping[str, Findings]], Chart] | None = None


def _check(name: str, figure: Any) -> None:
    """Raise TypeError if a figure lacks a part."""
    heading, describe = (getattr(figure, part, None) for part in ("heading", "describe"))
    lacking = [] if isinstance(heading, str) else ["heading"]
    lacking += [] if callable(describe) else ["describe"]
    if lacking:
        what = f"figure {name!r} lacks {' and '.join(lacking)}"
        raise TypeError(f"{what}; expected analysis.figures.registry.Figure(heading, describe)")


_BUILT_IN: dict[str, Figure | str] = {
    "runs": "analysis.figures.runs:RUNS",
    "error-vs-flops": "analysis.figures.law:ERROR_VS_FLOPS",
    "error-vs-params": "analysis.figures.law:ERROR_VS_PARAMS",
    "error-vs-examples": "analysis.figures.law:ERROR_VS_EXAMPLES",
    "isoflop": "analysis.figures.optima:ISOFLOP",
    "optima": "analysis.figures.optima:OPTIMA",
    "families": "analysis.figures.runs:FAMILIES",
    "learning-rate": "analysis.figures.optima:LEARNING_RATE",
    "batch-size": "analysis.figures.runs:BATCH_SIZE",
    "residuals": "analysis.figures.residuals:RESIDUALS",
    "held-out": "analysis.figures.residuals:HELD_OUT",
}
FIGURES = Registry("figure", "isoflop.figures", _check, _BUILT_IN)
"""The figures of `isoflop plot` and of the page."""


def names() -> list[str]:
    """All names: the built-in figures in the order of the page, then the others, sorted."""
    return list(dict.fromkeys([*_BUILT_IN, *FIGURES.names()]))
