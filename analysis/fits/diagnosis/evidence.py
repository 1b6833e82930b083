"""What the diagnostics of a fit look at: residuals, refits to part of the data, and rival laws."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from analysis.fits.diagnosis.ends import End, ends
from analysis.fits.diagnosis.scatter import Scatter, scatter
from analysis.fits.diagnosis.stability import Few, few
from analysis.laws import newton
from analysis.laws.constrained import Constrained
from analysis.solver import fitting
from analysis.table import groups

if TYPE_CHECKING:
    from collections.abc import Mapping

    from analysis.fits.forms import Forms
    from analysis.fits.result import LawFit
    from analysis.laws.newton import Problem


@dataclass(frozen=True)
class Evidence:
    """What the rules look at.

    `scatter` is what the residuals show. `trimmed` maps "smallest" and "largest" to the exponent refitted without
    that x. `rivals` maps a part of the law to the law with that part switched (off where it was on): its exponent,
    and the AICc of the law minus that of the rival, positive where the rival describes the points better. Laws of
    several inputs, or without an `exponent`, have neither. `unconstrained` is the AICc of the law minus that of the
    law without its constraints; 0 where it has none. `forms` are those of a surface; `ends` and `few` are as from
    the functions of these names.
    """

    fit: LawFit
    scatter: Scatter
    trimmed: dict[str, float]
    rivals: dict[str, tuple[float, float]]
    unconstrained: float
    forms: Forms | None
    ends: tuple[End, ...]
    few: dict[str, Few]

    @cached_property
    def populations(self) -> Mapping[str, float]:
        """Column that splits the table, as `groups.listed` -> `groups.share_law` of the residuals."""
        data, law = self.fit.data, self.fit.law
        if data.populations is not None:
            return data.populations
        split = groups.axes(data.points, self.fit.x, (self.fit.y,))
        index = {groups.listed(data.points, name): groups.index(data.points, [name]) for name in split}
        value, gradient = law.gradient(self.fit.solution.theta[None, :])
        return {
            name: groups.share_law(data.log_y - value[0], gradient[0, law.free], group, data.cluster)
            for name, group in index.items()
            if group.max() + 1 < data.clusters
        }

    @property
    def x(self) -> str:
        """Name of the first input."""
        return self.fit.x[0]

    @property
    def one(self) -> bool:
        """Whether the law has one input."""
        return len(self.fit.x) == 1

    @property
    def count(self) -> int:
        """Number of free parameters."""
        return int(self.fit.law.free.size)

    @property
    def span(self) -> float:
        """Largest value of the first input over its smallest."""
        low, high = self.fit.x_range
        return high / low


def gather(fit: LawFit) -> Evidence:
    """The evidence on a fit."""
    law, data = fit.law, fit.data
    problem = fitting.pose(law, data, fit.solution.loss)
    comparable = len(fit.x) == 1 and law.exponents == ("exponent",)
    return Evidence(
        fit,
        scatter=scatter(data, problem, fit.solution.theta),
        trimmed=_trimmed(fit, problem) if comparable else {},
        rivals=_rivals(fit, problem) if comparable else {},
        unconstrained=_unconstrained(fit, problem),
        forms=fit.forms,
        ends=ends(fit, problem),
        few=few(fit, problem),
    )


def _trimmed(fit: LawFit, problem: Problem) -> dict[str, float]:
    """The exponent without the smallest and without the largest x, where enough x remain to refit."""
    law, data = fit.law, fit.data
    if data.distinct <= law.free.size + 1:
        return {}
    x = data.x[0]
    weights = np.stack([x > x.min(), x < x.max()]) * data.weights
    problem = replace(problem, weights=weights, log_y=np.broadcast_to(data.log_y, weights.shape))
    refitted = newton.search(law, problem, fit.solution.theta, 4)[0]
    smallest, largest = law.parameters(refitted, data.centre_y)["exponent"]
    return {"smallest": float(smallest), "largest": float(largest)}


def _rivals(fit: LawFit, problem: Problem) -> dict[str, tuple[float, float]]:
    """The law with one part switched: its exponent, and the AICc of the law minus that of the rival."""
    law, data, theta = fit.law, fit.data, fit.solution.theta
    score, rivals = fitting.aicc(law, data, float(problem.objective(theta[None, :])[1][0])), {}
    for part, rival in law.rivals().items():
        refitted, objective, _ = newton.search(rival, replace(problem, law=rival), None, fitting.STARTS)
        gain = score - fitting.aicc(rival, data, float(objective[0]))
        if np.isfinite(gain):
            rivals[part] = (float(rival.parameters(refitted, data.centre_y)["exponent"][0]), gain)
    return rivals


def _unconstrained(fit: LawFit, problem: Problem) -> float:
    if not isinstance(fit.law, Constrained):
        return 0.0
    free = fit.law.base
    start = fit.law.whole(fit.solution.theta[None, :])[0]
    objective = float(newton.search(free, replace(problem, law=free), start, fitting.STARTS)[1][0])
    gain = fitting.aicc(fit.law, fit.data, fit.solution.objective) - fitting.aicc(free, fit.data, objective)
    return gain if np.isfinite(gain) else 0.0  # too few points for either
