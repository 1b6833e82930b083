"""Fit y = floor + coefficient (shift + x)^-exponent to the rows of a table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from analysis import caveats, columns, intervals, solver
from analysis.form import EXPONENT_BOUNDS
from analysis.law import PowerLawFit
from analysis.solver import FitError, Form, Solution

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Sample:
    """What is fitted and how it is resampled.

    `x`, `y`: [n], the points of the fit. The bootstrap's data sets are `drawn_weights` [B, m] of `drawn_y`
    ([m], or [B, m] where y itself is drawn anew) at `drawn_x` [m], mostly the same points. `clusters` is the
    number of units that were drawn, `points` the frame to keep.
    """

    x: Array
    y: Array
    drawn_x: Array
    drawn_y: Array
    drawn_weights: Array
    clusters: int
    points: pd.DataFrame
    dropped: int = 0
    notes: tuple[str, ...] = ()


def fit_power_law(
    frame: pd.DataFrame | Mapping[str, Any],
    x: str = "flops",
    y: str = "error",
    *,
    floor: bool = True,
    shift: bool = False,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> PowerLawFit:
    """The power law of `y` against `x` through all rows of `frame`, with bootstrap intervals.

    y = floor + coefficient (shift + x)^-exponent with exponent in [0.001, 10], coefficient > 0, floor >= 0,
    shift >= 0 (Bachmann et al. 2023, section 4: `a (b + x)^-alpha + E_inf`). The loss is Huber's on residuals
    of log y with delta = 1.345 x 1.4826 x their MAD, where Hoffmann et al. 2022 (appendix D.3) fix 1e-3.
    The floor may lie above the lowest y seen: on a noisy plateau half of the points are below it.
    Intervals are percentiles over resampled clusters (rows that share a `run_id`, otherwise rows), widened
    for few clusters. They hold sampling error, not the error of the law.

    Args:
        frame: one row a point; any table with the two columns. Rows without a finite `y` are left out.
        x: name of the positive column that is varied.
        y: name of the positive column that was measured.
        floor: whether the law has a floor.
        shift: whether x is shifted.
        resamples: bootstrap resamples; 0 for no intervals.
        level: nominal coverage of the intervals, in (0, 1).
        seed: of the resampling; the same call gives the same answer.

    Raises:
        ValueError: a column is missing or unfit, or there are fewer distinct x than parameters (at least 3).
        FitError: `y` does not fall with `x`.
    """
    form = Form(floor, shift)
    check_options(resamples, level)
    table, dropped = columns.check(frame, [x, y])
    table = table.sort_values([x, y], kind="stable", ignore_index=True)  # the order of rows is no information
    at, values = table[x].to_numpy(dtype=float), table[y].to_numpy(dtype=float)
    check_distinct(at, x, form, dropped)
    cluster = intervals.clusters(table)
    weights = intervals.resample(cluster, at, resamples, np.random.default_rng(seed), form.count)
    sample = Sample(at, values, at, values, weights, int(cluster.max()) + 1, table, dropped)
    return conclude(sample, x, y, form, level)


def check_options(resamples: int, level: float) -> None:
    """Raise a ValueError for a number of resamples or a level that makes no sense."""
    if not 0 < level < 1:
        raise ValueError(f"level is {level!r}; expected a fraction between 0 and 1 such as 0.95")
    if resamples < 0:
        raise ValueError(f"resamples is {resamples!r}; expected 0 (no intervals) or more, such as 1000")


def check_distinct(at: Array, x: str, form: Form, dropped: int = 0, what: str = "rows") -> None:
    """Raise a ValueError when there are fewer distinct x than the law has parameters, or fewer than 3."""
    need, found = max(3, form.count), np.unique(at).size
    if found >= need:
        return
    lost = f" ({dropped} rows without a finite value left out)" if dropped else ""
    raise ValueError(f"found {found} distinct {x!r} in {at.size} {what}{lost}; this law needs at least {need}")


def conclude(sample: Sample, x: str, y: str, form: Form, level: float) -> PowerLawFit:
    """Fit a sample and its resamples, and draw the conclusions.

    Raises:
        FitError: `y` does not fall with `x`.
    """
    ones = np.ones(sample.x.size)
    law, delta = solver.solve_robust(sample.x, sample.y, ones, form)
    _require_fall(law, sample.x, x, y)
    replicates = law[:0]
    if len(sample.drawn_weights):
        replicates = solver.solve(sample.drawn_x, sample.drawn_y, sample.drawn_weights, form, delta=delta, warm=law)
    wider = intervals.stretch(sample.clusters, form.count, level)
    ends = _intervals(law, replicates, form, level, wider)
    evidence = _evidence(sample, x, y, form, law, replicates, ends["exponent"], delta)
    warnings, reasons = caveats.examine(evidence)
    with np.errstate(over="ignore"):
        coefficient = float(np.exp(law.log_coefficient[0]))
    return PowerLawFit(
        x=x,
        y=y,
        exponent=float(law.exponent[0]),
        coefficient=coefficient,
        floor=float(law.floor[0]),
        shift=float(law.shift[0]),
        intervals=ends,
        level=level,
        n=sample.x.size,
        n_distinct=evidence.distinct,
        n_clusters=sample.clusters,
        resamples=len(sample.drawn_weights),
        rms=float(np.sqrt(np.mean(evidence.residuals**2))),
        x_range=(float(sample.x.min()), float(sample.x.max())),
        compatible=caveats.compatible(evidence),
        points=sample.points,
        warnings=warnings,
        reasons=reasons,
        law=law,
        replicates=replicates,
        wider=wider,
    )


def _require_fall(law: Solution, at: Array, x: str, y: str) -> None:
    ends = law.predict(np.array([at.min(), at.max()]))[0]
    flat = law.exponent[0] < 1.01 * EXPONENT_BOUNDS[0] or ends[0] < 1.001 * ends[1]
    if flat or not np.all(np.isfinite(ends)):
        raise FitError(f"{y!r} does not fall as {x!r} grows, so no power law describes it; look at the points")


def _intervals(
    law: Solution, replicates: Solution, form: Form, level: float, wider: float
) -> dict[str, tuple[float, float]]:
    """Exponent and coefficient on a log scale, floor and shift on their own, cut at 0."""
    names = [
        "exponent",
        "coefficient",
        *(["floor"] if form.floor else []),
        *(["shift"] if form.shift else []),
    ]
    if not replicates.exponent.size:
        return dict.fromkeys(names, (np.nan, np.nan))
    logs = intervals.percentile(np.log(replicates.exponent), np.log(law.exponent[0]), level, wider)
    ends = {
        "exponent": np.clip(np.exp(logs), *EXPONENT_BOUNDS),
        "floor": np.maximum(intervals.percentile(replicates.floor, law.floor[0], level, wider), 0.0),
        "shift": np.maximum(intervals.percentile(replicates.shift, law.shift[0], level, wider), 0.0),
    }
    with np.errstate(over="ignore"):
        logs = intervals.percentile(replicates.log_coefficient, law.log_coefficient[0], level, wider)
        ends["coefficient"] = np.exp(logs)
    return {name: (float(ends[name][0]), float(ends[name][1])) for name in names}


def _evidence(
    sample: Sample,
    x: str,
    y: str,
    form: Form,
    law: Solution,
    replicates: Solution,
    interval: tuple[float, float],
    delta: float,
) -> caveats.Evidence:
    return caveats.Evidence(
        x_name=x,
        y_name=y,
        x=sample.x,
        residuals=np.log(sample.y) - np.log(law.predict(sample.x)[0]),
        form=form,
        law=law,
        replicates=replicates,
        interval=interval,
        trimmed=_trimmed(sample, form, law, delta),
        rivals=_rivals(sample, form, law, delta),
        clusters=sample.clusters,
        dropped=sample.dropped,
        notes=sample.notes,
    )


def _trimmed(sample: Sample, form: Form, law: Solution, delta: float) -> dict[str, float]:
    """The exponent without the smallest and without the largest x, where enough x remain to refit."""
    if np.unique(sample.x).size <= form.count + 1:
        return {}
    keep = np.stack([sample.x > sample.x.min(), sample.x < sample.x.max()]).astype(float)
    refits = solver.solve(sample.x, sample.y, keep, form, delta=delta, warm=law, starts=4)
    return {"smallest": float(refits.exponent[0]), "largest": float(refits.exponent[1])}


def _rivals(sample: Sample, form: Form, law: Solution, delta: float) -> dict[str, tuple[float, float]]:
    """The law with one part switched: its exponent, and the AICc of the law minus that of the rival."""
    score, found = _aicc(law, form, sample), {}
    others = {"floor": Form(not form.floor, form.shift), "shift": Form(form.floor, not form.shift)}
    for part, other in others.items():
        rival = solver.solve(sample.x, sample.y, np.ones((1, sample.x.size)), other, delta=delta, starts=8)
        gain = score - _aicc(rival, other, sample)
        if np.isfinite(gain):
            found[part] = (float(rival.exponent[0]), gain)
    return found


def _aicc(fit: Solution, form: Form, sample: Sample) -> float:
    """AICc from the Huber objective; records of a run count as one. Infinite where n is too small."""
    n, k = sample.clusters, form.count + 1
    if n <= k + 1:
        return np.inf
    mean = max(2.0 * float(fit.objective[0]) / sample.x.size, 1e-24)
    return n * float(np.log(mean)) + 2 * k + 2 * k * (k + 1) / (n - k - 1)
