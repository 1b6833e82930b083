"""From a table and a form of law to estimates and replicates: options, data, losses, starts, resamples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypedDict

import numpy as np
from numpy.typing import NDArray

from analysis import columns, intervals, newton
from analysis.newton import Loss, Problem

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd

    from analysis.form import Form

Array = NDArray[np.float64]
_CHUNK, _STARTS = 256, 8
_PRIOR_SEEDS = 4.0


class OptionNames(TypedDict, total=False):
    """The keywords that every fit takes; see `Options`."""

    loss: Literal["huber", "squares"]
    delta: float | None
    residuals: newton.Residuals
    quantile: float
    weights: str | None
    sd: str | None
    resamples: int
    level: float
    seed: int


@dataclass(frozen=True)
class Options:
    """How a law is fitted and its intervals are drawn.

    Attributes:
        loss: "huber" on the residuals, or "squares".
        delta: Huber's threshold in the unit of the residuals (log y, or y). None takes it from the data,
            1.345 x 1.4826 x MAD after a pilot fit; Hoffmann et al. 2022 fix 1e-3 on log residuals.
        residuals: "log" (a percent is a percent everywhere) or "raw".
        quantile: 0.5 for the law through the middle; smaller for a lower envelope: residuals above the law
            count 2 quantile, those below 2 (1 - quantile).
        weights: column of weights on the loss, > 0.
        sd: column of the standard deviation of y among seeds, as from `average_seeds`; each residual is divided
            by it. A deviation from few seeds is drawn towards the pooled one (four degrees of freedom).
        resamples: bootstrap resamples; 0 for no intervals.
        level: nominal coverage of the intervals, in (0, 1).
        seed: of the resampling; the same call gives the same answer.
    """

    loss: Literal["huber", "squares"] = "huber"
    delta: float | None = None
    residuals: newton.Residuals = "log"
    quantile: float = 0.5
    weights: str | None = None
    sd: str | None = None
    resamples: int = 1000
    level: float = 0.95
    seed: int = 0

    def __post_init__(self) -> None:
        for name, known in (("loss", ("huber", "squares")), ("residuals", ("log", "raw"))):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} is {getattr(self, name)!r}; expected {' or '.join(map(repr, known))}")
        for name in ("level", "quantile"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)!r}; expected a fraction between 0 and 1")
        if self.resamples < 0:
            raise ValueError(f"resamples is {self.resamples!r}; expected 0 (no intervals) or more, such as 1000")
        if self.delta is not None and not (self.delta > 0 and self.loss == "huber"):
            raise ValueError(f"delta is {self.delta!r} with loss {self.loss!r}; a threshold > 0 belongs to 'huber'")


@dataclass(frozen=True)
class Data:
    """A table ready to be fitted: logarithms from their centre, weights and precision, sorted by inputs."""

    x: Array
    y: Array
    centre_x: Array
    centre_y: float
    weights: Array
    precision: Array
    cluster: NDArray[np.intp]
    points: pd.DataFrame
    dropped: int

    @property
    def logs(self) -> Array:
        """Logarithms of the inputs from their centre, [k, n]."""
        return np.log(self.x) - self.centre_x[:, None]

    @property
    def log_y(self) -> Array:
        """Logarithms of y from their median, [n]."""
        return np.asarray(np.log(self.y) - self.centre_y)


@dataclass(frozen=True)
class Estimate:
    """What a fit found, scaled: theta [P], its replicates [B, P] and whether each converged, the loss used."""

    theta: Array
    objective: float
    converged: bool
    loss: Loss
    residuals: Array
    condition: float
    weakest: Array
    replicates: Array
    replicates_converged: NDArray[np.bool_]


def read(frame: pd.DataFrame | Mapping[str, Any], x: Sequence[str], y: str, options: Options) -> Data:
    """The columns of a table checked, sorted and centred.

    Raises:
        ValueError: a column is missing or unfit.
    """
    extra = [name for name in (options.weights,) if name]
    table, dropped = columns.check(frame, [*x, *extra, y])
    table = table.sort_values([*x, y], kind="stable", ignore_index=True)  # the order of rows is no information
    at = table[list(x)].to_numpy(dtype=float).T.copy()
    values = table[y].to_numpy(dtype=float)
    weights = table[options.weights].to_numpy(dtype=float) if options.weights else np.ones(values.size)
    return Data(
        x=at,
        y=values,
        centre_x=np.log(at).mean(axis=1),
        centre_y=float(np.median(np.log(values))),
        weights=weights / weights.mean(),
        precision=_precision(table, y, options),
        cluster=intervals.clusters(table),
        points=table,
        dropped=dropped,
    )


def estimate(form: Form, data: Data, options: Options, draws: Array) -> Estimate:
    """Fit the law to the data and to each resample, whose weights are the rows of `draws` [B, n]."""
    theta, objective, converged, loss = _fit(form, data, options)
    problem = _problem(form, data, loss, data.weights[None, :])
    residuals = problem.residuals(form.value(theta[None, :]))[0]
    number, weakest = condition(problem, theta)
    many, settled = resolve(form, data, loss, draws * data.weights, theta)
    return Estimate(
        theta=theta,
        objective=objective,
        converged=converged,
        loss=loss,
        residuals=residuals,
        condition=number,
        weakest=weakest,
        replicates=many,
        replicates_converged=settled,
    )


def resolve(form: Form, data: Data, loss: Loss, weights: Array, warm: Array) -> tuple[Array, NDArray[np.bool_]]:
    """Refit to every row of `weights` [B, n]: theta [B, P] and whether each converged."""
    parts = [
        _solve(_problem(form, data, loss, weights[at : at + _CHUNK]), warm, 1)
        for at in range(0, len(weights), _CHUNK)
    ]
    if not parts:
        return np.empty((0, warm.size)), np.empty(0, dtype=bool)
    return np.concatenate([part[0] for part in parts]), np.concatenate([part[2] for part in parts])


def condition(problem: Problem, theta: Array) -> tuple[float, Array]:
    """How well the data determine theta [P], every column of the Jacobian scaled to length 1.

    Returns the condition number and the weakest direction, squared components [P] that sum to 1.
    """
    jacobian = problem.jacobian(theta[None, :])[0] * np.sqrt(problem.weights[0])
    length = np.linalg.norm(jacobian, axis=1, keepdims=True)
    directions, singular, _ = np.linalg.svd(jacobian / np.maximum(length, 1e-300), full_matrices=False)
    return float(singular[0] / max(singular[-1], 1e-300)), directions[:, -1] ** 2


def _fit(form: Form, data: Data, options: Options) -> tuple[Array, float, bool, Loss]:
    """One fit, with the threshold from the data three times over: an outlier moves the pilot."""
    scale = np.exp(data.centre_y) if options.residuals == "raw" else 1.0
    loss = Loss(options.residuals, np.inf, options.quantile)
    if options.delta is not None:
        loss = Loss(options.residuals, options.delta / scale, options.quantile)
    one = data.weights[None, :]
    theta, objective, converged = _solve(_problem(form, data, loss, one), None, _STARTS)
    for _ in range(3 if options.loss == "huber" and options.delta is None else 0):
        residuals = _problem(form, data, loss, one).residuals(form.value(theta))[0]
        delta = newton.threshold(residuals, len(form.low))
        if delta <= newton.MIN_THRESHOLD:  # an exact law: nothing is left to reweight
            break
        loss = Loss(options.residuals, delta, options.quantile)
        theta, objective, converged = _solve(_problem(form, data, loss, one), theta[0], _STARTS)
    return theta[0], float(objective[0]), bool(converged[0]), loss


def _problem(form: Form, data: Data, loss: Loss, weights: Array) -> Problem:
    log_y = np.broadcast_to(data.log_y, weights.shape)
    return Problem(form, log_y, weights, data.precision, loss, np.arange(len(form.low)))


def _solve(problem: Problem, warm: Array | None, count: int) -> tuple[Array, Array, NDArray[np.bool_]]:
    """The best of `count` refined starts of each data set, the warm one [P] among the candidates."""
    theta = problem.law.starts(problem, count)
    if warm is not None:
        theta = np.concatenate([theta, np.broadcast_to(warm, (len(theta), 1, warm.size))], axis=1)
        loss = np.stack([problem.objective(theta[:, k])[1] for k in range(theta.shape[1])], axis=1)
        theta = np.take_along_axis(theta, np.argsort(loss, axis=1)[:, :count, None], axis=1)
    batch, count = theta.shape[:2]
    wide = problem.rows(np.repeat(np.arange(batch), count)) if count > 1 else problem
    ends, objective, converged = newton.refine(wide, theta.reshape(batch * count, -1))
    best = objective.reshape(batch, count).argmin(axis=1) + count * np.arange(batch)
    return ends[best], objective[best], converged[best]


def _precision(table: pd.DataFrame, y: str, options: Options) -> Array:
    """One over the relative (or raw) deviation of each row, from its geometric mean: [n]."""
    if options.sd is None:
        return np.ones(len(table))
    columns.require(table, options.sd)
    scale = table[y].to_numpy(dtype=float) if options.residuals == "log" else 1.0
    variance = (table[options.sd].to_numpy(dtype=float, na_value=np.nan) / scale) ** 2
    known = np.isfinite(variance)
    if not known.any() or not np.max(variance[known]) > 0:
        raise ValueError(f"column {options.sd!r} holds no standard deviation > 0; leave `sd` out")
    spare = np.where(known, _spare(table), 0.0)
    pooled = float(np.average(variance[known], weights=spare[known]))
    moderate = (_PRIOR_SEEDS * pooled + spare * np.where(known, variance, 0.0)) / (_PRIOR_SEEDS + spare)
    logs = np.log(np.maximum(moderate, 1e-4 * pooled))
    return np.asarray(np.exp(-0.5 * (logs - logs.mean())))


def _spare(table: pd.DataFrame) -> Array:
    """Degrees of freedom behind each standard deviation; without a column `seeds` they are trusted as they are."""
    if "seeds" not in table:
        return np.full(len(table), 1e9)
    return np.maximum(table["seeds"].to_numpy(dtype=float) - 1.0, 1e-9)
