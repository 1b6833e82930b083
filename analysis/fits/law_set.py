"""Several laws of one variable at once: how probable each is, and what their mixture predicts.

Laws have priors and are weighted by their evidence (Laplace's approximation). The prediction is the mean of their
most probable curves in log y. Its band holds the randomised refits of every law, the scatter of the points, and the
errors that the same mixture made when it predicted the larger points of this table from the smaller ones.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Unpack

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.fits.law import law_entry
from analysis.fits.result import LawFit, build
from analysis.fits.summary import Summary, as_json
from analysis.laws.curves.base import Curve
from analysis.laws.newton import Loss
from analysis.numbers import short
from analysis.solver import fitting, quantiles
from analysis.solver.fitting import FitError, Minimum
from analysis.solver.posterior import Observed, Posterior, posterior, refit
from analysis.table.data import read
from analysis.table.options import Options

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from analysis.table.data import Data
    from analysis.table.options import OptionNames

Array = NDArray[np.float64]
CURVES = ("curve-power", "curve-floor", "curve-broken", "curve-saturating", "curve-tail")
_UNUSED = {
    **dict.fromkeys(
        ("loss", "delta", "residuals", "quantile"), "its laws are weighted under normal residuals of log y"
    ),
    **dict.fromkeys(
        ("bootstrap", "by", "cell"), "its bands come from randomised refits; records of a run are one point"
    ),
    **dict.fromkeys(("fix", "tie", "bounds"), "its laws have priors in place of constraints; fit one with fit_law"),
}
"""Options of other fits that have no meaning here, and why."""
_ORIGINS, _LEAST, _REFITS = 6, 5, 200
_NEGLIGIBLE = 0.01
"""Weight below which a law is not refitted for the band."""
_AS_GOOD = 1 / math.e
"""Weight relative to the largest above which laws describe the points equally well (AIC differences below 2)."""


@dataclass(frozen=True, eq=False)
class LawSet(Summary):
    """Laws of `y` against `x`, compared.

    Attributes:
        x, y: names of the columns.
        fits: name -> fit, the most probable law first; laws of weight below 0.01 have no replicates.
        evidence: name -> log of the probability of y under the law, up to a common constant.
        weights: name -> share in the mixture: prior mass times evidence, scaled to sum to 1.
        rolling: predictions of the mixture from the points up to an origin: columns `origin`, `x`, `y`,
            `predicted`; empty without resamples or with too few points.
        scatter: standard deviation of log y about the laws.
        drift: error of the mixture in log y a factor e beyond its data, from `rolling`; NaN where that is empty.
        level: the nominal coverage of every interval.
        warnings: what a reader must know.
    """

    x: str
    y: str
    fits: dict[str, LawFit] = field(repr=False)
    evidence: dict[str, float]
    weights: dict[str, float]
    rolling: pd.DataFrame = field(repr=False)
    scatter: float
    drift: float
    level: float
    warnings: tuple[str, ...]

    @property
    def best(self) -> LawFit:
        """The most probable law."""
        return next(iter(self.fits.values()))

    def predict(self, x: Any) -> pd.DataFrame:
        """The mixture at `x`: columns `x`, `y`, `low`, `high`, one row for each x given.

        The band is for what will be measured there. It holds the uncertainty of every law, their disagreement,
        the scatter of the points, and beyond the data the drift found by rolling origins.

        Raises:
            ValueError: some x is not a positive finite number.
        """
        curves = {name: fit.predict(x) for name, fit in self.fits.items()}
        at = curves[self.best.name]["x"].to_numpy(dtype=float)
        logs = sum(self.weights[name] * np.log(curve["y"].to_numpy(dtype=float)) for name, curve in curves.items())
        low, high = self._band(at, np.asarray(logs))
        return pd.DataFrame({"x": at, "y": np.exp(logs), "low": np.exp(low), "high": np.exp(high)})

    def table(self) -> pd.DataFrame:
        """One row a law, the most probable first: `law`, `parameters`, `rms`, `evidence`, `weight`, `exponent`."""
        rows = [
            {
                "law": name,
                "parameters": int(fit.law.free.size),
                "rms": fit.rms,
                "evidence": self.evidence[name],
                "weight": self.weights[name],
                "exponent": fit.exponent,
                "low": fit.intervals["exponent"][0],
                "high": fit.intervals["exponent"][1],
            }
            for name, fit in self.fits.items()
        ]
        return pd.DataFrame(rows)

    def summary(self) -> str:
        """A few lines of text: the laws in order, and the most probable one."""
        lines = [f"laws of {self.y} against {self.x}, {self.best.n} points:"]
        lines += [
            f"  {name:18} log evidence {self.evidence[name]:8.1f}  weight {self.weights[name]:.2f}"
            f"  rms {short(fit.rms, 2)}"
            for name, fit in self.fits.items()
        ]
        return "\n".join([*lines, *self.cautions(), self.best.summary()])

    def to_dict(self) -> dict[str, Any]:
        """The comparison and every fit, as JSON can hold it."""
        rows = self.table().to_dict("records")
        names = ("x", "y", "scatter", "drift", "level", "warnings")
        fits = {name: fit.to_dict() for name, fit in self.fits.items()}
        return {name: as_json(getattr(self, name)) for name in names} | {"laws": as_json(rows), "fits": fits}

    def _band(self, at: Array, logs: Array) -> tuple[Array, Array]:
        """Ends of the band of log y, [m] each."""
        drawn = [(self.weights[name], np.log(fit.drawn(at))) for name, fit in self.fits.items() if fit.resamples]
        if not drawn:
            return np.full(at.size, np.nan), np.full(at.size, np.nan)
        share = np.concatenate([np.full(len(part), weight / len(part)) for weight, part in drawn])
        at_ends = np.array([0.5 - self.level / 2, 0.5 + self.level / 2])
        ends = _quantiles(np.concatenate([part for _, part in drawn]), share / share.sum(), at_ends)
        low, high = np.minimum(ends[0], logs), np.maximum(ends[1], logs)
        extra = self._extra(at)
        return logs - np.hypot(logs - low, extra), logs + np.hypot(high - logs, extra)

    def _extra(self, at: Array) -> Array:
        """Half-width in log y of what no refit shows: scatter, and drift beyond the data."""
        low, high = self.best.ranges[self.x]
        beyond = np.maximum(np.log(at / high), 0.0) + np.maximum(np.log(low / at), 0.0)
        drift = 0.0 if math.isnan(self.drift) else self.drift
        return np.asarray(quantiles.gauss(self.level) * np.hypot(self.scatter, drift * beyond))


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
    laws: Sequence[str] = CURVES,
    **options: Unpack[OptionNames],
) -> LawSet:
    """Fit several laws of `y` against `x`, weight them by their evidence, and predict with their mixture.

    A law is a subclass of `Curve`: a power law, one with a floor, with a break and a floor, one that is flat before
    and behind, and one that is flat behind; or one of your own, by name. With `resamples` every law has intervals
    from up to 200 randomised refits, and the mixture a band that was calibrated by rolling origins on this table;
    with 0 there are no bands.

    Args:
        frame: one row a point; any table with the two columns. Rows without a finite `y` are left out.
        x: positive column that is varied.
        y: positive column that was measured.
        laws: names of laws with priors.
        **options: `weights`, `sd`, `run`, `resamples`, `level`, `seed` of `Options`; records of a run count as one
            point.

    Raises:
        ValueError: a column or an option is missing or not valid, a law has no priors, or there are fewer than 5
            distinct x.
        FitError: no law has a finite evidence.
    """
    chosen = Options.of(options, unused=_UNUSED)
    data = read(frame, (x,), y, chosen)
    if data.distinct < _LEAST:
        raise ValueError(f"found {data.distinct} distinct {x!r}; comparing laws needs at least {_LEAST}")
    rng = np.random.default_rng(chosen.seed)
    ranked = _rank(data, laws, rng)
    rolling = _roll(data, laws, rng) if chosen.resamples else _predictions([], [], [], [])
    scatter = math.sqrt(sum(r.weight * r.found.variance for r in ranked))
    drift = _drift(rolling, scatter)
    return LawSet(
        x=x,
        y=y,
        fits={r.name: _fit(r, data, (x, y), chosen, rng) for r in ranked},
        evidence={r.name: r.found.log_evidence for r in ranked},
        weights={r.name: r.weight for r in ranked},
        rolling=rolling,
        scatter=scatter,
        drift=drift,
        level=chosen.level,
        warnings=(*_warnings(ranked, drift, chosen), *data.notes),
    )


class _Ranked(NamedTuple):
    name: str
    law: Curve
    found: Posterior
    weight: float


def _rank(data: Data, laws: Sequence[str], rng: np.random.Generator) -> list[_Ranked]:
    """The laws, the one of largest weight first."""
    placed = {name: _place(data, name) for name in laws}
    found = {name: posterior(law, _observed(data), rng) for name, law in placed.items()}
    logs = np.array([found[name].log_evidence + math.log(law.mass) for name, law in placed.items()])
    if not np.isfinite(logs.max()):
        raise FitError(f"none of {', '.join(laws)} fits the points")
    weights = np.exp(logs - logs.max())
    shares = zip(placed, (weights / weights.sum()).tolist(), strict=True)
    return sorted(
        (_Ranked(name, placed[name], found[name], share) for name, share in shares), key=lambda r: -r.weight
    )


def _place(data: Data, name: str) -> Curve:
    entry = law_entry(name)
    if not issubclass(entry, Curve):
        raise ValueError(f"law {name!r} has no priors; expected laws such as {', '.join(CURVES)}")  # noqa: TRY004
    return entry(data.logs, data.centre_x)


def _observed(data: Data) -> Observed:
    """Records of one run count together as one point."""
    weights = data.weights * data.precision**2
    return Observed(data.log_y, weights * data.clusters / weights.sum())


def _fit(r: _Ranked, data: Data, columns: tuple[str, str], options: Options, rng: np.random.Generator) -> LawFit:
    """The most probable law as the result of a fit, its refits as replicates."""
    count = min(options.resamples, _REFITS) if r.weight > _NEGLIGIBLE else 0
    replicates = refit(r.law, _observed(data), r.found, count, rng) if count else np.empty((0, r.found.theta.size))
    problem = fitting.pose(r.law, data, Loss("log", np.inf, 0.5))
    objective = float(problem.objective(r.found.theta[None, :])[1][0])
    minimum = Minimum(r.found.theta, objective, converged=True, loss=problem.loss)
    solution = fitting.with_replicates(problem, minimum, replicates, np.ones(count, dtype=bool))
    return build(LawFit, r.name, ((columns[0],), columns[1]), r.law, data, solution, options)


def _roll(data: Data, laws: Sequence[str], rng: np.random.Generator) -> pd.DataFrame:
    """What the mixture predicts of all later points from the points up to each origin."""
    at = np.unique(data.x[0])
    first = max(_LEAST + 1, at.size // 2)
    origins = at[np.unique(np.linspace(first, at.size - 1, _ORIGINS).astype(int)) - 1] if first < at.size else []
    parts = []
    for origin in origins:
        later = data.x[0] > origin
        past = data.rows(~later)
        places = np.log(data.x[:, later]) - past.centre_x[:, None]
        ranked = _rank(past, laws, rng)
        logs = sum(r.weight * r.law.at(places).value(r.found.theta[None, :])[0] for r in ranked)
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


def _warnings(ranked: Sequence[_Ranked], drift: float, options: Options) -> tuple[str, ...]:
    rivals = [r.name for r in ranked[1:] if r.weight > _AS_GOOD * ranked[0].weight]
    told = [f"{' and '.join(rivals)} describe the points as well as {ranked[0].name}"] if rivals else []
    if options.resamples and math.isnan(drift):
        told.append("too few points to calibrate a band beyond them: it holds no drift")
    return tuple(told)
