"""Two families or recipes compared: their exponents, and the compute that each needs for equal error."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.approaches.frontier import fit_frontier
from analysis.fits.law import fit_power_law
from analysis.fits.quantity import Quantity, quantity
from analysis.fits.summary import Summary, shown
from analysis.numbers import short
from analysis.table import columns
from analysis.table.groups import plain
from analysis.table.options import Options
from analysis.table.rows import as_frame

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from analysis.fits.result import LawFit

Array = NDArray[np.float64]

SURE = 0.9
"""Share of resamples that must reach an error for the compute at it to be compared."""


@dataclass(frozen=True, eq=False)
class Comparison(Summary):
    """One value of a column against another.

    Attributes:
        by: the column; names: its two values, (a, b).
        x, y: names of compute and of what was measured.
        fits: the law of a and of b.
        difference: exponent of a minus exponent of b.
        ratios: one row per level of y, falling: `y`, `ratio` = x that a needs over x that b needs, `low`, `high`,
            and `refused` (why there is none, or empty).
        common: (low, high), the y that both laws reach inside their fitted ranges; low > high if there is none.
        level: of the intervals.
        warnings: cautions, one sentence each.
        reasons: why the exponents cannot be compared; empty when `supported`.
    """

    by: str
    names: tuple[Any, Any]
    x: str
    y: str
    fits: tuple[LawFit, LawFit] = field(repr=False)
    difference: Quantity
    ratios: pd.DataFrame
    common: tuple[float, float]
    level: float
    warnings: tuple[str, ...]
    reasons: tuple[str, ...]

    def summary(self) -> str:
        """One line per level of y, and one for the exponents."""
        a, b = self.names
        lines = []
        for row in self.ratios.to_dict("records"):
            at = f"{short(100 * row['y'])} % error" if self.y == "error" else f"{self.y} {short(row['y'])}"
            if row["refused"]:
                lines.append(f"no ratio at {at}: {row['refused']}")
                continue
            ratio = Quantity(row["ratio"], row["low"], row["high"], np.empty(0))
            lines.append(f"{a} needs {ratio} x the {self.x} of {b} at {at}")
        if self.supported:
            each = [f"{name} {fit.quoted('exponent')}" for name, fit in zip(self.names, self.fits, strict=True)]
            lines.append(f"exponents {', '.join(each)}; difference {self.difference}")
        else:
            lines += [f"exponents not compared: {text}" for text in self.reasons]
        return "\n".join([*lines, *self.cautions()])

    def to_dict(self) -> dict[str, Any]:
        """As JSON can hold it; the two values as text."""
        return {**super().to_dict(), "names": [str(name) for name in self.names]}


def compare(  # noqa: PLR0913 - the columns, the question and the resampling
    frame: pd.DataFrame | Mapping[str, Any],
    by: str = "family",
    x: str = "flops",
    y: str = "error",
    *,
    pair: tuple[Any, Any] | None = None,
    at: Sequence[float] | None = None,
    best: bool = True,
    floor: bool = True,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Comparison:
    """Compare two values of `by`: the ratio of `x` at equal `y`, and the difference of the exponents.

    Each value gets its own law y = floor + coefficient x^-exponent and its own resamples. The ratio at a level of y
    is that of the inverted laws, resample by resample. There is no ratio where a law does not describe its runs
    (`LawFit.rejected`), nor at a level that one of them reaches only outside its fitted range, where it would
    compare two extrapolations.

    Args:
        frame: one row per run.
        by: name of the column that distinguishes the two.
        x: name of the column of compute.
        y: name of the measured column.
        pair: the two values (a, b), if the column holds more; default: its two values, in sorted order.
        at: levels of y; default: both ends and the middle of the range that both laws reach.
        best: whether to fit the frontier (`fit_frontier`) instead of all rows.
        floor: whether the laws have floors.
        resamples: bootstrap resamples; 0 for no intervals.
        level: nominal coverage of the intervals.
        seed: of the resampling.

    Raises:
        ValueError: a column is missing or unfit, or `by` does not contain the two values.
        FitError: a law does not exist, e.g. y does not fall with x.
    """
    Options(resamples=resamples, level=level, seed=seed)
    table = as_frame(frame)
    if np.sum(table.columns == by) == 1:
        table = table.assign(**{by: plain(table[by])})
    names = _pair(table, by, pair)
    fit = fit_frontier if best else fit_power_law
    a, b = (
        fit(table[table[by] == name], x=x, y=y, floor=floor, resamples=resamples, level=level, seed=seed + k)
        for k, name in enumerate(names)
    )
    return compared(by, names, (a, b), at)


def compared(
    by: str,
    names: tuple[Any, Any],
    fits: tuple[LawFit, LawFit],
    at: Sequence[float] | None = None,
) -> Comparison:
    """The comparison of two laws of one column of compute; arguments as for `compare`.

    The replicates of b are paired with those of a half a turn away: draws of equal seeds may resemble each other.
    """
    a, b = fits
    wider = max(a.wider, b.wider)
    drawn = (a.replicates, {name: np.roll(values, values.size // 2) for name, values in b.replicates.items()})
    common = (max(_ends(a)[0], _ends(b)[0]), min(_ends(a)[1], _ends(b)[1]))
    levels = np.sort(np.asarray(_levels(common) if at is None else at, dtype=float))[::-1]
    ratios = [_ratio(fits, drawn, names, float(y_at), a.level, wider) for y_at in levels]
    named = list(zip(names, fits, strict=True))
    cautions = [f"{name}: {text}" for name, fit in named for text in fit.warnings if text not in fit.reasons]
    apart = [] if common[0] < common[1] else [f"the ranges of {a.y} do not overlap"]
    return Comparison(
        by=by,
        names=names,
        x=a.x[0],
        y=a.y,
        fits=fits,
        difference=quantity(
            a.exponent - b.exponent, drawn[0]["exponent"] - drawn[1]["exponent"], a.level, wider=wider
        ),
        ratios=pd.DataFrame(ratios, columns=["y", "ratio", "low", "high", "refused"]),
        common=common,
        level=a.level,
        warnings=(*cautions, *apart),
        reasons=tuple(f"{name}: {text}" for name, fit in named for text in fit.reasons),
    )


def _pair(table: pd.DataFrame, by: str, pair: tuple[Any, Any] | None) -> tuple[Any, Any]:
    columns.require(table, by)
    values = sorted(table[by].dropna().unique().tolist(), key=str)
    if pair is None and len(values) == 2:
        return values[0], values[1]
    first = ", ".join(map(shown, values[:8]))
    if pair is None:
        raise ValueError(f"column {by!r} has {len(values)} values ({first}); pass two of them as pair=(a, b)")
    if set(pair) - set(values) or pair[0] == pair[1]:
        raise ValueError(f"pair is {' and '.join(map(shown, pair))}; expected two of the values of {by!r}: {first}")
    return pair


def _ends(law: LawFit) -> tuple[float, float]:
    """Smallest and largest y of the law inside its fitted range."""
    low, high = law.predict(np.array(law.x_range)[::-1])["y"]
    return float(low), float(high)


def _levels(common: tuple[float, float]) -> Array:
    low, high = common
    return np.geomspace(low, high, 3) if low < high else np.empty(0)


def _ratio(
    fits: tuple[LawFit, LawFit],
    replicates: tuple[Mapping[str, Array], Mapping[str, Array]],
    names: tuple[Any, Any],
    y: float,
    level: float,
    wider: float,
) -> dict[str, Any]:
    """The row of `Comparison.ratios` at one level of y."""
    a, b = fits
    row = {"y": y, "ratio": np.nan, "low": np.nan, "high": np.nan, "refused": ""}
    slack = 1e-9 * y
    for name, law in zip(names, fits, strict=True):
        if law.rejected:
            return row | {"refused": f"the law of {name} is rejected: {law.rejected[0]}"}
        low, high = _ends(law)
        if not low - slack <= y <= high + slack:
            return row | {"refused": f"{name} was measured from {short(high)} down to {short(low)} only"}
    value = float(np.exp(_log_x(a.estimates, y) - _log_x(b.estimates, y)))
    drawn = np.exp(_log_x(replicates[0], y) - _log_x(replicates[1], y))
    sure = float(np.mean(np.isfinite(drawn))) if drawn.size else 1.0
    if sure < SURE:
        return row | {"refused": f"a floor lies above it in {100 * (1 - sure):.0f} % of the resamples"}
    ratio = quantity(value, drawn, level, wider=wider, log=True)
    return row | {"ratio": ratio.value, "low": ratio.low, "high": ratio.high}


def _log_x(law: Mapping[str, Any], y: float) -> Array:
    """Log of the x at which each law, its parameters [] or [B], equals y; NaN below its floor."""
    with np.errstate(invalid="ignore", divide="ignore"):
        above = np.log(y - law.get("floor", 0.0))
        return np.asarray((np.log(law["coefficient"]) - above) / law["exponent"])
