"""Several laws of one variable at once: which describes the points best, and what their mixture predicts.

A law is chosen by AICc. A prediction is the mixture of all laws by their AICc weights (Burnham and Anderson 2002).
Its band is widened by the errors that the same mixture made when it predicted the larger points of this table from
the smaller ones.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Unpack

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.fits.law import fit_placed, place
from analysis.fits.summary import Summary, as_json
from analysis.laws import newton
from analysis.solver import bootstrap, fitting
from analysis.solver.fitting import FitError
from analysis.table.data import read
from analysis.table.options import Options

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from analysis.fits.result import LawFit
    from analysis.laws.base import Law
    from analysis.solver.fitting import Minimum
    from analysis.table.data import Data
    from analysis.table.options import OptionNames

Array = NDArray[np.float64]
TRIED = ("power", "power-floor", "power-shift", "power-floor-shift", "sigmoid", "broken-1", "broken-2", "broken-3")
_ORIGINS, _LEAST = 8, 5
_POINTS_A_PARAMETER = 5 / 3
"""With fewer points a law interpolates: nine parameters through 14 points of the addition table foretell worse."""
_AS_GOOD = 2.0
"""AICc difference below which laws are equally good (Burnham and Anderson 2002)."""


@dataclass(frozen=True, eq=False)
class LawSet(Summary):
    """Laws of `y` against `x`, compared.

    Attributes:
        x, y: names of the columns.
        fits: name -> fit, the best law first.
        aicc: name -> AICc, under the loss of the law with the least scatter; records of one run count as one.
        weights: name -> share in the mixture, exp(-AICc / 2) scaled to sum to 1.
        left_out: name -> why a law was not minimum.
        rolling: what the mixture predicted from the points up to an origin: columns `origin`, `x`, `y`,
            `predicted`; empty without resamples or with too few points.
        scatter: robust standard deviation of log y about the best law.
        drift: error of the mixture in log y a factor e beyond its data, from `rolling`; NaN where that is empty.
        level: the nominal coverage of every interval.
        warnings: what a reader must know.
    """

    x: str
    y: str
    fits: dict[str, LawFit] = field(repr=False)
    aicc: dict[str, float]
    weights: dict[str, float]
    left_out: dict[str, str]
    rolling: pd.DataFrame = field(repr=False)
    scatter: float
    drift: float
    level: float
    warnings: tuple[str, ...]

    @property
    def best(self) -> LawFit:
        """The law with the lowest AICc."""
        return next(iter(self.fits.values()))

    def predict(self, x: Any) -> pd.DataFrame:
        """The mixture at `x`: columns `x`, `y`, `low`, `high`, one row for each x given.

        The band is for a new measurement. It contains the sampling error of every law, their disagreement, the
        scatter of the points, and beyond the data the drift measured with rolling origins.

        Raises:
            ValueError: some x is not a positive finite number.
        """
        frames = {name: fit.predict(x) for name, fit in self.fits.items()}
        at = frames[self.best.name][self.best.law.inputs[0]].to_numpy(dtype=float)
        logs = sum(self.weights[name] * np.log(frame["y"].to_numpy(dtype=float)) for name, frame in frames.items())
        low, high = self._band(at, np.asarray(logs))
        return pd.DataFrame({"x": at, "y": np.exp(logs), "low": np.exp(low), "high": np.exp(high)})

    def table(self) -> pd.DataFrame:
        """One row a law, the best first: `law`, `parameters`, `rms`, `aicc`, `weight`, `exponent` with its ends."""
        rows = [
            {
                "law": name,
                "parameters": int(fit.law.free.size),
                "rms": fit.rms,
                "aicc": self.aicc[name],
                "weight": self.weights[name],
                "exponent": fit.estimates.get("exponent", math.nan),
                "low": fit.intervals.get("exponent", (math.nan,) * 2)[0],
                "high": fit.intervals.get("exponent", (math.nan,) * 2)[1],
            }
            for name, fit in self.fits.items()
        ]
        return pd.DataFrame(rows)

    def summary(self) -> str:
        """A few lines of text: the laws in order, and the best one."""
        lines = [f"laws of {self.y} against {self.x}, {self.best.n} points:"]
        lines += [
            f"  {name:18} AICc {self.aicc[name]:8.1f}  weight {self.weights[name]:.2f}  rms {fit.rms:.2g}"
            for name, fit in self.fits.items()
        ]
        lines += [f"  {name:18} left out: {why}" for name, why in self.left_out.items()]
        return "\n".join([*lines, *self.cautions(), self.best.summary()])

    def to_dict(self) -> dict[str, Any]:
        """The comparison and every fit, as JSON can hold it."""
        names = ("x", "y", "left_out", "scatter", "drift", "level", "warnings", "fits")
        return {"laws": as_json(self.table())} | {name: as_json(getattr(self, name)) for name in names}

    def _band(self, at: Array, logs: Array) -> tuple[Array, Array]:
        """Ends of the band of log y, [m] each."""
        if not self.best.resamples:
            return np.full(at.size, np.nan), np.full(at.size, np.nan)
        drawn = [np.log(fit.drawn(at)) for fit in self.fits.values()]
        shares = [self.weights[name] / len(part) for (name, part) in zip(self.fits, drawn, strict=True)]
        pool = np.concatenate(drawn)
        share = np.repeat(shares, [len(part) for part in drawn])
        ends = _quantiles(pool, share, np.array([0.5 - self.level / 2, 0.5 + self.level / 2]))
        low, high = (np.minimum(ends[0], logs), np.maximum(ends[1], logs))
        extra = self._extra(at)
        return logs - np.hypot(logs - low, extra), logs + np.hypot(high - logs, extra)

    def _extra(self, at: Array) -> Array:
        """Half-width in log y of what resamples do not contain: scatter, and drift beyond the data."""
        low, high = self.best.ranges[self.x]
        beyond = np.maximum(np.log(at / high), 0.0) + np.maximum(np.log(low / at), 0.0)
        drift = 0.0 if math.isnan(self.drift) else self.drift
        return np.asarray(bootstrap.gauss(self.level) * np.hypot(self.scatter, drift * beyond))


def _quantiles(values: Array, weights: Array, at: Array) -> Array:
    """Weighted quantiles of values [K, m] with weights [K]: [len(at), m]."""
    order = np.argsort(values, axis=0)
    share = np.cumsum(weights[order], axis=0) - 0.5 * weights[order]
    ranked = np.take_along_axis(values, order, axis=0)
    columns = [np.interp(at, share[:, k], ranked[:, k]) for k in range(values.shape[1])]
    return np.stack(columns, axis=1)


def fit_laws(
    frame: pd.DataFrame | Mapping[str, Any],
    x: str = "examples",
    y: str = "error",
    *,
    laws: Sequence[str] = TRIED,
    chance: float | None = None,
    **options: Unpack[OptionNames],
) -> LawSet:
    """Fit several laws of `y` against `x` and compare them by AICc.

    A broken law gets another break only while that lowers its AICc. With `resamples` every fit has intervals and
    the mixture a band that was calibrated by rolling origins on this table; with 0 the laws are only compared.

    Args:
        frame: one row a point; any table with the two columns. Rows without a finite `y` are left out.
        x: positive column that is varied.
        y: positive column that was measured.
        laws: names of laws as for `fit_law`.
        chance: y of a model that has learnt nothing, if known; read by "sigmoid".
        **options: see `Options`.

    Raises:
        ValueError: a column or an option is missing or not valid, or there are fewer than 5 distinct x.
        FitError: no law can be fitted.
    """
    chosen = Options.of(options)
    data = read(frame, (x,), y, chosen)
    if data.distinct < _LEAST:
        raise ValueError(f"found {data.distinct} distinct {x!r}; comparing laws needs at least {_LEAST}")
    ranked, left_out = _rank(data, laws, chance, chosen)
    best = ranked[0]
    rolling = _roll(data, laws, chance, chosen) if chosen.resamples else _predictions([], [], [], [])
    scatter = newton.threshold(_log_residuals(data, best), best.law.free.size) / newton.TUNING
    drift = _drift(rolling, scatter)
    return LawSet(
        x=x,
        y=y,
        fits={r.name: fit_placed(data, r.law, r.name, (x, y), chosen, minimum=r.minimum) for r in ranked},
        aicc={r.name: r.aicc for r in ranked},
        weights=_weights(ranked),
        left_out=left_out,
        rolling=rolling,
        scatter=scatter,
        drift=drift,
        level=chosen.level,
        warnings=_warnings(ranked, drift, chosen),
    )


class _Ranked(NamedTuple):
    name: str
    law: Law
    minimum: Minimum
    aicc: float


def _rank(
    data: Data, laws: Sequence[str], chance: float | None, options: Options
) -> tuple[list[_Ranked], dict[str, str]]:
    """The laws that can be fitted, by AICc under one loss, and why the others cannot."""
    fits: dict[str, tuple[Law, Minimum]] = {}
    left_out: dict[str, str] = {}
    distinct = min(data.distinct, data.clusters)
    for name in laws:
        law = place(data, name, chance)
        need = math.ceil(_POINTS_A_PARAMETER * law.free.size)
        if distinct < need:
            left_out[name] = f"{law.free.size} parameters need {need} distinct x, there are {distinct}"
        elif _idle_break(name, fits, data):
            left_out[name] = "one break less describes the points as well"
        else:
            fits[name] = (law, fitting.minimise(law, data, options))
    for name in [name for name, (_, minimum) in fits.items() if not minimum.converged]:
        left_out[name] = "the solver did not converge"
        del fits[name]
    if not fits:
        raise FitError(f"no law fits: {'; '.join(f'{name}: {why}' for name, why in left_out.items())}")
    scores = _aicc(data, fits)
    ranked = [_Ranked(name, *fits[name], scores[name]) for name in fits]
    return sorted(ranked, key=lambda r: r.aicc), left_out


def _idle_break(name: str, fits: dict[str, tuple[Law, Minimum]], data: Data) -> bool:
    """Whether a law with one more break is not worth trying, its forerunner being no better than the best other."""
    family, _, breaks = name.rpartition("-")
    simpler = f"broken-{int(breaks) - 1}" if family == "broken" and breaks.isdigit() else ""
    if simpler not in fits:
        return False
    scores = _aicc(data, fits)
    return scores[simpler] > min(scores.values())


def _aicc(data: Data, fits: dict[str, tuple[Law, Minimum]]) -> dict[str, float]:
    """AICc of every law under the loss of the one with the least scatter."""
    loss = min((minimum.loss for _, minimum in fits.values()), key=lambda loss: loss.delta)
    scores = {}
    for name, (law, minimum) in fits.items():
        objective = fitting.pose(law, data, loss).objective(minimum.theta[None, :])[1][0]
        scores[name] = fitting.aicc(law, data, float(objective))
    return scores


def _weights(ranked: Sequence[_Ranked]) -> dict[str, float]:
    share = np.exp(-0.5 * (np.array([r.aicc for r in ranked]) - ranked[0].aicc))
    return dict(zip([r.name for r in ranked], (share / share.sum()).tolist(), strict=True))


def _roll(data: Data, laws: Sequence[str], chance: float | None, options: Options) -> pd.DataFrame:
    """Predictions of all later points by the mixture, from the points up to each origin."""
    at = np.unique(data.x[0])
    first = max(_LEAST + 1, at.size // 2)
    origins = at[np.unique(np.linspace(first, at.size - 1, _ORIGINS).astype(int)) - 1] if first < at.size else []
    parts = []
    for origin in origins:
        later = data.x[0] > origin
        past = data.rows(~later)
        ranked, _ = _rank(past, laws, chance, options)
        weights, places = _weights(ranked), np.log(data.x[:, later]) - past.centre_x[:, None]
        logs = sum(weights[r.name] * r.law.at(places).value(r.minimum.theta[None, :])[0] for r in ranked)
        parts.append(_predictions(origin, data.x[0, later], data.y[later], np.exp(logs + past.centre_y)))
    return pd.concat(parts, ignore_index=True) if parts else _predictions([], [], [], [])


def _predictions(origin: Any, x: Any, y: Any, predicted: Any) -> pd.DataFrame:
    return pd.DataFrame({"origin": origin, "x": x, "y": y, "predicted": predicted}, dtype=float)


def _drift(rolling: pd.DataFrame, scatter: float) -> float:
    """Error in log y beyond the scatter, per factor e beyond the data: root mean square over origins.

    Later origins, which saw more of the points, count by their rank. On 63 learning curves (23 real, 40 planted)
    this had the best interval score of mean, median, ranked mean and the later half.
    """
    if rolling.empty:
        return math.nan
    from_x, x, y, predicted = rolling.to_numpy().T
    off = np.maximum(np.log(y / predicted) ** 2 - scatter**2, 0.0)
    reach, origin = np.log(x / from_x) ** 2, np.unique(from_x, return_inverse=True)[1]
    rates = np.bincount(origin, off) / np.bincount(origin, reach)
    return math.sqrt(float(np.average(rates, weights=np.arange(1, rates.size + 1))))


def _log_residuals(data: Data, ranked: _Ranked) -> Array:
    return np.asarray(data.log_y - ranked.law.value(ranked.minimum.theta[None, :])[0])


def _warnings(ranked: Sequence[_Ranked], drift: float, options: Options) -> tuple[str, ...]:
    rivals = [r.name for r in ranked[1:] if r.aicc < ranked[0].aicc + _AS_GOOD]
    warnings = [f"{' and '.join(rivals)} describe the points as well as {ranked[0].name}"] if rivals else []
    if options.resamples and math.isnan(drift):
        warnings.append("too few points to calibrate the band beyond them: it contains no drift")
    return tuple(warnings)
