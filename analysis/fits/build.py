"""From an estimate and its replicates to the answer: parameters, intervals, doubts."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from analysis.fits import diagnostics as doubts
from analysis.fits.law_fit import LawFit
from analysis.laws.base import EXPONENT_BOUNDS
from analysis.solver import bootstrap

if TYPE_CHECKING:
    from analysis.laws.base import Law
    from analysis.solver.fitting import Found
    from analysis.table.data import Data
    from analysis.table.options import Options

Array = NDArray[np.float64]
Fit = TypeVar("Fit", bound=LawFit)


def conclude(
    kind: type[Fit],
    name: str,
    x: tuple[str, ...],
    y: str,
    law: Law,
    data: Data,
    found: Found,
    options: Options,
) -> Fit:
    """The answer of a fit with everything that is said about it."""
    with np.errstate(over="ignore"):
        values = law.parameters(found.theta[None, :], data.centre_y)
        replicates = law.parameters(found.replicates, data.centre_y)
    estimates = {name: float(value[0]) for name, value in values.items()}
    wider = bootstrap.stretch(data, options, law.free.size)
    ends = {
        name: interval(
            replicates[name],
            value,
            options.level,
            wider,
            linear=name in law.linear,
            within=EXPONENT_BOUNDS if name in law.exponents else (0.0, np.inf),
        )
        for name, value in estimates.items()
    }
    evidence = doubts.Evidence(x, y, law, data, found, ends)
    warnings, reasons = doubts.examine(evidence)
    unit = float(np.exp(data.centre_y)) if options.residuals == "raw" else 1.0
    logs = data.log_y - law.value(found.theta[None, :])[0]
    return kind(
        name=name,
        x=x,
        y=y,
        estimates=estimates,
        intervals=ends,
        replicates=replicates,
        level=options.level,
        n=data.y.size,
        n_clusters=data.clusters,
        resamples=len(found.replicates),
        objective=found.objective * unit**2,
        delta=found.loss.delta * unit,
        rms=float(np.sqrt(np.mean(logs**2))),
        converged=found.converged,
        condition=found.condition,
        at_bounds=doubts.at_bounds(law, found.theta),
        unidentified=doubts.unidentified(evidence),
        ranges={name: (float(axis.min()), float(axis.max())) for name, axis in zip(x, data.x, strict=True)},
        points=data.points,
        warnings=warnings,
        reasons=reasons,
        law=law,
        data=data,
        solution=found,
        wider=wider,
    )


def interval(
    replicates: Array, estimate: float, level: float, wider: float, *, linear: bool, within: tuple[float, float]
) -> tuple[float, float]:
    """Percentile interval, on a log scale unless `linear`, cut at the ends of `within`."""
    if not replicates.size:
        return (np.nan, np.nan)
    if linear:
        ends = bootstrap.percentile(replicates, estimate, level, wider)
    else:
        with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
            ends = np.exp(bootstrap.percentile(np.log(replicates), np.log(estimate), level, wider))
    low, high = np.clip(ends, *within)
    return float(low), float(high)
