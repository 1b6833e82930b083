"""The batched solver behind every one-variable law: many weighted data sets, one sweep of numpy.

The model is y = floor + coefficient (shift + x)^-exponent, the loss is Huber's on the residuals of log y.
Inside, x and y are divided by their geometric means and the power is centred,

    y = phi + exp(q) ((s + u) / (s + 1))^-exp(p),    s = (exp(tau) - 1) min(u),

so that the exponent does not know the unit of x and is nearly uncorrelated with the coefficient. Starts come
from variable projection on a grid of exponents (and shifts) with the two linear parameters in closed form and
non-negative, all data sets by one matrix product; the best are refined by projected, damped Newton steps.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analysis.form import EXPONENT_BOUNDS

Array = NDArray[np.float64]

TUNING = 1.345
"""Huber's threshold in standard deviations: 95 % efficient under Gaussian noise."""
MAD_TO_SD = 1.4826
MIN_THRESHOLD = 1e-9
"""Threshold of an exact law, whose residuals are rounding errors."""
_STEPS, _REWEIGHTED = 80, 6
_CHUNK = 256
_TOLERANCE, _SETTLED = 1e-13, 1e-8
P, Q, PHI, TAU = range(4)


class FitError(RuntimeError):
    """The data are well formed, and no law answers them."""


@dataclass(frozen=True)
class Solution:
    """What the solver found for B data sets, in the units of the data.

    `exponent`, `log_coefficient` (natural logarithm), `floor` (unit of y), `shift` (unit of x), `objective`
    (sum of weighted Huber losses of log residuals) and `converged` all have shape [B].
    """

    exponent: Array
    log_coefficient: Array
    floor: Array
    shift: Array
    objective: Array
    converged: NDArray[np.bool_]

    def __getitem__(self, rows: slice | NDArray[np.intp] | NDArray[np.bool_]) -> Solution:
        return Solution(**{name: values[rows] for name, values in vars(self).items()})

    def predict(self, x: Array) -> Array:
        """The laws at `x` [n], one row a data set: [B, n]."""
        log_power = self.exponent[:, None] * np.log(self.shift[:, None] + x[None, :])
        return self.floor[:, None] + np.exp(self.log_coefficient[:, None] - log_power)


@dataclass(frozen=True)
class Form:
    """Which parts the law has besides coefficient and exponent."""

    floor: bool = True
    shift: bool = False

    @property
    def free(self) -> NDArray[np.intp]:
        """Indices of the free parameters among (p, q, phi, tau)."""
        return np.flatnonzero([True, True, self.floor, self.shift])

    @property
    def count(self) -> int:
        """Number of free parameters, 2 to 4."""
        return 2 + self.floor + self.shift


@dataclass(frozen=True)
class _Problem:
    """B data sets in scaled units: u [n], log y [B, n], weights [B, n], threshold."""

    u: Array
    log_y: Array
    weights: Array
    delta: float
    form: Form

    def rows(self, keep: NDArray[np.intp]) -> _Problem:
        return _Problem(self.u, self.log_y[keep], self.weights[keep], self.delta, self.form)

    def bounds(self) -> tuple[Array, Array]:
        tau = np.log1p(10.0 * self.u.max() / self.u.min())
        low = np.array([np.log(EXPONENT_BOUNDS[0]), -np.inf, 0.0, 0.0])
        high = np.array([np.log(EXPONENT_BOUNDS[1]), np.inf, np.exp(self.log_y.max()), tau])
        return low, high


def solve(
    x: Array,
    y: Array,
    weights: Array,
    form: Form,
    *,
    delta: float = np.inf,
    warm: Solution | None = None,
    starts: int = 1,
) -> Solution:
    """Fit the law to B weighted data sets that share x.

    Args:
        x: [n], positive.
        y: [n] or [B, n], positive.
        weights: [B, n], non-negative.
        form: which parameters are free.
        delta: Huber threshold on log residuals; infinite means least squares.
        warm: one law (B = 1) to try as a start beside those of the grid.
        starts: how many of the best starts of each data set are refined. The best end is returned.
    """
    chunks = [slice(at, at + _CHUNK) for at in range(0, len(weights), _CHUNK)]
    parts = [_solve(x, y[c] if y.ndim == 2 else y, weights[c], form, delta, warm, starts) for c in chunks]
    return Solution(**{name: np.concatenate([getattr(p, name) for p in parts]) for name in vars(parts[0])})


def solve_robust(x: Array, y: Array, weights: Array, form: Form) -> tuple[Solution, float]:
    """One fit with the threshold taken from the data, [1] data set, and that threshold.

    A least-squares pilot gives residuals; delta = 1.345 x 1.4826 x MAD, the MAD corrected for the parameters
    spent; three times, since an outlier moves the pilot.
    """
    fit, delta = solve(x, y, weights[None, :], form, starts=8), np.inf
    for _ in range(3):
        residuals = np.log(y) - np.log(fit.predict(x)[0])
        delta = threshold(residuals[weights > 0], form.count)
        if delta <= MIN_THRESHOLD:  # an exact law: nothing is left to reweight
            break
        fit = solve(x, y, weights[None, :], form, delta=delta, warm=fit, starts=8)
    return fit, delta


def threshold(residuals: Array, parameters: int) -> float:
    """Huber threshold for log residuals [n] left by a fit of that many parameters."""
    spent = np.sqrt(residuals.size / max(residuals.size - parameters, 1))
    return float(max(TUNING * MAD_TO_SD * spent * np.median(np.abs(residuals)), MIN_THRESHOLD))


def _solve(
    x: Array, y: Array, weights: Array, form: Form, delta: float, warm: Solution | None, starts: int
) -> Solution:
    log_x, log_y = np.log(x), np.log(np.broadcast_to(y, weights.shape))
    centre_x, centre_y = float(log_x.mean()), float(np.median(log_y))
    problem = _Problem(np.exp(log_x - centre_x), log_y - centre_y, weights, delta, form)
    theta = _starts(problem, starts)
    if warm is not None:
        theta = _with_warm(problem, theta, _scaled(warm, problem.u, centre_x, centre_y), starts)
    batch, count = theta.shape[:2]
    wide = problem.rows(np.repeat(np.arange(batch), count))
    ends, objective, converged = _refine(wide, theta.reshape(-1, 4))
    best = objective.reshape(batch, count).argmin(axis=1) + count * np.arange(batch)
    return _unscaled(ends[best], objective[best], converged[best], problem.u, centre_x, centre_y)


def _unscaled(
    theta: Array, objective: Array, converged: NDArray[np.bool_], u: Array, centre_x: float, centre_y: float
) -> Solution:
    exponent, s = np.exp(theta[:, P]), u.min() * np.expm1(theta[:, TAU])
    return Solution(
        exponent=exponent,
        log_coefficient=theta[:, Q] + centre_y + exponent * (centre_x + np.log1p(s)),
        floor=theta[:, PHI] * np.exp(centre_y),
        shift=s * np.exp(centre_x),
        objective=objective,
        converged=converged,
    )


def _scaled(law: Solution, u: Array, centre_x: float, centre_y: float) -> Array:
    s = law.shift * np.exp(-centre_x)
    q = law.log_coefficient - centre_y - law.exponent * (centre_x + np.log1p(s))
    return np.stack([np.log(law.exponent), q, law.floor * np.exp(-centre_y), np.log1p(s / u.min())], axis=-1)


def _starts(problem: _Problem, count: int) -> Array:
    """The best grid points of each data set by the linear problem's least squares: [B, count, 4]."""
    tau_max = problem.bounds()[1][TAU]
    taus = np.linspace(0.0, tau_max, 9)[:-1] if problem.form.shift else np.zeros(1)
    p, tau = (a.ravel() for a in np.meshgrid(np.log(np.geomspace(0.01, 8.0, 28)), taus, indexing="ij"))
    s = problem.u.min() * np.expm1(tau)
    z = np.exp(-np.exp(p) * np.log((s + problem.u[:, None]) / (s + 1.0)))
    floor, coefficient, loss = _project(problem, z)
    chosen = np.argsort(loss, axis=1)[:, :count]
    floor, coefficient = (np.take_along_axis(a, chosen, axis=1) for a in (floor, coefficient))
    return np.stack([p[chosen], np.log(coefficient), floor, tau[chosen]], axis=-1)


def _project(problem: _Problem, z: Array) -> tuple[Array, Array, Array]:
    """Best non-negative (floor, coefficient) for every power z [n, G] by relative residuals: three [B, G]."""
    y = np.exp(problem.log_y)
    quadratic, linear = problem.weights / y**2, problem.weights / y
    s11, s12, s22 = quadratic.sum(axis=1, keepdims=True), quadratic @ z, quadratic @ z**2
    b1, b2 = linear.sum(axis=1, keepdims=True), linear @ z
    alone = b2 / s22
    determinant = s11 * s22 - s12**2
    with np.errstate(divide="ignore", invalid="ignore"):
        floor, coefficient = (b1 * s22 - b2 * s12) / determinant, (b2 * s11 - b1 * s12) / determinant
    inside = (floor > 0) & (coefficient > 0) & (determinant > 1e-12 * s11 * s22) & problem.form.floor
    floor, coefficient = np.where(inside, floor, 0.0), np.where(inside, coefficient, alone)
    return floor, coefficient, -(floor * b1 + coefficient * b2)


def _with_warm(problem: _Problem, theta: Array, warm: Array, count: int) -> Array:
    """The best `count` starts by the true objective, the warm one among them."""
    every = np.concatenate([theta, np.broadcast_to(warm, (len(theta), 1, 4))], axis=1)
    loss = np.stack([_loss(problem, every[:, k])[1] for k in range(every.shape[1])], axis=1)
    chosen = np.argsort(loss, axis=1)[:, :count, None]
    return np.take_along_axis(every, chosen, axis=1)


def _power(problem: _Problem, theta: Array) -> tuple[Array, Array, Array]:
    """The falling term, the logarithm of its base, and the shift s: [B, n], [B, n], [B, 1]."""
    s = problem.u.min() * np.expm1(theta[:, TAU, None])
    log_base = np.log((s + problem.u) / (s + 1.0))
    term = np.exp(np.clip(theta[:, Q, None] - np.exp(theta[:, P, None]) * log_base, -700.0, 700.0))
    return term, log_base, s


def _loss(problem: _Problem, theta: Array) -> tuple[Array, Array]:
    """Log residuals [B, n] and the Huber objective [B]."""
    term, _, _ = _power(problem, theta)
    residuals = problem.log_y - np.log(theta[:, PHI, None] + term)
    size, delta = np.abs(residuals), problem.delta
    if np.isinf(delta):
        return residuals, (0.5 * problem.weights * size**2).sum(axis=1)
    inner = np.minimum(size, delta)
    return residuals, (problem.weights * inner * (size - 0.5 * inner)).sum(axis=1)


def _jacobian(problem: _Problem, theta: Array) -> Array:
    """Derivatives of the log of the law by the free parameters: [B, free, n]."""
    term, log_base, s = _power(problem, theta)
    model = theta[:, PHI, None] + term
    share, exponent = term / model, np.exp(theta[:, P, None])
    by_tau = -exponent * share * (problem.u.min() + s) * (1.0 / (s + problem.u) - 1.0 / (s + 1.0))
    parts = [-exponent * log_base * share, share, 1.0 / model, by_tau]
    return np.stack([parts[k] for k in problem.form.free], axis=1)


def _curvature(problem: _Problem, residuals: Array, *, reweighted: bool) -> Array:
    """Weight of each residual in the Hessian: the reweighted one far away, nearly Huber's own close by."""
    size = np.maximum(np.abs(residuals), 1e-300)
    outside = problem.delta / size if reweighted else 0.02 * problem.delta / size
    return problem.weights * np.where(size <= problem.delta, 1.0, outside)


def _refine(problem: _Problem, theta: Array) -> tuple[Array, Array, NDArray[np.bool_]]:
    """Projected, damped Newton on every row until its step buys nothing: ends, objectives, converged."""
    theta = theta.copy()
    residuals, objective = _loss(problem, theta)
    damping, converged = np.full(len(theta), 1e-3), np.zeros(len(theta), dtype=bool)
    live = np.arange(len(theta))
    for step in range(_STEPS):
        part = problem.rows(live)
        move, gain = _step(part, theta[live], residuals[live], damping[live], reweighted=step < _REWEIGHTED)
        trial_residuals, trial = _loss(part, move)
        better = trial < objective[live]
        small = gain <= _TOLERANCE * objective[live] + 1e-26 * part.weights.sum(axis=1)
        better |= small & (trial <= objective[live] * (1 + 1e-12))
        won = live[better]
        theta[won], residuals[won], objective[won] = move[better], trial_residuals[better], trial[better]
        converged[live] = small & (damping[live] <= 1.0)
        damping[live] = np.where(better, np.maximum(damping[live] / 8.0, 1e-12), damping[live] * 6.0)
        live = live[~converged[live] & (damping[live] < 1e10)]
        if live.size == 0:
            break
    left = np.flatnonzero(~converged)
    if left.size:  # at a kink of Huber's loss steps stop helping before they promise nothing
        ones = np.ones(left.size)
        _, gain = _step(problem.rows(left), theta[left], residuals[left], ones, reweighted=True)
        converged[left] = gain <= _SETTLED * objective[left]
    return theta, objective, converged


def _step(
    problem: _Problem, theta: Array, residuals: Array, damping: Array, *, reweighted: bool
) -> tuple[Array, Array]:
    """The next point inside the bounds, and the decrease that the quadratic model promises: [B, 4], [B]."""
    free = problem.form.free
    low, high = (bound[free] for bound in problem.bounds())
    jacobian = _jacobian(problem, theta)
    pull = problem.weights * np.clip(residuals, -problem.delta, problem.delta)
    descent = np.einsum("bkn,bn->bk", jacobian, pull)
    now = theta[:, free]
    held = ((now <= low) & (descent < 0)) | ((now >= high) & (descent > 0))
    curved = jacobian * _curvature(problem, residuals, reweighted=reweighted)[:, None, :]
    hessian = curved @ jacobian.transpose(0, 2, 1)
    jacobian_free = ~held
    hessian *= jacobian_free[:, :, None] & jacobian_free[:, None, :]
    diagonal = np.einsum("bkk->bk", hessian)
    diagonal += damping[:, None] * diagonal + 1e-300 + held
    descent = np.where(held, 0.0, descent)
    scale = np.sqrt(diagonal)
    scaled = hessian / (scale[:, :, None] * scale[:, None, :]) + 1e-14 * np.eye(len(free))
    move = np.linalg.solve(scaled, (descent / scale)[:, :, None])[:, :, 0] / scale
    limit = np.array([1.0, 3.0, np.inf, 1.5])[free]
    move = np.clip(move, -limit, limit)
    after = theta.copy()
    after[:, free] = np.clip(now + move, low, high)
    return after, np.abs(descent * (after[:, free] - now)).sum(axis=1)
