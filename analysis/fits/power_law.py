"""Fit y = floor + coefficient (shift + x)^-exponent to the rows of a table."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np
from numpy.typing import NDArray

from analysis.fits import power_law_diagnostics as caveats
from analysis.fits.power_law_fit import PowerLawFit
from analysis.laws.base import EXPONENT_BOUNDS
from analysis.laws.power import Power
from analysis.solver import bootstrap, fitting
from analysis.solver import power_law as solver
from analysis.solver.fitting import FitError
from analysis.solver.power_law import Form, Points, Solution
from analysis.table.data import read
from analysis.table.options import Options

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd

    from analysis.laws.newton import Loss
    from analysis.table.options import OptionNames

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Sample:
    """What is fitted and how it is resampled.

    `x`, `y`: [n], the points of the fit. The bootstrap's data sets are `drawn_weights` [B, m] of `drawn_y`
    ([m], or [B, m] where y itself is drawn anew) at `drawn_x` [m], mostly the same points. `clusters` is the
    number of units that were drawn, `points` the frame to keep. Without a `loss` it is Huber's on log residuals,
    its threshold from the data; `weights` and `precision` [n] count and scale the residuals of the points.
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
    loss: Loss | None = None
    weights: Array | float = 1.0
    precision: Array | float = 1.0
    wider: float | None = None

    def solve(self, form: Form, weights: Array, loss: Loss, **how: Any) -> Solution:
        """The law of the points under each row of `weights` [B, n]."""
        return solver.solve(Points(self.x, loss, self.precision), self.y, weights * self.weights, form, **how)


def fit_power_law(
    frame: pd.DataFrame | Mapping[str, Any],
    x: str = "flops",
    y: str = "error",
    *,
    floor: bool = True,
    shift: bool = False,
    **options: Unpack[OptionNames],
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
        **options: see `Options`: the loss, what is drawn, how often.

    Raises:
        ValueError: a column or an option is missing or unfit, or there are fewer distinct x
            than parameters (at least 3).
        FitError: `y` does not fall with `x`.
    """
    form, chosen = Form(floor, shift), Options(**options)
    data = read(frame, (x,), y, chosen)
    check_distinct(data.x[0], x, form, data.dropped)
    law = Power(data.logs, data.centre_x, floor=floor, shift=shift)
    theta, _, _, loss = fitting.fit(law, data, chosen)
    groups = [(np.unique(data.x[0], return_inverse=True)[1], form.count)]
    problem = fitting.pose(law, data, loss, data.weights[None, :])
    weights, log_y = bootstrap.draw(data, chosen, problem, theta, groups)
    unit = np.exp(data.centre_y) if chosen.residuals == "raw" else 1.0
    return conclude(
        Sample(
            x=data.x[0],
            y=data.y,
            drawn_x=data.x[0],
            drawn_y=data.y if chosen.bootstrap == "pairs" else np.exp(log_y + data.centre_y),
            drawn_weights=weights * data.weights,
            clusters=data.clusters,
            points=data.points,
            dropped=data.dropped,
            notes=data.notes,
            loss=replace(loss, delta=loss.delta * unit),
            weights=data.weights,
            precision=data.precision,
            wider=bootstrap.stretch(data, chosen, form.count),
        ),
        x,
        y,
        form,
        chosen.level,
    )


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


def conclude(drawn: Sample, x: str, y: str, form: Form, level: float) -> PowerLawFit:
    """Fit a sample and its resamples, and draw the conclusions.

    Raises:
        FitError: `y` does not fall with `x`.
    """
    law, loss = _estimate(drawn, form)
    _require_fall(law, drawn.x, x, y)
    replicates = law[:0]
    if len(drawn.drawn_weights):
        places = Points(drawn.drawn_x, loss, drawn.precision)
        replicates = solver.solve(places, drawn.drawn_y, drawn.drawn_weights, form, warm=law)
    wider = drawn.wider or bootstrap.widening(drawn.clusters, form.count, level)
    ends = _intervals(law, replicates, form, level, wider)
    evidence = _evidence(drawn, x, y, form, law, replicates, ends["exponent"], loss)
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
        n=drawn.x.size,
        n_distinct=evidence.distinct,
        n_clusters=drawn.clusters,
        resamples=len(drawn.drawn_weights),
        rms=float(np.sqrt(np.mean(evidence.residuals**2))),
        x_range=(float(drawn.x.min()), float(drawn.x.max())),
        compatible=caveats.compatible(evidence),
        points=drawn.points,
        warnings=warnings,
        reasons=reasons,
        law=law,
        replicates=replicates,
        wider=wider,
    )


def _estimate(drawn: Sample, form: Form) -> tuple[Solution, Loss]:
    """The law of the points, and the loss with its threshold."""
    if drawn.loss is None:
        law, points = solver.solve_robust(Points(drawn.x), drawn.y, np.ones(drawn.x.size), form)
        return law, points.loss
    return drawn.solve(form, np.ones((1, drawn.x.size)), drawn.loss, starts=8), drawn.loss


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
    logs = bootstrap.percentile(np.log(replicates.exponent), np.log(law.exponent[0]), level, wider)
    ends = {
        "exponent": np.clip(np.exp(logs), *EXPONENT_BOUNDS),
        "floor": np.maximum(bootstrap.percentile(replicates.floor, law.floor[0], level, wider), 0.0),
        "shift": np.maximum(bootstrap.percentile(replicates.shift, law.shift[0], level, wider), 0.0),
    }
    with np.errstate(over="ignore"):
        logs = bootstrap.percentile(replicates.log_coefficient, law.log_coefficient[0], level, wider)
        ends["coefficient"] = np.exp(logs)
    return {name: (float(ends[name][0]), float(ends[name][1])) for name in names}


def _evidence(
    drawn: Sample,
    x: str,
    y: str,
    form: Form,
    law: Solution,
    replicates: Solution,
    interval: tuple[float, float],
    loss: Loss,
) -> caveats.Evidence:
    return caveats.Evidence(
        x_name=x,
        y_name=y,
        x=drawn.x,
        residuals=np.log(drawn.y) - np.log(law.predict(drawn.x)[0]),
        form=form,
        law=law,
        replicates=replicates,
        interval=interval,
        trimmed=_trimmed(drawn, form, law, loss),
        rivals=_rivals(drawn, form, law, loss),
        clusters=drawn.clusters,
        dropped=drawn.dropped,
        notes=drawn.notes,
    )


def _trimmed(drawn: Sample, form: Form, law: Solution, loss: Loss) -> dict[str, float]:
    """The exponent without the smallest and without the largest x, where enough x remain to refit."""
    if np.unique(drawn.x).size <= form.count + 1:
        return {}
    keep = np.stack([drawn.x > drawn.x.min(), drawn.x < drawn.x.max()]).astype(float)
    refits = drawn.solve(form, keep, loss, warm=law, starts=4)
    return {"smallest": float(refits.exponent[0]), "largest": float(refits.exponent[1])}


def _rivals(drawn: Sample, form: Form, law: Solution, loss: Loss) -> dict[str, tuple[float, float]]:
    """The law with one part switched: its exponent, and the AICc of the law minus that of the rival."""
    score, found = _aicc(law, form, drawn), {}
    others = {"floor": Form(not form.floor, form.shift), "shift": Form(form.floor, not form.shift)}
    for part, other in others.items():
        rival = drawn.solve(other, np.ones((1, drawn.x.size)), loss, starts=8)
        gain = score - _aicc(rival, other, drawn)
        if np.isfinite(gain):
            found[part] = (float(rival.exponent[0]), gain)
    return found


def _aicc(fit: Solution, form: Form, drawn: Sample) -> float:
    """AICc from the Huber objective; records of a run count as one. Infinite where n is too small."""
    n, k = drawn.clusters, form.count + 1
    if n <= k + 1:
        return np.inf
    mean = max(2.0 * float(fit.objective[0]) / drawn.x.size, 1e-24)
    return n * float(np.log(mean)) + 2 * k + 2 * k * (k + 1) / (n - k - 1)
