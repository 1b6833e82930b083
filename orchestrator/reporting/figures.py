"""The runs of a sweep with what was fitted to them, and the figures drawn from both."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from analysis import Chart, FitError, best_learning_rates, fit_isoflop, fit_surface, verdict
from analysis.checks.agreement import Fitted
from analysis.checks.compare import compared
from analysis.checks.parts import attempt
from analysis.figures import registry
from analysis.figures.cells import varies
from analysis.figures.registry import FIGURES, FigureError
from analysis.figures.style import MARKERS
from analysis.fits.thresholds import LEAST_VALUES
from analysis.table import columns
from analysis.table import groups as populations
from orchestrator.reporting.laws import (
    AXES,
    AxisLaw,
    AxisLaws,
    answered,
    categories,
    cell_columns,
    design_columns,
    is_of_a_sweep,
    laws,
    on_zipf,
    shares_budgets,
)
from orchestrator.text import count

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    import pandas as pd

    from analysis import Comparison, IsoflopFit, LawFit, LearningRates, SurfaceFit, Verdict

MOST_TOGETHER = len(MARKERS)
"""Most groups that can be told apart in one figure."""


@dataclass(frozen=True)
class Findings:
    """The runs of a sweep and what was fitted to them; each fit is made once, when it is first read.

    What the table does not allow raises FigureError, ValueError or FitError with the reason.

    Attributes:
        frame: one row per run, as the table gives it.
        history: the records of the runs, or None.
        resamples: of every interval.
        judged: resamples of the verdict, which fits a dozen times.
        y: the column that was measured.
        form, shift: law of `laws` and `surface`, if not the default; whether x is shifted.
        constraints: what is known of its parameters: `fix`, `tie`, `bounds` of a fit.
        pool: whether populations are fitted together.
        inputs: columns that laws are sought in.
        members: column -> value, of the columns that name the group of runs; empty for all runs.
    """

    frame: pd.DataFrame
    history: pd.DataFrame | None = None
    resamples: int = 1000
    judged: int = 200
    y: str = "error"
    form: str = ""
    shift: bool = False
    constraints: dict[str, Any] = field(default_factory=dict)
    pool: bool = False
    inputs: tuple[str, ...] = AXES
    members: dict[str, Any] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """The group in words; empty for all runs."""
        return populations.label(tuple(self.members), tuple(self.members.values()))

    def groups(self, by: Sequence[str] = ()) -> list[Findings]:
        """The findings on each group of runs: by the columns `by`, else by the categories that vary unless pooled.

        Raises:
            ValueError: there is no such column.
        """
        for name in by:
            columns.require(self.frame, name)
        names = tuple(by) or (() if self.pool else self._populations)
        if not names:
            return [self]
        if names not in self._parts:
            self._parts[names] = [
                replace(self, frame=part, members=dict(zip(names, values, strict=True)))
                for values, part in populations.split(self.frame, names)
            ]
        return self._parts[names]

    @property
    def _populations(self) -> tuple[str, ...]:
        """The columns whose values are populations: declared categories; of another lab, by the structure."""
        if is_of_a_sweep(self.frame):
            return categories(self.frame)
        return populations.axes(self.frame, self.inputs, (self.y,))

    @cached_property
    def _parts(self) -> dict[tuple[str, ...], list[Findings]]:
        """The groups by each list of columns that was asked for, whose fits are made once as well."""
        return {}

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
        done = self.done.dropna(subset=[self.y])
        if not (names := design_columns(done)):
            return done
        mean = done.groupby(cell_columns(done), sort=False, dropna=False)[self.y].transform("mean")
        lowest = mean.groupby([done[name] for name in names]).transform("min")
        return done[mean == lowest]

    @cached_property
    def laws(self) -> list[AxisLaw]:
        """What was measured against each axis."""
        return laws(
            self.frame,
            y=self.y,
            resamples=self.resamples,
            shift=self.shift,
            law=self.form or None,
            pool=self.pool,
            inputs=self.inputs,
            **self.constraints,
        )

    @property
    def answer(self) -> AxisLaws:
        """The laws against the axes, of which at least one was fitted; FitError otherwise."""
        return answered(self.frame, self.laws)

    @property
    def axes(self) -> tuple[str, ...]:
        """The columns in which a law may exist on this task."""
        return tuple(law.x for law in self.laws)

    def law(self, x: str) -> LawFit:
        """What was measured against one of `axes`; FigureError if it has no fit."""
        law = next((law for law in self.laws if law.x == x), None)
        if law is None:
            raise FigureError(f"{self.y} against {x} is not a law of this task")
        if law.fit is None:
            raise FigureError(law.why_not)
        return law.fit

    @cached_property
    def isoflop(self) -> IsoflopFit:
        """Approach 2; FigureError if budgets are not shared by several sizes."""
        if not shares_budgets(self.done):
            need = "`budget: {flops: [...]}`" if is_of_a_sweep(self.frame) else "several sizes at each compute"
            raise FigureError(f"no budget is shared by several models: isoFLOP curves need {need}")
        return fit_isoflop(self.done, y=self.y, resamples=self.resamples, pool=self.pool)

    @cached_property
    def surface(self) -> SurfaceFit:
        """Approach 3, of the best cells."""
        if on_zipf(self.done):
            raise FigureError(f"{self.y} on the Zipf task does not depend on params: there is no surface")
        if lacking := [name for name in ("params", "examples") if name not in self.frame]:
            raise FigureError(f"a surface needs params and examples; the table has no {' and no '.join(lacking)}")
        return fit_surface(
            self.best,
            y=self.y,
            law=self.form or "chinchilla",
            resamples=self.resamples,
            pool=self.pool,
            **self.constraints,
        )

    @cached_property
    def learning_rates(self) -> LearningRates:
        """The best learning rate of every design; FigureError with fewer than 3 rates."""
        count = self.frame["lr"].nunique() if "lr" in self.frame else 0
        if count < 3 or "model" not in self.frame:
            raise FigureError(f"{count} learning rates of models; a parabola needs 3")
        varied = ("dataset_size", "budget", "batch_size", "optimizer", "schedule")
        by = ["model", *(name for name in varied if varies(self.frame, name))]
        return best_learning_rates(self.frame, y=self.y, by=by, resamples=self.resamples)

    @cached_property
    def comparison(self) -> Comparison:
        """The two families of the table, by their laws against FLOPs."""
        if "family" not in self.frame:
            raise FigureError("no column tells families apart; a comparison needs 2")
        sides = self.groups(("family",))
        if len(sides) != 2:
            raise FigureError(f"{count(len(sides), 'family', 'families')}; a comparison needs 2")
        one, two = (side.members["family"] for side in sides)
        return compared("family", (one, two), (sides[0].law("flops"), sides[1].law("flops")))

    @cached_property
    def verdict(self) -> Verdict:
        """What the table supports of the laws above, which are not fitted again."""
        zipf = on_zipf(self.done)
        runs = self.done if zipf else self.best
        sizes = tuple(name for name in ("params", "examples") if name in self.inputs)
        names = ("examples",) if zipf else sizes or self.inputs[:1]
        varied = [name for name in names if runs[name].nunique() >= LEAST_VALUES]
        if not varied:
            raise FigureError(f"a verdict needs {LEAST_VALUES} values of {' or '.join(names)}")
        law = "flops" if len(varied) == 2 and "flops" in self.inputs else varied[0]
        fits: dict[str, Any] = {"law": attempt(lambda: self.law(law))[0]}
        if len(varied) == 2:
            fits |= {"isoflop": attempt(lambda: self.isoflop)[0], "surface": attempt(lambda: self.surface)[0]}
        inputs = varied if len(varied) == 2 else varied[0]
        return verdict(runs, inputs, self.y, resamples=self.judged, pool=self.pool, fitted=Fitted(**fits))


def figure(name: str, findings: Findings) -> Chart:
    """The figure of that name.

    Raises:
        FigureError: the table cannot be drawn as this figure; the message says why.
        LookupError: there is no such figure.
        TypeError: a registered figure lacks a required part, or describes something else than a chart.
    """
    return _described(name, FIGURES.get(name).describe, findings)


def _described(name: str, describe: Callable[[Findings], Chart], findings: Findings) -> Chart:
    try:
        findings.done  # noqa: B018 - raises FigureError if no run has finished
        chart = describe(findings)
    except (FitError, ValueError) as error:
        raise FigureError(str(error)) from error
    if not isinstance(chart, Chart):
        raise TypeError(f"figure {name!r}: describe() returned {type(chart).__name__}; expected analysis.Chart")
    return chart


@dataclass(frozen=True)
class FigureOf:
    """A figure, and the group of runs that it is drawn from; no group for all runs."""

    name: str
    group: str = ""

    def __str__(self) -> str:
        return f"{self.name} of {self.group}" if self.group else self.name

    @property
    def file(self) -> str:
        """The name of its file."""
        return re.sub(r"[^\w.]+", "-", "-".join(filter(None, (self.group, self.name.rpartition(":")[2]))))


def group_figures(
    whole: Findings, groups: Sequence[Findings], names: Iterable[str] = ()
) -> tuple[dict[FigureOf, Chart], dict[FigureOf, str]]:
    """Every figure (default: all) that can be drawn, and why each of the others cannot.

    A figure is of all runs if it is a `whole` one, of all groups side by side if it has such a form and the groups
    can be told apart, and otherwise of each group. With one group all figures are of its runs.
    """
    charts, why_not = {}, {}
    for name in names or registry.names():
        for key, draw in _drawn_of(name, whole, groups).items():
            try:
                charts[key] = draw()
            except (FigureError, LookupError, TypeError) as error:
                why_not[key] = str(error)
    return charts, why_not


def _drawn_of(name: str, whole: Findings, groups: Sequence[Findings]) -> Mapping[FigureOf, Callable[[], Chart]]:
    """The charts that a figure has: how each is drawn."""
    if len(groups) == 1:
        return {FigureOf(name): lambda: figure(name, groups[0])}
    each = {FigureOf(name, group.label): partial(figure, name, group) for group in groups}
    try:
        entry = FIGURES.get(name)
    except (LookupError, TypeError):
        return {FigureOf(name): lambda: figure(name, whole)}  # raises the same
    together = entry.together
    if entry.whole:
        return {FigureOf(name): lambda: figure(name, whole)}
    if together is not None and len(groups) <= MOST_TOGETHER:
        parts = {group.label: group for group in groups}
        return {FigureOf(name): lambda: _described(name, lambda _: together(parts), whole)}
    return each
