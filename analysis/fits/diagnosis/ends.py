"""Rows at an end of the range that leave the law of the others: a warm-up, a plateau, another regime.

One test looks for all of them: along every axis and at either end, how far do rows up to some cut stand off the law
(a step), and how much does y bend there (a hinge, as at a plateau or where a warm-up ends)? The strongest of these
directions is compared with the strongest in simulated scatter, so that many cuts cost no false alarms.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.special import fdtrc

from analysis.fits.diagnosis.scatter import EXACT, flexible, polynomials
from analysis.fits.diagnosis.stability import bounded, weighted, wider, without
from analysis.fits.forms import QUANTITIES
from analysis.fits.thresholds import CHANCE, SUSPECT
from analysis.numbers import short

if TYPE_CHECKING:
    from collections.abc import Iterator

    from analysis.fits.result import LawFit
    from analysis.laws.newton import Problem

Array = NDArray[np.float64]
Rows = NDArray[np.bool_]

MOST, CUTS = 0.35, 12
"""Largest share of the levels of an axis that may be an end, and most cuts that are tried at one."""
NEAR = 0.02
"""Values whose logarithms differ by less are one level."""
COMPUTE = ("budget", "flops")
_SIMULATIONS = 2000


@dataclass(frozen=True)
class End:
    """Rows at one end of an axis, an input or compute, that leave the law of the others.

    `smallest` tells whether they lie below `at` or above. `off` is their largest distance in log y, negative below
    the law; `chance` the probability that scatter about one law for all looks as much like such an end, anywhere.
    `others_hold` tells whether the others scatter about their law. `without` has the intervals of the others, where
    chance may explain the end.
    """

    axis: str
    smallest: bool
    at: float
    rows: int
    off: float
    chance: float
    others_hold: bool
    without: dict[str, tuple[float, float]] = field(default_factory=dict)

    @property
    def where(self) -> str:
        """The condition that the others meet, as `DataFrame.query` reads it."""
        plain = self.axis.replace(" * ", "").isidentifier()
        return f"{self.axis if plain else f'`{self.axis}`'} {'>' if self.smallest else '<'} {short(self.at)}"


@dataclass(frozen=True, eq=False)
class Cut:
    """An end that is tried: the axis, which end, from where, its rows [n], and how far beyond each row is [n]."""

    axis: str
    smallest: bool
    at: float
    rows: Rows
    beyond: Array


def ends(fit: LawFit, problem: Problem) -> tuple[End, ...]:
    """The small and the large end that chance seldom explains, at most one time in ten."""
    cuts = list(cuts_of(fit))
    if not cuts or fit.rms < EXACT:
        return ()
    chance, found = chances(fit, problem, cuts), []
    for side in (True, False):
        own = [k for k, cut in enumerate(cuts) if cut.smallest is side]
        strongest = min(own, key=lambda k: chance[k], default=None)
        if strongest is None or chance[strongest] >= SUSPECT:
            continue
        if chance[strongest] >= CHANCE:
            end = _nearest(fit, problem, [cuts[strongest]], float(chance[strongest]))
            found.append(replace(end, without=_of_the_others(fit, problem, cuts[strongest].rows)))
            continue
        tried = [cuts[k] for k in own if cuts[k].axis == cuts[strongest].axis]
        found.append(_nearest(fit, problem, tried, float(chance[strongest])))
    return tuple(found)


def _of_the_others(fit: LawFit, problem: Problem, rows: Rows) -> dict[str, tuple[float, float]]:
    """The intervals of a fit without the rows: about its values, wider by what the rows contributed."""
    names = [name for name in dict.fromkeys((*fit.law.exponents, *QUANTITIES)) if bounded(fit, name)]
    if not names:
        return {}
    values = fit.law.parameters(without(fit, problem, rows[None]), fit.data.centre_y)
    found = {}
    for name, factor in zip(names, wider(fit, problem, names, rows[None])[:, 0], strict=True):
        (low, high), at, value = fit.intervals[name], fit[name], float(values[name][0])
        ends = (value - factor * (at - low), value + factor * (high - at))
        least = 0.0 if low >= 0 else -np.inf
        found[name] = (float(max(ends[0], least)), float(ends[1]))
    return found


def cuts_of(fit: LawFit) -> Iterator[Cut]:
    """Ends of the inputs, and of compute on a surface."""
    data = fit.data
    axes = dict(zip(fit.x, data.x, strict=True))
    if len(axes) > 1:
        name = next((name for name in COMPUTE if name in data.points), " * ".join(fit.x))
        product = np.prod(data.x, axis=0)
        axes[name] = data.points[name].to_numpy(dtype=float) if name in data.points else product
    for name, values in axes.items():
        levels = np.unique(values)
        if not levels[0] > 0:
            continue
        edges = np.flatnonzero(np.diff(np.log(levels)) > NEAR)
        count, logs = edges.size + 1, np.log(values)
        most = min(int(np.ceil(MOST * count)), count - max(3, fit.law.free.size + 2 if len(fit.x) == 1 else 3))
        for k in np.unique(np.linspace(1, most, CUTS).astype(int)) if most > 0 else ():
            low, high = (np.sqrt(levels[edge] * levels[edge + 1]) for edge in (edges[k - 1], edges[-k]))
            yield Cut(name, True, float(low), values < low, np.maximum(np.log(low) - logs, 0.0))
            yield Cut(name, False, float(high), values > high, np.maximum(logs - np.log(high), 0.0))


def chances(fit: LawFit, problem: Problem, cuts: list[Cut]) -> Array:
    """Probability [cuts] that the strongest direction of all in scatter is as strong as that of each cut.

    Strength is the F ratio of the residuals along a direction that the law does not have. Scatter is simulated in
    the span of the directions; where rows are correlated inside clusters, as if each cluster had one deviation.
    """
    law = np.linalg.qr(weighted(problem, fit.solution.theta).T)[0]
    root = np.sqrt(problem.weights[0])
    off = root * (fit.data.log_y - problem.law.value(fit.solution.theta[None, :])[0])
    directions = root[:, None] * np.stack(
        [part for cut in cuts for part in (cut.rows.astype(float), cut.beyond)], 1
    )
    size = np.linalg.norm(directions, axis=0)
    directions -= law @ (law.T @ directions)
    length = np.linalg.norm(directions, axis=0)
    directions = np.where(length > 1e-6 * size, directions / np.maximum(length, 1e-300), 0.0)
    off = off - law @ (law.T @ off)
    left = fit.data.clusters - law.shape[1]
    if left < 2:  # no scatter remains beside a direction
        return np.ones(len(cuts))
    seen = _ratio((directions.T @ off) ** 2, float(off @ off), left)
    together = np.zeros((fit.data.clusters, directions.shape[1]))
    np.add.at(together, fit.data.cluster, directions)
    share = np.sqrt(fit.data.clusters / fit.n)
    null = np.maximum(*(_strongest(parts, left) for parts in (directions, share * together)))
    chance = (1 + np.sum(null[:, None] >= seen, axis=0)) / (1 + null.size)
    bound = directions.shape[1] * fdtrc(1, left - 1, seen)
    return np.asarray(np.minimum(chance, bound).reshape(len(cuts), 2).min(axis=1))


def _strongest(directions: Array, left: int) -> Array:
    """The largest F ratio along any of the directions [m, q] in each of many draws of scatter, sorted."""
    _, singular, right = np.linalg.svd(directions, full_matrices=False)
    span = right[singular > 1e-9 * max(singular.max(initial=0.0), 1e-300)]
    singular = singular[: len(span)]
    rng = np.random.default_rng(0)
    inside = rng.normal(size=(_SIMULATIONS, min(len(span), left)))
    total = np.sum(inside**2, axis=1)
    if left > inside.shape[1]:
        total += rng.chisquare(left - inside.shape[1], _SIMULATIONS)
    along = (inside * singular[: inside.shape[1]]) @ span[: inside.shape[1]]
    return np.sort(_ratio(along**2, total[:, None], left).max(axis=1))


def _ratio(along: Array, total: Array | float, left: int) -> Array:
    """F ratio of one direction against the other `left` - 1."""
    return np.asarray((left - 1) * along / np.maximum(total - along, 1e-300))


def _nearest(fit: LawFit, problem: Problem, cuts: list[Cut], chance: float) -> End:
    """The end of one axis and side: of the cuts beyond which the others hold, the one least likely by chance."""
    thetas = without(fit, problem, np.stack([cut.rows for cut in cuts]), rough=True)
    tried = [(cut, *_predicted(fit, problem, theta, cut.rows)) for cut, theta in zip(cuts, thetas, strict=True)]
    cut, off, _, hold = min(tried, key=lambda one: (not one[3], one[2]))
    return End(cut.axis, cut.smallest, cut.at, int(cut.rows.sum()), off, chance, hold)


def _predicted(fit: LawFit, problem: Problem, theta: Array, rows: Rows) -> tuple[float, float, bool]:
    """How far the rows are from the law of the others, the chance of that, and whether the others scatter.

    The predictive test of Chow 1960.
    """
    data, kept = fit.data, ~rows
    residuals = problem.residuals(problem.law.value(theta[None, :]))[0] * np.sqrt(problem.weights[0])
    jacobian = weighted(problem, theta).T
    off = data.log_y - problem.law.value(theta[None, :])[0]
    spare = np.unique(data.cluster[kept]).size - jacobian.shape[1]
    farthest = float(off[rows][np.argmax(np.abs(off[rows]))])
    pull = problem.loss.pull(residuals[kept])
    noise = float(np.sum(residuals[kept] ** 2))
    if spare < 2 or noise <= kept.sum() * EXACT**2:
        return farthest, 1.0, True
    left, singular, right = np.linalg.svd(jacobian[kept], full_matrices=False)
    if singular[-1] < 1e-9 * singular[0]:
        return farthest, 1.0, True
    reach = jacobian[rows] @ (right.T / singular)
    spread = np.eye(int(rows.sum())) + reach @ reach.T
    variance = noise / spare * data.clusters / data.y.size
    square = float(residuals[rows] @ np.linalg.solve(spread, residuals[rows])) / rows.sum()
    count = min(int(rows.sum()), np.unique(data.cluster[rows]).size)
    chance = float(fdtrc(count, spare, square / variance))
    bent = flexible(
        pull, left, polynomials(data.logs[:, kept]), np.unique(data.cluster[kept], return_inverse=True)[1]
    )
    return farthest, chance, bent > CHANCE
