"""Fisher information of a fitted surface, and the variance of a target before and after more runs.

With noise sigma on log y, a run at (N, D) adds g g' / sigma^2 to the information, g the gradient of the log of the
law in its parameters; a target with gradient c has variance c' M^-1 c (Atkinson, Donev, Tobias 2007, chapter 10).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from analysis.laws import newton

if TYPE_CHECKING:
    from collections.abc import Callable

    from analysis.approaches.surface import SurfaceFit

Array = NDArray[np.float64]

PLACES = 16
"""Parameter values (the estimate, then replicates) at which a design is evaluated: the best depends on them."""
OPEN_ENDED = ("floor", "ceiling")
"""Parameters whose bound, a floor of 0 and no ceiling, is a surface like any other."""
_FLAT = 1e-12
"""Gradient relative to the largest below which a parameter counts as without effect."""


@dataclass(frozen=True, eq=False)
class Information:
    """Inverse information `inverse` [K, P, P] and the target's gradient `c` [K, P] at K places; noise `sigma`."""

    inverse: Array
    c: Array
    sigma: float

    def variance(self) -> Array:
        """Variance of the target at each place, [K]."""
        return np.asarray(np.einsum("kp,kpq,kq->k", self.c, self.inverse, self.c))

    def gains(self, gradients: Array) -> Array:
        """How much one run at each candidate lowers the mean log variance of the target: [G] from [K, G, P]."""
        moved = gradients @ self.inverse
        covariance = np.einsum("kgp,kp->kg", moved, self.c)
        spread = self.sigma**2 + np.einsum("kgp,kgp->kg", moved, gradients)
        share = covariance**2 / spread / self.variance()[:, None]
        return np.asarray(-np.log1p(-np.clip(share, 0.0, 1 - 1e-12)).mean(axis=0))

    def after(self, gradient: Array, sign: float = 1.0) -> Information:
        """The information with one run more (with `sign` -1, one less) whose gradients are [K, P]."""
        moved = np.einsum("kpq,kq->kp", self.inverse, gradient)
        scale = self.sigma**2 + sign * np.einsum("kp,kp->k", moved, gradient)
        inverse = self.inverse - sign * moved[:, :, None] * moved[:, None, :] / scale[:, None, None]
        return Information(inverse, self.c, self.sigma)


@dataclass(frozen=True, eq=False)
class Mixture:
    """The information under each of F forms of a surface, averaged with weights [F].

    `slopes` are the gradients [K, G, P] of every form at the G candidates.
    """

    parts: tuple[Information, ...]
    slopes: tuple[Array, ...]
    weights: Array

    def gains(self) -> Array:
        """Mean over the forms of `Information.gains`, [G]."""
        return self.weights @ [part.gains(own) for part, own in zip(self.parts, self.slopes, strict=True)]

    def after(self, k: int, sign: float = 1.0) -> Mixture:
        """The information with one run of candidate k more (with `sign` -1, one less)."""
        pairs = zip(self.parts, self.slopes, strict=True)
        return replace(self, parts=tuple(part.after(own[:, k], sign) for part, own in pairs))

    def spread(self) -> float:
        """Mean log variance of the target."""
        return float(self.weights @ [np.mean(np.log(part.variance())) for part in self.parts])

    def narrower(self, before: Mixture) -> float:
        """Mean width of the interval over that before."""
        pairs = zip(self.parts, before.parts, strict=True)
        return float(self.weights @ [np.sqrt(now.variance()[0] / then.variance()[0]) for now, then in pairs])


def places(fit: SurfaceFit) -> Array:
    """The parameter values at which a design is evaluated, [K, P], as the law scales them.

    The estimate and replicates inside the bounds, but for a floor of 0 and no ceiling.
    """
    law, drawn = fit.law, fit.solution.replicates
    open_ended = np.array([name in OPEN_ENDED for name in law.theta_names])
    inside = np.all(open_ended | ((drawn > law.low + 1e-6) & (drawn < law.high - 1e-6)), axis=1)
    return np.concatenate([fit.solution.theta[None], drawn[inside][: PLACES - 1]])


def noise(fit: SurfaceFit) -> float:
    """Sd of log y of one run about the law: Huber's threshold over its tuning, or the rms of the residuals."""
    robust = fit.delta / newton.TUNING if fit.solution.loss.residuals == "log" else np.inf
    return float(max(robust if np.isfinite(robust) else fit.rms, 1e-6))


def gradients(fit: SurfaceFit, theta: Array, n: Array, d: Array) -> Array:
    """Gradients of the log of the law at runs (n, d) [G] in every parameter: [K, G, P]."""
    logs = np.log(np.stack([n, d])) - fit.data.centre_x[:, None]
    return np.asarray(fit.law.at(logs).gradient(theta)[1].transpose(0, 2, 1))


def inform(fit: SurfaceFit, target: Callable[[Array], Array]) -> Information:
    """The information of the fitted rows on `target`, a function of thetas [B, P] with values [B].

    The rows of one run together count as one.
    """
    theta = places(fit)
    own = gradients(fit, theta, *fit.data.x)
    weight = fit.data.weights / np.bincount(fit.data.cluster)[fit.data.cluster]
    sigma = noise(fit)
    matrix = np.einsum("kgp,g,kgq->kpq", own, weight, own) / sigma**2
    return Information(_inverse(matrix), _gradient(target, theta), sigma)


def covariance(slopes: Array, runs: NDArray[np.intp], sigma: float) -> Array:
    """Covariance [P, P] that a bootstrap will show, from gradients [G, P] and the number of runs of each cell [G].

    Of many runs it is the inverse information. Of few, those of leverage h count as (1 - h)^-1/2: a resample
    without them moves the fit further, by between what HC2 and HC3 allow for (MacKinnon and White 1985).
    """
    inverse = _inverse(np.einsum("gp,g,gq->pq", slopes, runs, slopes)[None])[0]
    leverage = np.clip(np.einsum("gp,pq,gq->g", slopes, inverse, slopes), 0.0, 0.95)
    spread = np.einsum("gp,g,gq->pq", slopes, runs / np.sqrt(1 - leverage), slopes)
    return np.asarray(sigma**2 * inverse @ spread @ inverse)


def condition(slopes: Array) -> float:
    """Condition number of gradients [G, P], every parameter's scaled to length 1."""
    length = np.linalg.norm(slopes, axis=0)
    singular = np.linalg.svd(slopes / np.maximum(length, 1e-300), compute_uv=False)
    return float(singular[0] / max(singular[-1], 1e-300))


def _inverse(matrix: Array) -> Array:
    """Inverses of information [K, P, P], regularised where a combination of the parameters has none."""
    size = np.sqrt(np.einsum("kpp->kp", matrix))
    size = np.where(size > _FLAT * size.max(axis=1, keepdims=True), size, 1.0)
    both = size[:, :, None] * size[:, None, :]
    return np.asarray(np.linalg.inv(matrix / both + 1e-10 * np.eye(matrix.shape[1])) / both)


def _gradient(target: Callable[[Array], Array], theta: Array) -> Array:
    """Central differences of the target at every theta [K, P]: [K, P]."""
    step = 1e-5 * np.maximum(np.abs(theta), 1e-2)
    out = np.empty_like(theta)
    for p in range(theta.shape[1]):
        up, down = theta.copy(), theta.copy()
        up[:, p] += step[:, p]
        down[:, p] -= step[:, p]
        out[:, p] = (target(up) - target(down)) / (2 * step[:, p])
    return out
