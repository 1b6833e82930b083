"""The answer of a fit, whatever the law: a value that predicts, explains itself and carries its caveats."""

from __future__ import annotations

import html
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.fits.quantity import plain, quote
from analysis.solver import bootstrap

if TYPE_CHECKING:
    from analysis.laws.base import Law
    from analysis.solver.fitting import Found
    from analysis.table.data import Data

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class LawFit:
    """A law fitted to a table.

    Attributes:
        name: name of the law; `formula()` writes it out.
        x: names of the input columns; y: name of the measured one.
        estimates: value of each parameter and of each quantity that follows from them, in the units of the data.
        intervals: name -> (low, high) at `level`, for all of them.
        replicates: name -> [B], for all of them; B = `resamples`.
        level: the nominal coverage of every interval, in (0, 1).
        n, n_clusters: points fitted, units that were resampled.
        resamples: bootstrap resamples behind the intervals; 0 means no intervals (NaN).
        objective: the loss minimised, summed over rows; in log units, or in those of y squared for raw residuals.
        delta: Huber's threshold on the residuals; infinite for least squares.
        rms: root mean square of the residuals of log y.
        converged: whether the solver found a minimum.
        condition: condition number of the least-squares problem at the estimate, columns scaled to one length.
        at_bounds: parameters that ended at a bound of their range.
        unidentified: parameters that the data do not determine.
        ranges: smallest and largest value fitted of each input.
        points: the rows that were fitted.
        warnings: what a reader must know, one sentence each; the reasons are among them.
        reasons: why no exponent is claimed; empty when `supported`.
    """

    name: str
    x: tuple[str, ...]
    y: str
    estimates: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    replicates: dict[str, Array] = field(repr=False)
    level: float
    n: int
    n_clusters: int
    resamples: int
    objective: float
    delta: float
    rms: float
    converged: bool
    condition: float
    at_bounds: tuple[str, ...]
    unidentified: tuple[str, ...]
    ranges: dict[str, tuple[float, float]]
    points: pd.DataFrame = field(repr=False)
    warnings: tuple[str, ...]
    reasons: tuple[str, ...]
    law: Law = field(repr=False)
    data: Data = field(repr=False)
    solution: Found = field(repr=False)
    wider: float = field(repr=False, default=1.0)

    @property
    def supported(self) -> bool:
        """Whether the data support quoting the exponents."""
        return not self.reasons

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
        a new run. The band holds sampling error only.

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
        """The law as one line of text with its numbers."""
        numbers = {name: f"{value:.3g}" for name, value in self.estimates.items()}
        letters = dict(zip(self.law.inputs, self.x, strict=True))
        return f"{self.y} = {self.law.formula.format(**numbers, **letters)}"

    def quoted(self, name: str) -> str:
        """A parameter with its interval, to the digits that the interval justifies."""
        value, (low, high) = self[name], self.intervals[name]
        if not math.isfinite(high - low):
            return f"{value:.3g}"
        return " ".join([quote(value, (low, high)), f"[{quote(low, (low, high))}, {quote(high, (low, high))}]"])

    def summary(self) -> str:
        """A few lines of text. Where the data do not support the exponents they say why."""
        spans = ", ".join(f"{name} {low:.3g} to {high:.3g}" for name, (low, high) in self.ranges.items())
        head = [self.formula()] if self.supported else [f"{self.y}: no exponent claimed of {self.name!r}"]
        head += [f"  because {text}" for text in self.reasons]
        sure = f"{100 * self.level:g} % over {self.resamples} resamples of {self.n_clusters} clusters"
        body = [f"  {name} {self.quoted(name)}" for name in self.estimates] if self.supported else []
        body += [f"  ({sure})"] if self.resamples and self.supported else []
        notes = [f"  caution: {text}" for text in self.warnings if text not in self.reasons]
        return "\n".join([*head, *body, f"  rms of log residuals {self.rms:.2g}; {self.n} points, {spans}", *notes])

    def to_dict(self) -> dict[str, Any]:
        """Everything but the replicates, as JSON can hold it: infinite and undefined numbers are None."""
        names = ("y", "level", "n", "n_clusters", "resamples", "objective", "delta", "rms", "condition")
        out: dict[str, Any] = {name: plain(getattr(self, name)) for name in names}
        out |= {"law": self.name, "x": list(self.x), "converged": self.converged, "supported": self.supported}
        out |= {"estimates": {name: plain(value) for name, value in self.estimates.items()}}
        for name in ("intervals", "ranges"):
            out[name] = {key: [plain(end) for end in ends] for key, ends in getattr(self, name).items()}
        out |= {name: list(getattr(self, name)) for name in ("at_bounds", "unidentified", "warnings", "reasons")}
        points = self.points[[*self.x, self.y]].to_numpy(dtype=float)
        return out | {"points": [[plain(value) for value in row] for row in points]}

    def __str__(self) -> str:
        return self.summary()

    def _repr_html_(self) -> str:
        """The summary for a notebook, escaped: column names come from strangers' files."""
        rows = [
            f"<tr><th>{html.escape(name)}</th><td>{html.escape(self.quoted(name))}</td></tr>"
            for name in self.estimates
            if self.supported
        ]
        return f"<pre>{html.escape(self.summary())}</pre><table>{''.join(rows)}</table>"

    def _inputs(self, x: tuple[Any, ...]) -> Array:
        if len(x) != len(self.x):
            raise ValueError(f"predict needs {' and '.join(self.x)}, got {len(x)} inputs")
        at = np.stack(
            [part.ravel() for part in np.broadcast_arrays(*(np.asarray(part, dtype=float) for part in x))]
        )
        if not np.all(np.isfinite(at) & (at > 0)):
            raise ValueError(f"predict needs positive finite {' and '.join(self.x)}, got {at[~(at > 0)][:1]}")
        return at

    def _log_law(self, at: Array, theta: Array) -> Array:
        return self.law.at(np.log(at) - self.data.centre_x[:, None]).value(theta) + self.data.centre_y
