"""Whether a part of the rows decides a fit: ends of the range that leave the law of the others, and a few rows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.special import fdtrc

from analysis.fits.diagnosis.scatter import EXACT, flexible, polynomials
from analysis.fits.thresholds import CHANCE
from analysis.laws import newton
from analysis.laws.base import differences

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pandas as pd

    from analysis.fits.result import LawFit
    from analysis.laws.newton import Problem
    from analysis.table.data import Data

Array = NDArray[np.float64]
Rows = NDArray[np.bool_]

SHARES = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3)
"""Shares of the levels of an input that may be a warm-up or a plateau."""
NEAR = 0.02
"""Values whose logarithms differ by less are one level."""
FEW_SHARE, FEW_MOST = 0.02, 5
"""Share of the rows, at least one, and most rows that must not decide a claim."""
COMPUTE = ("budget", "flops")


@dataclass(frozen=True)
class End:
    """Rows at one end of an axis, an input or compute, that leave the law of the others.

    `smallest` tells whether they lie below `at` or above. `off` is their largest distance in log y, negative below
    the law; `chance` the probability of as much under one law for all, times the number of ends that were tried.
    `others_hold` tells whether the others scatter about their law.
    """

    axis: str
    smallest: bool
    at: float
    rows: int
    off: float
    chance: float
    others_hold: bool

    @property
    def where(self) -> str:
        """The condition that the others meet, as `DataFrame.query` reads it."""
        plain = self.axis.replace(" * ", "").isidentifier()
        return f"{self.axis if plain else f'`{self.axis}`'} {'>' if self.smallest else '<'} {self.at:.3g}"


@dataclass(frozen=True, eq=False)
class Few:
    """The value that a parameter has without a few rows, and these rows."""

    value: float
    rows: pd.DataFrame


def leverage(problem: Problem, theta: Array) -> Array:
    """How much each row determines its own fitted value: [n], in [0, 1], summing to the number of parameters."""
    basis = np.linalg.qr(_weighted(problem, theta).T)[0]
    return np.asarray(np.sum(basis**2, axis=1))


def _weighted(problem: Problem, theta: Array) -> Array:
    """Derivatives of the law by the free parameters, each row by the root of its weight: [free, n]."""
    return np.asarray(problem.jacobian(theta[None, :])[0] * np.sqrt(problem.weights[0]))


def ends(fit: LawFit, problem: Problem) -> tuple[End, ...]:
    """The small and the large end that chance explains least, where some could be tried.

    The rows of an end are predicted from a refit to the others (the predictive test of Chow 1960).
    """
    cuts = list(_cuts(fit))
    if not cuts or fit.rms < EXACT:
        return ()
    outside = np.stack([rows for *_, rows in cuts])
    thetas = _without(fit, problem, outside, rough=True)
    tried = [
        End(axis, small, at, int(rows.sum()), off, chance * len(cuts), others)
        for (axis, small, at, rows), theta in zip(cuts, thetas, strict=True)
        for off, chance, others in [_predicted(problem, fit.data, theta, rows)]
    ]
    best = (min((end for end in tried if end.smallest is side), key=_rank, default=None) for side in (True, False))
    return tuple(end for end in best if end)


def _without(fit: LawFit, problem: Problem, left_out: Rows, *, rough: bool = False) -> Array:
    """The fit repeated without the rows of each set [B, n]: theta [B, P]."""
    weights = fit.data.weights * ~left_out
    refits = replace(problem, weights=weights, log_y=np.broadcast_to(fit.data.log_y, weights.shape))
    return newton.refine(refits, np.tile(fit.solution.theta, (len(weights), 1)), rough=rough)[0]


def _rank(end: End) -> tuple[bool, float]:
    return not end.others_hold, end.chance


def _cuts(fit: LawFit) -> Iterator[tuple[str, bool, float, Rows]]:
    """Ends of the inputs, and of compute on a surface: axis, whether its small end, from where, the rows [n]."""
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
        count = edges.size + 1
        for k in sorted({int(np.ceil(share * count)) for share in SHARES}):
            if count - k < max(3, fit.law.free.size + 2 if len(fit.x) == 1 else 3):
                continue
            low, high = (np.sqrt(levels[edge] * levels[edge + 1]) for edge in (edges[k - 1], edges[-k]))
            yield name, True, float(low), values < low
            yield name, False, float(high), values > high


def _predicted(problem: Problem, data: Data, theta: Array, rows: Rows) -> tuple[float, float, bool]:
    """How far the rows are from the law of the others, the chance of that, and whether the others scatter."""
    residuals = problem.residuals(problem.law.value(theta[None, :]))[0] * np.sqrt(problem.weights[0])
    jacobian, kept = _weighted(problem, theta).T, ~rows
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


def few(fit: LawFit, problem: Problem) -> dict[str, Few]:
    """Parameters that leave their own interval when the few rows or runs that pull most are taken out.

    Rows are chosen by their influence to first order (Belsley, Kuh and Welsch 1980), for every exponent and the
    floor and in both directions, and the fit is repeated without them. The value of all rows must be outside the
    interval of the others too, which is wider by what the rows contributed: of six points each moves the fit.
    """
    names = [name for name in (*fit.law.exponents, "params_exponent", "floor") if _bounded(fit, name)]
    if not names or fit.rms < EXACT:
        return {}
    left_out = np.stack(_strongest(fit, problem, names))
    values = fit.law.parameters(_without(fit, problem, left_out), fit.data.centre_y)
    found = {}
    for name, wider in zip(names, _wider(fit, problem, names, left_out), strict=True):
        (low, high), at = fit.intervals[name], fit[name]
        beyond = np.maximum(at - wider * (at - low) - values[name], values[name] - at - wider * (high - at))
        worst = int(np.argmax(beyond))
        if beyond[worst] > 0:
            found[name] = Few(float(values[name][worst]), fit.points.loc[left_out[worst], [*fit.x, fit.y]])
    return found


def _bounded(fit: LawFit, name: str) -> bool:
    return bool(np.all(np.isfinite(fit.intervals.get(name, (np.nan, np.nan)))))


def _strongest(fit: LawFit, problem: Problem, names: list[str]) -> list[Rows]:
    """For every parameter and direction the few rows, and the few runs, that pull it most: [n] each."""
    pulls = _influence(fit, problem, names)
    units = [np.arange(fit.n), *([fit.data.cluster] if fit.data.clusters < fit.n else [])]
    chosen = {}
    for unit in units:
        count = int(unit.max()) + 1
        most = int(np.clip(np.ceil(FEW_SHARE * count), 1, FEW_MOST))
        for pull in pulls:
            order = np.argsort(np.bincount(unit, pull))
            for ids in (order[:most], order[-most:]):
                rows = np.isin(unit, ids)
                chosen[rows.tobytes()] = rows
    return list(chosen.values())


def _influence(fit: LawFit, problem: Problem, names: list[str]) -> Array:
    """First-order change of each parameter when each row is taken out: [names, n]."""
    theta = fit.solution.theta
    residuals = problem.objective(theta[None, :])[0]
    jacobian = problem.jacobian(theta[None, :])[0]
    curved = problem.weights[0] * problem.loss.curvature(residuals, reweighted=False)[0]
    bread = np.linalg.pinv((jacobian * curved) @ jacobian.T, rcond=1e-12, hermitian=True)
    kept = 1.0 - np.einsum("pn,pq,qn->n", jacobian, bread, jacobian) * curved
    move = -bread @ jacobian * (problem.weights * problem.loss.pull(residuals))[0] / np.maximum(kept, 0.05)
    return np.asarray(_slopes(fit, names) @ move)


def _wider(fit: LawFit, problem: Problem, names: list[str], left_out: Rows) -> Array:
    """Standard error of each parameter without each set of rows [B, n], over that from all rows: [names, B]."""
    jacobian, slopes = _weighted(problem, fit.solution.theta), _slopes(fit, names)
    kept = np.concatenate([np.ones((1, fit.n)), ~left_out])
    bread = np.linalg.pinv(np.einsum("pn,bn,qn->bpq", jacobian, kept, jacobian), rcond=1e-12, hermitian=True)
    variance = np.einsum("kp,bpq,kq->kb", slopes, bread, slopes)
    return np.asarray(np.sqrt(np.maximum(variance[:, 1:] / np.maximum(variance[:, :1], 1e-300), 1.0)))


def _slopes(fit: LawFit, names: list[str]) -> Array:
    """Derivatives of the named parameters by the free ones: [names, free]."""

    def values(thetas: Array) -> Array:
        found = fit.law.parameters(thetas, fit.data.centre_y)
        return np.stack([found[name] for name in names], axis=1)

    return np.asarray(differences(values, fit.solution.theta[None, :])[0][fit.law.free].T)
