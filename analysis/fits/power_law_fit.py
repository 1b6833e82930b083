"""The answer of a one-variable fit: a value that predicts, explains itself and carries its caveats."""

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
    from collections.abc import Sequence

    from analysis.solver.power_law import Solution

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class PowerLawFit:
    """y = floor + coefficient (shift + x)^-exponent, fitted.

    Attributes:
        x, y: names of the columns.
        exponent, coefficient, floor, shift: the estimate; exponent > 0, floor >= 0 in the unit of y,
            shift >= 0 in the unit of x. `coefficient` is in unit of y times unit of x to the exponent.
        intervals: name of a parameter -> (low, high) at `level`, from the bootstrap.
        level: the nominal coverage of every interval, in (0, 1).
        n, n_distinct, n_clusters: points fitted, distinct x among them, units that were resampled.
        resamples: bootstrap resamples behind the intervals; 0 means no intervals (NaN).
        rms: root mean square of the residuals of log y.
        x_range: smallest and largest x fitted; beyond it a prediction extrapolates.
        compatible: (low, high), the exponents that the data, their range and the form of the law leave open:
            never narrower than the interval.
        points: the rows that were fitted.
        warnings: what a reader must know, one sentence each; the reasons are among them.
        reasons: why no exponent is claimed; empty when `supported`.
    """

    x: str
    y: str
    exponent: float
    coefficient: float
    floor: float
    shift: float
    intervals: dict[str, tuple[float, float]]
    level: float
    n: int
    n_distinct: int
    n_clusters: int
    resamples: int
    rms: float
    x_range: tuple[float, float]
    compatible: tuple[float, float]
    points: pd.DataFrame = field(repr=False)
    warnings: tuple[str, ...]
    reasons: tuple[str, ...]
    law: Solution = field(repr=False)
    replicates: Solution = field(repr=False)
    wider: float = field(repr=False, default=1.0)

    @property
    def supported(self) -> bool:
        """Whether the data support quoting an exponent."""
        return not self.reasons

    def predict(self, x: float | Sequence[float] | Array | pd.Series) -> pd.DataFrame:
        """The law at `x` with its band: columns `x`, `y`, `low`, `high`, one row for each x given.

        The band is pointwise at `level`, for the law and not for a new run; it holds sampling error only.
        Beyond `x_range` it is too narrow: on real learning curves such bands covered about 60 %.

        Raises:
            ValueError: some x is not a positive finite number.
        """
        at = np.atleast_1d(np.asarray(x, dtype=float))
        if at.ndim != 1 or not np.all(np.isfinite(at) & (at > 0)):
            raise ValueError(f"predict needs positive finite {self.x} in one dimension, got {x!r}")
        y = self.law.predict(at)[0]
        band = np.full((2, at.size), np.nan)
        if self.resamples:
            logs = np.log(self.replicates.predict(at))
            band = np.exp(bootstrap.percentile(logs, np.log(y), self.level, self.wider))
        return pd.DataFrame({"x": at, "y": y, "low": band[0], "high": band[1]})

    def formula(self) -> str:
        """The law as one line of text with its numbers, e.g. `error = 0.05 + 2.3e+03 flops^-0.306`."""
        base = f"({self.shift:.3g} + {self.x})" if self.shift else self.x
        floor = f"{self.floor:.3g} + " if self.floor else ""
        power = quote(self.exponent, self.intervals["exponent"])
        return f"{self.y} = {floor}{self.coefficient:.3g} {base}^-{power}"

    def quoted(self, name: str) -> str:
        """A parameter with its interval, to the digits that the interval justifies."""
        value, (low, high) = float(getattr(self, name)), self.intervals[name]
        if not math.isfinite(high - low):
            return f"{value:.3g}"
        return " ".join([quote(value, (low, high)), f"[{quote(low, (low, high))}, {quote(high, (low, high))}]"])

    def summary(self) -> str:
        """A few lines of text. Where the data do not support an exponent they say so instead of one."""
        low, high = self.x_range
        data = f"{self.n} points, {self.n_distinct} distinct {self.x} from {low:.3g} to {high:.3g}"
        notes = [f"  caution: {text}" for text in self.warnings if text not in self.reasons]
        return "\n".join([*(self._claim() if self.supported else self._refusal()), f"  {data}", *notes])

    def to_dict(self) -> dict[str, Any]:
        """Everything but the replicates, as JSON can hold it: infinite and undefined numbers are None."""
        names = (
            "x",
            "y",
            "exponent",
            "coefficient",
            "floor",
            "shift",
            "level",
            "n",
            "n_distinct",
            "n_clusters",
        )
        out: dict[str, Any] = {name: plain(getattr(self, name)) for name in names}
        out |= {"resamples": self.resamples, "rms": plain(self.rms), "supported": self.supported}
        out |= {"intervals": {name: [plain(end) for end in ends] for name, ends in self.intervals.items()}}
        out |= {name: [plain(end) for end in getattr(self, name)] for name in ("x_range", "compatible")}
        out |= {"warnings": list(self.warnings), "reasons": list(self.reasons)}
        points = self.points[[self.x, self.y]].to_numpy(dtype=float)
        return out | {"points": [[plain(a), plain(b)] for a, b in points]}

    def __str__(self) -> str:
        return self.summary()

    def _repr_html_(self) -> str:
        """The summary for a notebook, escaped: column names come from strangers' files."""
        rows = [
            f"<tr><th>{html.escape(name)}</th><td>{html.escape(self.quoted(name))}</td></tr>"
            for name in ("exponent", "coefficient", "floor", "shift")
            if self.supported and name in self.intervals
        ]
        return f"<pre>{html.escape(self.summary())}</pre><table>{''.join(rows)}</table>"

    def _claim(self) -> list[str]:
        sure = f"{100 * self.level:g} % over {self.resamples} resamples of {self.n_clusters} clusters"
        lines = [self.formula(), f"  exponent {self.quoted('exponent')}   ({sure})"]
        lines += [f"  {name} {self.quoted(name)}" for name in ("floor", "shift") if name in self.intervals]
        return [*lines, f"  rms of log residuals {self.rms:.2g}"]

    def _refusal(self) -> list[str]:
        low, high = (f"{end:.2g}" for end in self.compatible)
        head = f"{self.y} against {self.x}: no exponent claimed; these points allow {low} to {high}"
        return [head, *(f"  because {text}" for text in self.reasons)]
