"""Laws as predictors: fitted to one table, they predict the runs of another, each with a band."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri, stdtrit

from analysis.approaches.surface import fit_surface
from analysis.fits.law import fit_law, fit_power_law
from analysis.solver.fitting import FitError

if TYPE_CHECKING:
    import pandas as pd

    from analysis.fits.quantity import Draws
    from analysis.fits.result import LawFit

Array = NDArray[np.float64]
Predict = Callable[["pd.DataFrame"], tuple[Array, Array, Array]]
"""Turns rows into log y and the low and high end of log y of a new run, [m] each."""


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


def _fitted(fit: Callable[[pd.DataFrame, Question], LawFit]) -> Law:
    def law(train: pd.DataFrame, q: Question) -> Predict:
        fitted = fit(train, q)
        noise = fitted.rms * np.sqrt(fitted.n / max(fitted.n - fitted.law.free.size, 1))

        def predict(test: pd.DataFrame) -> tuple[Array, Array, Array]:
            band = fitted.predict(*(test[name].to_numpy(dtype=float) for name in q.x))
            return _for_a_run(band, noise, q.draws["level"])

        return predict

    return law


def log_linear(train: pd.DataFrame, q: Question) -> Predict:
    """Least squares of log y on the logs of the inputs, with Student's prediction interval.

    Raises:
        FitError: there are no more rows than coefficients.
    """
    design, log_y = _design(train, q), np.log(train[q.y].to_numpy(dtype=float))
    spare = len(train) - design.shape[1]
    if spare < 1 or np.linalg.matrix_rank(design) < design.shape[1]:
        raise FitError(f"{len(train)} rows do not determine {design.shape[1]} coefficients")
    coefficients = np.linalg.lstsq(design, log_y, rcond=None)[0]
    noise = np.sqrt(np.sum((log_y - design @ coefficients) ** 2) / spare)
    inverse, reach = np.linalg.inv(design.T @ design), stdtrit(spare, 0.5 + q.draws["level"] / 2)

    def predict(test: pd.DataFrame) -> tuple[Array, Array, Array]:
        at = _design(test, q)
        middle = at @ coefficients
        half = reach * noise * np.sqrt(1 + np.einsum("mp,pq,mq->m", at, inverse, at))
        return middle, middle - half, middle + half

    return predict


def _design(frame: pd.DataFrame, q: Question) -> Array:
    logs = [np.log(frame[name].to_numpy(dtype=float)) for name in q.x]
    return np.stack([np.ones(len(frame)), *logs], axis=1)


def _for_a_run(band: pd.DataFrame, noise: float, level: float) -> tuple[Array, Array, Array]:
    """The band of a law, in log y, widened by the noise of one run."""
    middle, low, high = (np.log(band[name].to_numpy(dtype=float)) for name in ("y", "low", "high"))
    scatter = ndtri(0.5 + level / 2) * noise
    return middle, middle - np.hypot(middle - low, scatter), middle + np.hypot(high - middle, scatter)
