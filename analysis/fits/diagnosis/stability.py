"""Whether a few rows decide a fit: leverage, and parameters that leave their interval without some rows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from analysis.fits.diagnosis.scatter import EXACT
from analysis.laws import newton
from analysis.laws.base import differences

if TYPE_CHECKING:
    import pandas as pd

    from analysis.fits.result import LawFit
    from analysis.laws.newton import Problem

Array = NDArray[np.float64]
Rows = NDArray[np.bool_]

FEW_SHARE, FEW_MOST = 0.02, 5
"""Share of the rows, at least one, and most rows that must not decide a claim."""


@dataclass(frozen=True, eq=False)
class Few:
    """The value that a parameter has without a few rows, and these rows."""

    value: float
    rows: pd.DataFrame


def leverage(problem: Problem, theta: Array) -> Array:
    """How much each row determines its own fitted value: [n], in [0, 1], summing to the number of parameters."""
    basis = np.linalg.qr(weighted(problem, theta).T)[0]
    return np.asarray(np.sum(basis**2, axis=1))


def weighted(problem: Problem, theta: Array) -> Array:
    """Derivatives of the law by the free parameters, each row by the root of its weight: [free, n]."""
    return np.asarray(problem.jacobian(theta[None, :])[0] * np.sqrt(problem.weights[0]))


def without(fit: LawFit, problem: Problem, left_out: Rows, *, rough: bool = False) -> Array:
    """The fit repeated without the rows of each set [B, n]: theta [B, P]."""
    weights = fit.data.weights * ~left_out
    refits = replace(problem, weights=weights, log_y=np.broadcast_to(fit.data.log_y, weights.shape))
    return newton.refine(refits, np.tile(fit.solution.theta, (len(weights), 1)), rough=rough)[0]


def few(fit: LawFit, problem: Problem) -> dict[str, Few]:
    """Parameters that leave their own interval when the few rows or runs that pull most are taken out.

    Rows are chosen by their influence to first order (Belsley, Kuh and Welsch 1980), for every exponent and the
    floor and in both directions, and the fit is repeated without them. The value of all rows must be outside the
    interval of the others too, which is wider by what the rows contributed: of six points each moves the fit.
    """
    names = [name for name in (*fit.law.exponents, "params_exponent", "floor") if bounded(fit, name)]
    if not names or fit.rms < EXACT:
        return {}
    left_out = np.stack(_strongest(fit, problem, names))
    values = fit.law.parameters(without(fit, problem, left_out), fit.data.centre_y)
    found = {}
    for name, factor in zip(names, wider(fit, problem, names, left_out), strict=True):
        (low, high), at = fit.intervals[name], fit[name]
        beyond = np.maximum(at - factor * (at - low) - values[name], values[name] - at - factor * (high - at))
        worst = int(np.argmax(beyond))
        if beyond[worst] > 0:
            found[name] = Few(float(values[name][worst]), fit.points.loc[left_out[worst], [*fit.x, fit.y]])
    return found


def bounded(fit: LawFit, name: str) -> bool:
    """Whether a parameter has an interval."""
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


def wider(fit: LawFit, problem: Problem, names: list[str], left_out: Rows) -> Array:
    """Standard error of each parameter without each set of rows [B, n], over that from all rows: [names, B]."""
    jacobian, slopes = weighted(problem, fit.solution.theta), _slopes(fit, names)
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
