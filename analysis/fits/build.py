"""From a law, its data and the solver's solution to a `LawFit`: parameters, intervals, diagnostics."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from analysis.fits import diagnostics
from analysis.fits.diagnostics import Evidence
from analysis.fits.result import LawFit
from analysis.laws import newton
from analysis.laws.base import EXPONENT_BOUNDS
from analysis.solver import bootstrap, fitting

if TYPE_CHECKING:
    from analysis.laws.base import Law
    from analysis.laws.newton import Problem
    from analysis.solver.fitting import Solution
    from analysis.table.data import Data
    from analysis.table.options import Options

Array = NDArray[np.float64]
Fit = TypeVar("Fit", bound=LawFit)


def build(
    kind: type[Fit],
    name: str,
    columns: tuple[tuple[str, ...], str],
    law: Law,
    data: Data,
    solution: Solution,
    options: Options,
) -> Fit:
    """The result of a fit, with intervals and everything that must be said about it.

    `columns` are the names of the inputs and of y.
    """
    with np.errstate(over="ignore"):
        values = law.parameters(solution.theta[None, :], data.centre_y)
        replicates = law.parameters(solution.replicates, data.centre_y)
    estimates = {key: float(value[0]) for key, value in values.items()}
    wider = bootstrap.stretch(data, options, law.free.size)
    intervals = {
        key: _interval(law, key, replicates[key], value, options.level, wider) for key, value in estimates.items()
    }
    evidence = _evidence(columns, law, data, solution, estimates, intervals, replicates)
    warnings, reasons = diagnostics.examine(evidence)
    unit = float(np.exp(data.centre_y)) if options.residuals == "raw" else 1.0
    return kind(
        name=name,
        x=columns[0],
        y=columns[1],
        estimates=estimates,
        intervals=intervals,
        compatible=diagnostics.compatible(evidence),
        replicates=replicates,
        level=options.level,
        objective=solution.objective * unit**2,
        delta=solution.loss.delta * unit,
        rms=float(np.sqrt(np.mean(evidence.residuals**2))),
        unidentified=diagnostics.unidentified(evidence),
        warnings=warnings,
        reasons=reasons,
        law=law,
        data=data,
        solution=solution,
        wider=wider,
    )


def _interval(
    law: Law, name: str, replicates: Array, estimate: float, level: float, wider: float
) -> tuple[float, float]:
    """Percentile interval of a parameter, on a log scale unless it may be 0, cut at the ends of its range."""
    if not replicates.size:
        return (np.nan, np.nan)
    if name in law.linear:
        ends = bootstrap.percentile(replicates, estimate, level, wider)
    else:
        with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
            ends = np.exp(bootstrap.percentile(np.log(replicates), np.log(estimate), level, wider))
    low, high = np.clip(ends, *(EXPONENT_BOUNDS if name in law.exponents else (0.0, np.inf)))
    return float(low), float(high)


def _evidence(
    columns: tuple[tuple[str, ...], str],
    law: Law,
    data: Data,
    solution: Solution,
    estimates: dict[str, float],
    intervals: dict[str, tuple[float, float]],
    replicates: dict[str, Array],
) -> Evidence:
    problem = fitting.pose(law, data, solution.loss)
    comparable = len(columns[0]) == 1 and law.exponents == ("exponent",)
    return Evidence(
        *columns,
        law=law,
        data=data,
        solution=solution,
        estimates=estimates,
        intervals=intervals,
        replicates=replicates,
        residuals=data.log_y - law.value(solution.theta[None, :])[0],
        trimmed=_trimmed(law, data, problem, solution.theta) if comparable else {},
        rivals=_rivals(law, data, problem, solution.theta) if comparable else {},
    )


def _trimmed(law: Law, data: Data, problem: Problem, theta: Array) -> dict[str, float]:
    """The exponent without the smallest and without the largest x, where enough x remain to refit."""
    if data.distinct <= law.free.size + 1:
        return {}
    x = data.x[0]
    weights = np.stack([x > x.min(), x < x.max()]) * data.weights
    problem = replace(problem, weights=weights, log_y=np.broadcast_to(data.log_y, weights.shape))
    refitted = newton.search(law, problem, theta, 4)[0]
    smallest, largest = law.parameters(refitted, data.centre_y)["exponent"]
    return {"smallest": float(smallest), "largest": float(largest)}


def _rivals(law: Law, data: Data, problem: Problem, theta: Array) -> dict[str, tuple[float, float]]:
    """The law with one part switched: its exponent, and the AICc of the law minus that of the rival."""
    score, rivals = fitting.aicc(law, data, float(problem.objective(theta[None, :])[1][0])), {}
    for part, rival in law.rivals().items():
        refitted, objective, _ = newton.search(rival, replace(problem, law=rival), None, fitting.STARTS)
        gain = score - fitting.aicc(rival, data, float(objective[0]))
        if np.isfinite(gain):
            rivals[part] = (float(rival.parameters(refitted, data.centre_y)["exponent"][0]), gain)
    return rivals
