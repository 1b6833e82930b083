"""The result of a fit, whatever the law: a value that predicts, explains itself and carries its warnings."""

from __future__ import annotations

import html
import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.fits.diagnosis.diagnostics import Diagnosis, at_bounds, diagnose
from analysis.fits.diagnosis.stability import leverage
from analysis.fits.quantity import quote, span
from analysis.fits.summary import Summary, as_json
from analysis.numbers import short
from analysis.solver import bootstrap
from analysis.solver.fitting import pose

if TYPE_CHECKING:
    from collections.abc import Mapping

    from analysis.fits.forms import Forms
    from analysis.laws.base import Law
    from analysis.solver.fitting import Solution
    from analysis.table.data import Data
    from analysis.table.options import Options

Array = NDArray[np.float64]
Interval = tuple[float, float]
Fit = TypeVar("Fit", bound="LawFit")


@dataclass(frozen=True, eq=False)
class LawFit(Summary):
    """A law fitted to a table.

    Attributes:
        name: name of the law; `formula()` writes it out.
        x: names of the input columns; y: name of the measured one.
        estimates: value of each parameter and of each quantity that follows from them, in the units of the data.
        intervals: name -> (low, high) at `level`, for all of them; NaN without resamples.
        replicates: name -> [B], for all of them; B = `resamples`.
        level: the nominal coverage of every interval, in (0, 1).
        objective: the loss minimised, summed over rows; in log units, or in those of y squared for raw residuals.
        delta: Huber's threshold on the residuals; infinite for least squares.
        rms: root mean square of the residuals of log y.
        law, data, solution: the placed law, the data, and theta with its replicates, in scaled units.
        options: how it was fitted.
        wider: factor by which intervals are wider than the percentiles of the replicates.
    """

    name: str
    x: tuple[str, ...]
    y: str
    estimates: dict[str, float]
    intervals: dict[str, Interval]
    replicates: dict[str, Array] = field(repr=False)
    level: float
    objective: float
    delta: float
    rms: float
    law: Law = field(repr=False)
    data: Data = field(repr=False)
    solution: Solution = field(repr=False)
    options: Options = field(repr=False)
    wider: float = field(repr=False)

    @property
    def forms(self) -> Forms | None:
        """The forms of the law on the same rows, compared; None for a law of one variable."""
        return None

    @property
    def alternatives(self) -> Mapping[str, LawFit]:
        """The forms of the law that the points do not rule out, by name: this one, for a law of one variable."""
        return {self.name: self}

    @property
    def warnings(self) -> tuple[str, ...]:  # type: ignore[override]  # computed when first asked for
        """What a reader must know, one sentence each; the reasons are among them."""
        return self._diagnosis.warnings

    @property
    def reasons(self) -> tuple[str, ...]:  # type: ignore[override]
        """Why the exponents are not identified; empty when `supported`."""
        return self._diagnosis.reasons

    @property
    def rejected(self) -> tuple[str, ...]:
        """Why the law does not describe the table; then nothing that rests on it is claimed. Part of `reasons`."""
        return self._diagnosis.rejected

    @property
    def floor_reasons(self) -> tuple[str, ...]:
        """Why the floor is not identified, `rejected` included; empty where these points show one."""
        return self._diagnosis.floor_reasons

    @cached_property
    def leverage(self) -> Array:
        """How much each of the `points` determines its own fitted value: [n], in [0, 1]."""
        return leverage(pose(self.law, self.data, self.solution.loss), self.solution.theta)

    @property
    def noise(self) -> float | None:
        """Standard deviation of log y of one run, from at least five degrees of freedom of repeats; else None."""
        return self._diagnosis.noise

    @property
    def compatible(self) -> dict[str, Interval]:
        """Exponent -> (low, high), the values that the data, their range and rival laws leave open.

        Never narrower than the interval. For a surface of params and examples also the exponents of the optimum and
        the floor, each the union over the forms that are not ruled out.
        """
        return self._diagnosis.compatible

    @property
    def claimed(self) -> dict[str, Interval]:
        """Name -> the interval that is printed.

        Wider than `intervals` by the forms of a surface that are not ruled out, and where rows at an end of the
        range may leave the law of the others (a caution says so) by the interval of the others.
        """
        return self._diagnosis.claimed

    @property
    def unidentified(self) -> tuple[str, ...]:
        """Parameters that the data do not determine."""
        return self._diagnosis.unidentified

    @property
    def exponent(self) -> float:
        """The exponent. Raises AttributeError if the law has none of this name."""
        return self._named("exponent")

    @property
    def coefficient(self) -> float:
        """The coefficient, in unit of y times unit of x to the exponent. AttributeError if there is none."""
        return self._named("coefficient")

    @property
    def floor(self) -> float:
        """What y tends to, in the unit of y; 0 for a law without a floor."""
        return self.estimates.get("floor", 0.0)

    @property
    def shift(self) -> float:
        """What is added to x, in the unit of x; 0 for a law without a shift."""
        return self.estimates.get("shift", 0.0)

    @property
    def n(self) -> int:
        """Number of points fitted."""
        return self.data.y.size

    @property
    def n_distinct(self) -> int:
        """Number of distinct inputs among the points."""
        return self.data.distinct

    @property
    def n_clusters(self) -> int:
        """Number of units that are resampled."""
        return self.data.clusters

    @property
    def resamples(self) -> int:
        """Number of bootstrap resamples behind the intervals."""
        return len(self.solution.replicates)

    @property
    def converged(self) -> bool:
        """Whether the solver found a minimum."""
        return self.solution.converged

    @property
    def condition(self) -> float:
        """Condition number of the least-squares problem at the estimate, columns scaled to one length."""
        return self.solution.condition

    @property
    def at_bounds(self) -> tuple[str, ...]:
        """Parameters that ended at a bound of their range."""
        return at_bounds(self.law, self.solution.theta)

    @property
    def ranges(self) -> dict[str, Interval]:
        """Smallest and largest value fitted of each input; beyond them a prediction extrapolates."""
        return {
            name: (float(axis.min()), float(axis.max())) for name, axis in zip(self.x, self.data.x, strict=True)
        }

    @property
    def x_range(self) -> Interval:
        """Smallest and largest value fitted of the first input."""
        return self.ranges[self.x[0]]

    @property
    def points(self) -> pd.DataFrame:
        """The rows that were fitted."""
        return self.data.points

    def __getitem__(self, name: str) -> float:
        """The estimate of a parameter or derived quantity.

        Raises:
            KeyError: the law has none of that name.
        """
        if name not in self.estimates:
            raise KeyError(f"the law {self.name!r} has no {name!r}; it has {', '.join(self.estimates)}")
        return self.estimates[name]

    def predict(self, *x: Any) -> pd.DataFrame:
        """The law at inputs that broadcast together, with its band, one row each.

        Columns: the letters of the inputs, `y`, and `low`, `high`, pointwise at `level`, for the law and not for
        a new run. The band holds sampling error only. Beyond `ranges` it is too narrow: on real learning curves
        such bands covered about 60 % of the points.

        Raises:
            ValueError: another number of inputs, or some of them not positive and finite.
        """
        at = self._inputs(x)
        logs, drawn = (
            self._log_law(at, self.solution.theta[None, :])[0],
            self._log_law(at, self.solution.replicates),
        )
        band = np.full((2, logs.size), np.nan)
        if self.resamples:
            band = np.exp(bootstrap.percentile(drawn, logs, self.level, self.wider))
        columns = dict(zip(self.law.inputs, at, strict=True))
        return pd.DataFrame({**columns, "y": np.exp(logs), "low": band[0], "high": band[1]})

    def drawn(self, *x: Any) -> Array:
        """The law of every replicate at inputs that broadcast together to m points: [B, m].

        Raises:
            ValueError: as for `predict`.
        """
        return np.asarray(np.exp(self._log_law(self._inputs(x), self.solution.replicates)))

    def formula(self) -> str:
        """The law as one line of text with its numbers, e.g. `error = 0.05 + 2.3e+03 flops^-0.306`."""
        numbers = {name: short(value) for name, value in self.estimates.items()}
        numbers |= {name: quote(self[name], self.intervals[name]) for name in self.law.exponents}
        letters = dict(zip(self.law.inputs, self.x, strict=True))
        text = self.law.formula.format(**numbers, **letters)
        return f"{self.y} = {text.removeprefix('0 + ')}"

    def quoted(self, name: str) -> str:
        """A parameter with its interval, to the digits that the interval justifies.

        The interval is that of `claimed`.
        """
        value, (low, high) = self[name], self.claimed[name]
        if name in self.law.constraints.fix:
            return f"{short(value)} (fixed)"
        if not math.isfinite(high - low):
            return short(value)
        return f"{quote(value, (low, high))} [{quote(low, (low, high))}, {quote(high, (low, high))}]"

    def refusal(self) -> str:
        """Which exponents are not identified, and the values that remain, e.g. `exponent not identified (...)`."""
        return (
            ", ".join(f"{name} not identified ({self._open(name)})" for name in self.law.exponents) or "no exponent"
        )

    def summary(self) -> str:
        """A few lines of text. Where the data do not support the exponents they say why."""
        head = self._claim() if self.supported else self._refusal()
        spans = ", ".join(f"{name} {short(low)} to {short(high)}" for name, (low, high) in self.ranges.items())
        rms = f"rms of log residuals {short(self.rms, 2)}"
        body = f"  law {self.name}; {self.n} points, {self.n_distinct} distinct, {spans}; {rms}"
        return "\n".join([*head, body, *self.cautions()])

    def to_dict(self) -> dict[str, Any]:
        """Everything but the replicates, as JSON can hold it: infinite and undefined numbers are None."""
        names = (
            *("x", "y", "level", "n", "n_distinct", "n_clusters", "resamples", "objective", "delta", "rms"),
            *("condition", "converged", "supported", "floor", "shift", "estimates", "intervals", "compatible"),
            *("ranges", "at_bounds", "unidentified", "warnings", "reasons"),
            *("rejected", "floor_reasons"),
            *(name for name in ("exponent", "coefficient") if name in self.estimates),
        )
        points = self.points[[*self.x, self.y]].to_numpy(dtype=float).tolist()
        rows = {"points": points, "leverage": self.leverage.tolist(), "constraints": as_json(self.law.constraints)}
        return {"law": self.name} | {name: as_json(getattr(self, name)) for name in names} | rows

    def _repr_html_(self) -> str:
        """The summary for a notebook, escaped: column names may come from anybody's file."""
        rows = [
            f"<tr><th>{html.escape(name)}</th><td>{html.escape(self.quoted(name))}</td></tr>"
            for name in self.estimates
            if self.supported
        ]
        return f"<pre>{html.escape(self.summary())}</pre><table>{''.join(rows)}</table>"

    @cached_property
    def _diagnosis(self) -> Diagnosis:
        return diagnose(self)

    def _named(self, name: str) -> float:
        if name not in self.estimates:
            raise AttributeError(f"the law {self.name!r} has no {name}; it has {', '.join(self.estimates)}")
        return self.estimates[name]

    def _claim(self) -> list[str]:
        lines = [f"  {name} {self.quoted(name)}" for name in self.estimates]
        if self.resamples:
            lines += [
                f"  ({100 * self.level:g} % intervals, {self.resamples} resamples of {self.n_clusters} clusters)"
            ]
        return [self.formula(), *lines]

    def _refusal(self) -> list[str]:
        head = f"{self.y} against {', '.join(self.x)}: {self.refusal()}"
        return [head, *(f"  because {text}" for text in self.reasons)]

    def _open(self, name: str) -> str:
        """The values that remain of an exponent, and what leaves them open."""
        (low, high), interval = self.compatible[name], self.intervals[name]
        alone = f"{100 * self.level:g} % interval {span(interval)}"
        open_still = span((low, high))
        if not math.isfinite(interval[0]):
            return f"compatible with {open_still}"
        return alone if np.allclose((low, high), interval, rtol=1e-6) else f"{alone}, compatible with {open_still}"

    def _inputs(self, x: tuple[Any, ...]) -> Array:
        if len(x) != len(self.x):
            raise ValueError(f"predict needs {' and '.join(self.x)}, got {len(x)} inputs")
        at = np.stack(
            [part.ravel() for part in np.broadcast_arrays(*(np.asarray(part, dtype=float) for part in x))]
        )
        valid = np.isfinite(at) & (at > 0)
        if not np.all(valid):
            raise ValueError(f"predict needs positive finite {' and '.join(self.x)}, got {at[~valid][0]:g}")
        return at

    def _log_law(self, at: Array, theta: Array) -> Array:
        return self.law.at(np.log(at) - self.data.centre_x[:, None]).value(theta) + self.data.centre_y


def build(
    kind: type[Fit],
    name: str,
    columns: tuple[tuple[str, ...], str],
    law: Law,
    data: Data,
    solution: Solution,
    options: Options,
    *,
    wider: float | None = None,
) -> Fit:
    """The result of a fit, with intervals.

    `columns` are the names of the inputs and of y; `wider` is the factor on percentiles, by default from the data.
    """
    with np.errstate(over="ignore"):
        values = law.parameters(solution.theta[None, :], data.centre_y)
        replicates = law.parameters(solution.replicates, data.centre_y)
    estimates = {key: float(value[0]) for key, value in values.items()}
    wider = bootstrap.stretch(data, options, law.free.size) if wider is None else wider
    intervals = {
        key: _interval(law, key, replicates[key], value, options.level, wider) for key, value in estimates.items()
    }
    unit = float(np.exp(data.centre_y)) if options.residuals == "raw" else 1.0
    return kind(
        name=name,
        x=columns[0],
        y=columns[1],
        estimates=estimates,
        intervals=intervals,
        replicates=replicates,
        level=options.level,
        objective=solution.objective * unit**2,
        delta=solution.loss.delta * unit,
        rms=float(np.sqrt(np.mean((data.log_y - law.value(solution.theta[None, :])[0]) ** 2))),
        law=law,
        data=data,
        solution=solution,
        options=options,
        wider=wider,
    )


def _interval(
    law: Law, name: str, replicates: Array, estimate: float, level: float, wider: float
) -> tuple[float, float]:
    """Percentile interval of a parameter, on a log scale unless it may be 0, cut at the ends of its range."""
    if name in law.constraints.fix:
        return estimate, estimate
    if not replicates.size:
        return (np.nan, np.nan)
    if name in law.linear:
        ends = bootstrap.percentile(replicates, estimate, level, wider)
    else:
        with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
            ends = np.exp(bootstrap.percentile(np.log(replicates), np.log(estimate), level, wider))
    least = 0.0 if replicates.min() >= 0 else -np.inf
    inside = np.clip(ends, *(law.exponent_range if name in law.exponents else (least, np.inf)))
    low, high = np.clip(inside, *law.constraints.bounds.get(name, (-np.inf, np.inf)))
    return float(low), float(high)
