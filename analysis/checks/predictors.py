"""Laws as predictors: fitted to one table, they predict the runs of another, each with a band."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri, stdtrit

from analysis.approaches.surface import fit_surface
from analysis.fits.diagnosis.scatter import EXACT, flexible, polynomials
from analysis.fits.law import fit_law, fit_power_law
from analysis.fits.thresholds import CHANCE
from analysis.solver.fitting import FitError

if TYPE_CHECKING:
    import pandas as pd

    from analysis.approaches.surface import SurfaceFit
    from analysis.fits.quantity import Draws
    from analysis.fits.result import LawFit

Array = NDArray[np.float64]
Predict = Callable[["pd.DataFrame"], tuple[Array, Array, Array]]
"""Turns rows into log y and the low and high end of log y of a new run, [m] each.

An attribute `rejected`, if there is one, tells why the law does not describe the rows that it was fitted to.
"""


@dataclass(frozen=True)
class Question:
    """The input columns, the measured column, and how intervals are drawn."""

    x: tuple[str, ...]
    y: str
    draws: Draws


Law = Callable[["pd.DataFrame", Question], Predict]
"""Fits rows and returns the function that predicts others; raises FitError if the rows have no law."""


def power(*, floor: bool, shift: bool = False) -> Law:
    """The power law of one input."""
    return _fitted(lambda train, q: fit_power_law(train, q.x[0], q.y, floor=floor, shift=shift, **q.draws))


def curve(law: str) -> Law:
    """Any law of one input that `fit_law` knows, e.g. "sigmoid" or "broken-1"."""
    return _fitted(lambda train, q: fit_law(train, q.x[0], q.y, law=law, **q.draws))


def surface(law: str) -> Law:
    """A surface of params and examples."""
    return _fitted(lambda train, q: fit_surface(train, q.x[0], q.x[1], q.y, law=law, **q.draws))


def rivals(fit: SurfaceFit) -> dict[str, Law] | None:
    """The forms of a fitted surface that are not ruled out, and a log-linear law; None for a law without forms."""
    if fit.forms is None:
        return None
    return {name: surface(name) for name in fit.alternatives} | {"log-linear": LogLinear}


@dataclass(frozen=True)
class FittedLaw:
    """A law that was fitted, as a predictor of runs."""

    fit: LawFit

    @property
    def rejected(self) -> tuple[str, ...]:
        """Why the law does not describe the rows that it was fitted to."""
        return self.fit.rejected

    def __call__(self, test: pd.DataFrame) -> tuple[Array, Array, Array]:
        """Log y and the band of a new run."""
        noise = self.fit.rms * np.sqrt(self.fit.n / max(self.fit.n - self.fit.law.free.size, 1))
        band = self.fit.predict(*(test[name].to_numpy(dtype=float) for name in self.fit.x))
        return _for_a_run(band, noise, self.fit.level)


def _fitted(fit: Callable[[pd.DataFrame, Question], LawFit]) -> Law:
    return lambda train, q: FittedLaw(fit(train, q))


class LogLinear:
    """Least squares of log y on the logs of the inputs, with Student's prediction interval.

    Raises:
        FitError: there are no more rows than coefficients.
    """

    def __init__(self, train: pd.DataFrame, q: Question) -> None:
        self.design, self.q, log_y = _design(train, q), q, np.log(train[q.y].to_numpy(dtype=float))
        self.spare = len(train) - self.design.shape[1]
        if self.spare < 1 or np.linalg.matrix_rank(self.design) < self.design.shape[1]:
            raise FitError(f"{len(train)} rows do not determine {self.design.shape[1]} coefficients")
        self.coefficients = np.linalg.lstsq(self.design, log_y, rcond=None)[0]
        self.residuals = log_y - self.design @ self.coefficients

    @property
    def rejected(self) -> tuple[str, ...]:
        """Why the law does not describe the rows that it was fitted to."""
        logs, cluster = self.design[:, 1:].T, np.arange(len(self.design))
        exact = np.sqrt(np.mean(self.residuals**2)) < EXACT
        bent = 1.0 if exact else flexible(self.residuals, self.design, polynomials(logs), cluster)
        return ("the points bend about the log-linear law: it is not the law of this table",) * (bent <= CHANCE)

    def __call__(self, test: pd.DataFrame) -> tuple[Array, Array, Array]:
        """Log y and the band of a new run."""
        at, inverse = _design(test, self.q), np.linalg.inv(self.design.T @ self.design)
        noise = np.sqrt(np.sum(self.residuals**2) / self.spare)
        half = noise * np.sqrt(1 + np.einsum("mp,pq,mq->m", at, inverse, at))
        half *= stdtrit(self.spare, 0.5 + self.q.draws["level"] / 2)
        middle = at @ self.coefficients
        return middle, middle - half, middle + half


def _design(frame: pd.DataFrame, q: Question) -> Array:
    logs = [np.log(frame[name].to_numpy(dtype=float)) for name in q.x]
    return np.stack([np.ones(len(frame)), *logs], axis=1)


def _for_a_run(band: pd.DataFrame, noise: float, level: float) -> tuple[Array, Array, Array]:
    """The band of a law, in log y, widened by the noise of one run."""
    middle, low, high = (np.log(band[name].to_numpy(dtype=float)) for name in ("y", "low", "high"))
    scatter = ndtri(0.5 + level / 2) * noise
    return middle, middle - np.hypot(middle - low, scatter), middle + np.hypot(high - middle, scatter)
