"""The runs of a sweep with what was fitted to them, and the figures drawn from both."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from analysis import Chart, FitError, best_learning_rates, compare, fit_isoflop, fit_surface, verdict
from analysis.figures import registry
from analysis.figures.registry import FIGURES, FigureError
from orchestrator.reporting.laws import LEAST, AxisLaw, laws, on_zipf, shares_budgets

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pandas as pd

    from analysis import Comparison, IsoflopFit, LawFit, LearningRates, SurfaceFit, Verdict


@dataclass(frozen=True)
class Findings:
    """The runs of a sweep and what was fitted to them; each fit is made once, when it is first read.

    What the table does not allow raises FigureError, ValueError or FitError with the reason.

    Attributes:
        frame: one row per run, as the table gives it.
        history: the records of the runs, or None.
        resamples: of every interval.
        judged: resamples of the verdict, which fits a dozen times.
    """

    frame: pd.DataFrame
    history: pd.DataFrame | None = None
    resamples: int = 1000
    judged: int = 200

    @cached_property
    def done(self) -> pd.DataFrame:
        """The finished runs; FigureError if there are none."""
        done = self.frame[self.frame["state"] == "done"]
        if not len(done):
            raise FigureError("no run is done yet")
        return done

    @cached_property
    def best(self) -> pd.DataFrame:
        """The finished runs of the best cell of each model, dataset size and budget."""
        done = self.done.dropna(subset=["error"])
        mean = done.groupby("cell_id", sort=False)["error"].transform("mean")
        lowest = mean.groupby([done[name] for name in ("model", "dataset_size", "budget")]).transform("min")
        return done[mean == lowest]

    @cached_property
    def laws(self) -> list[AxisLaw]:
        """Error against each axis."""
        return laws(self.frame, resamples=self.resamples)

    @property
    def axes(self) -> tuple[str, ...]:
        """The columns in which error may be a law on this task."""
        return tuple(law.x for law in self.laws)

    def law(self, x: str) -> LawFit:
        """Error against one of `axes`; FigureError if it has no fit."""
        law = next(law for law in self.laws if law.x == x)
        if law.fit is None:
            raise FigureError(law.why_not)
        return law.fit

    @cached_property
    def isoflop(self) -> IsoflopFit:
        """Approach 2; FigureError if budgets are not shared by several sizes."""
        if not shares_budgets(self.done):
            raise FigureError("no budget is shared by several models: isoFLOP curves need `budget: {flops: [...]}`")
        return fit_isoflop(self.done, resamples=self.resamples)

    @cached_property
    def surface(self) -> SurfaceFit:
        """Approach 3, of the error of the best cells."""
        if on_zipf(self.done):
            raise FigureError("error on the Zipf task does not depend on params: there is no surface")
        return fit_surface(self.best, y="error", resamples=self.resamples)

    @cached_property
    def learning_rates(self) -> LearningRates:
        """The best learning rate of every design; FigureError with fewer than 3 rates."""
        if self.frame["lr"].nunique() < 3:
            raise FigureError(f"{self.frame['lr'].nunique()} learning rates; a parabola needs 3")
        varied = ("dataset_size", "budget", "batch_size", "optimizer", "schedule")
        by = ["model", *(name for name in varied if len(self.frame[name].unique()) > 1)]
        return best_learning_rates(self.frame, by=by, resamples=self.resamples)

    @cached_property
    def comparison(self) -> Comparison:
        """The two families of the table."""
        return compare(self.done, resamples=self.resamples)

    @cached_property
    def verdict(self) -> Verdict:
        """What the table supports."""
        zipf = on_zipf(self.done)
        runs = self.done if zipf else self.best
        inputs = ("examples",) if zipf else ("params", "examples")
        varied = ["examples"] if zipf else [name for name in inputs if runs[name].nunique() >= LEAST]
        if not varied:
            raise FigureError(f"a verdict needs {LEAST} values of params or examples")
        return verdict(runs, varied if len(varied) == 2 else varied[0], resamples=self.judged)


def figure(name: str, findings: Findings) -> Chart:
    """The figure of that name.

    Raises:
        FigureError: the table cannot be drawn as this figure; the message says why.
        LookupError: there is no such figure.
        TypeError: a registered figure lacks a required part, or describes something else than a chart.
    """
    entry = FIGURES.get(name)
    try:
        findings.done  # noqa: B018 - raises FigureError if no run has finished
        chart = entry.describe(findings)
    except (FitError, ValueError) as error:
        raise FigureError(str(error)) from error
    if not isinstance(chart, Chart):
        raise TypeError(f"figure {name!r}: describe() returned {type(chart).__name__}; expected analysis.Chart")
    return chart


def figures(findings: Findings, names: Iterable[str] = ()) -> tuple[dict[str, Chart], dict[str, str]]:
    """Every figure (default: all) that can be drawn, by name, and why each of the others cannot."""
    charts, why_not = {}, {}
    for name in names or registry.names():
        try:
            charts[name] = figure(name, findings)
        except (FigureError, LookupError, TypeError) as error:
            why_not[name] = str(error)
    return charts, why_not
