"""The figures that a sweep's table can be asked for, by name."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from orchestrator.reporting.laws import LEAST, Law, laws, shares_budgets
from trainer.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import pandas as pd

    from analysis import Chart, Comparison, IsoflopFit, LearningRates, SurfaceFit, Verdict


class FigureError(UserError, ValueError):
    """A figure that this table cannot be drawn as; the message says why."""


@dataclass(frozen=True)
class Findings:
    """One sweep's finished runs with what was fitted to them; each fit is made once, when it is first asked for.

    Attributes:
        frame: one row a run, as the table gives it.
        history: its records, or None.
        resamples: of every interval.
        judged: resamples of the verdict, which fits a dozen times.
    """

    frame: pd.DataFrame
    history: pd.DataFrame | None = None
    resamples: int = 1000
    judged: int = 200

    @cached_property
    def done(self) -> pd.DataFrame:
        """The finished runs; FigureError where there is none."""
        done = self.frame[self.frame["state"] == "done"]
        if not len(done):
            raise FigureError("no run is done yet")
        return done

    @cached_property
    def best(self) -> pd.DataFrame:
        """The finished runs of the best cell of each model, dataset size and budget, where recipes were tried."""
        done = self.done.dropna(subset=["error"])
        mean = done.groupby("cell_id", sort=False)["error"].transform("mean")
        lowest = mean.groupby([done[name] for name in ("model", "dataset_size", "budget")]).transform("min")
        return done[mean == lowest]

    @cached_property
    def laws(self) -> list[Law]:
        """Error against each axis."""
        return laws(self.frame, resamples=self.resamples)

    @cached_property
    def isoflop(self) -> IsoflopFit:
        """Approach 2; FigureError where no budgets are shared by several sizes."""
        from analysis import fit_isoflop

        if not shares_budgets(self.done):
            raise FigureError("no budget is shared by several models: isoFLOP curves need `budget: {flops: [...]}`")
        return fit_isoflop(self.done, resamples=self.resamples)

    @cached_property
    def surface(self) -> SurfaceFit:
        """Approach 3, of the error of the best cells; ValueError or FitError where the table does not carry it."""
        from analysis import fit_surface

        if set(self.done["dataset"]) == {"zipf"}:
            raise FigureError("error on the Zipf task knows nothing of params: there is no surface")
        return fit_surface(self.best, y="error", resamples=self.resamples)

    @cached_property
    def learning_rates(self) -> LearningRates:
        """The best learning rate of every design; FigureError where only one was tried."""
        from analysis import best_learning_rates

        if self.frame["lr"].nunique() < 3:
            raise FigureError(f"{self.frame['lr'].nunique()} learning rates; a parabola needs 3")
        by = ["model", *_varied(self.frame, ("dataset_size", "budget", "batch_size", "optimizer", "schedule"))]
        return best_learning_rates(self.frame, by=by, resamples=self.resamples)

    @cached_property
    def comparison(self) -> Comparison:
        """The two families of the table; ValueError or FitError where it has not two, or one has no law."""
        from analysis import compare

        return compare(self.done, resamples=self.resamples)

    @cached_property
    def verdict(self) -> Verdict:
        """What the table supports; ValueError or FitError where there is nothing to judge."""
        from analysis import verdict

        done = self.done if set(self.done["dataset"]) == {"zipf"} else self.best
        varied = [name for name in ("params", "examples") if done[name].nunique() >= LEAST]
        if set(done["dataset"]) == {"zipf"}:
            varied = ["examples"]
        if not varied:
            raise FigureError("neither params nor examples have three values: there is nothing to judge")
        return verdict(done, varied if len(varied) == 2 else varied[0], resamples=self.judged)


def figure(name: str, findings: Findings) -> Chart:
    """The figure of that name.

    Raises:
        FigureError: there is no such figure, or this table cannot be drawn as it.
    """
    from analysis import FitError

    if name not in FIGURES:
        raise FigureError(f"{name!r} is unknown; it is one of {', '.join(FIGURES)}")
    try:
        assert len(findings.done)  # a FigureError says so where nothing is done
        return FIGURES[name](findings)
    except (FitError, ValueError) as error:
        raise FigureError(str(error)) from error


def figures(findings: Findings, names: Iterable[str] = ()) -> tuple[dict[str, Chart], dict[str, str]]:
    """Every figure that can be drawn, by name, and why each of the others cannot."""
    drawn, why_not = {}, {}
    for name in names or FIGURES:
        try:
            drawn[name] = figure(name, findings)
        except FigureError as error:
            why_not[name] = str(error)
    return drawn, why_not


def _runs(findings: Findings) -> Chart:
    from analysis.figures.runs import MOST_LINES, MOST_MARKERS, describe_runs, few

    done = findings.done
    marker, line = few(done, "dataset_size", MOST_MARKERS), few(done, "epochs", MOST_LINES)
    return describe_runs(done, colour=next(iter(_varied(done, ("model",))), None), marker=marker, line=line)


def _law(x: str) -> Callable[[Findings], Chart]:
    def described(findings: Findings) -> Chart:
        from analysis import describe_law

        law = next((law for law in findings.laws if law.x == x), None)
        if law is None:
            raise FigureError(f"error against {x} is no law of this task")
        if law.fit is None and findings.done[x].nunique() < 2:
            raise FigureError(law.why_not)
        colour = next(iter(_varied(findings.done, ("width",))), None)
        records = findings.history if x == "flops" else None
        return describe_law(findings.done, law.fit, x=x, colour=colour, history=records)

    return described


def _isoflop(findings: Findings) -> Chart:
    from analysis import describe_isoflop

    return describe_isoflop(findings.isoflop)


def _optima(findings: Findings) -> Chart:
    from analysis import describe_optima

    if not (findings.isoflop.optima["refused"] == "").any():
        raise FigureError(f"no budget has a minimum: {findings.isoflop.optima['refused'].iloc[0]}")
    return describe_optima(findings.isoflop)


def _learning_rate(findings: Findings) -> Chart:
    from analysis import describe_learning_rates

    return describe_learning_rates(findings.frame, findings.learning_rates)


def _batch_size(findings: Findings) -> Chart:
    from analysis.figures.runs import MOST_LINES, MOST_MARKERS, describe_runs, few

    done = findings.done
    if done["batch_size"].nunique() < 2:
        raise FigureError("one batch size; a figure needs 2")
    line, marker = few(done, "epochs", MOST_LINES), few(done, "dataset_size", MOST_MARKERS)
    return describe_runs(done, x="batch_size", marker=marker, line=line)


def _families(findings: Findings) -> Chart:
    from analysis import describe_families

    names = list(dict.fromkeys(findings.done["family"]))
    if len(names) != 2:
        raise FigureError(f"{len(names)} families ({', '.join(names)}); the figure is of 2")
    found = findings.comparison
    told = [line for line in found.summary().splitlines() if " needs " in line]
    fits = {str(name).upper(): fit for name, fit in zip(found.names, found.fits, strict=True)}
    return describe_families(fits, annotation=tuple(textwrap.wrap(told[0], 52)) if told else ())


def _residuals(findings: Findings) -> Chart:
    from analysis import describe_residuals

    fits = {law.x: law.fit for law in findings.laws if law.fit is not None}
    if not fits:
        raise FigureError("; ".join(f"{law.x}: {law.why_not}" for law in findings.laws))
    return describe_residuals(fits.get("flops") or next(iter(fits.values())))


def _held_out(findings: Findings) -> Chart:
    from analysis import describe_held_out

    held = findings.verdict.validation
    if held is None:
        raise FigureError(next(text for text in findings.verdict.warnings if "held-out" in text))
    return describe_held_out(held)


def _varied(frame: pd.DataFrame, names: Iterable[str]) -> list[str]:
    return [name for name in names if len(frame[name].unique()) > 1]


FIGURES: dict[str, Callable[[Findings], Chart]] = {
    "runs": _runs,
    "error-vs-flops": _law("flops"),
    "error-vs-params": _law("params"),
    "error-vs-examples": _law("examples"),
    "isoflop": _isoflop,
    "optima": _optima,
    "families": _families,
    "learning-rate": _learning_rate,
    "batch-size": _batch_size,
    "residuals": _residuals,
    "held-out": _held_out,
}
HEADINGS = {
    "runs": "Every run",
    "error-vs-flops": "Error against compute",
    "error-vs-params": "Error against parameters",
    "error-vs-examples": "Error against examples",
    "isoflop": "IsoFLOP curves",
    "optima": "Optimal parameters and examples against compute",
    "families": "Families side by side",
    "learning-rate": "Learning rates",
    "batch-size": "Batch sizes",
    "residuals": "What the law leaves",
    "held-out": "Prediction of the largest budgets, held out",
}
