"""The best learning rate of every design, from a grid of rates, and the rates that the grid lacks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.approaches import minima
from analysis.approaches.curves import Curve, draw_curves
from analysis.fits.quantity import quantity
from analysis.fits.summary import Summary
from analysis.numbers import short
from analysis.solver import quantiles
from analysis.table import columns
from analysis.table.options import Options
from analysis.table.rows import as_frame, measured, of_state

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Array = NDArray[np.float64]
_UNUSED = dict.fromkeys(
    ("loss", "delta", "residuals", "quantile", "weights", "sd", "bootstrap", "fix", "tie", "bounds"),
    "a parabola by least squares goes through the best cell of each rate, drawn with the noise of its repeats",
) | {"pool": "`by` tells the designs apart"}
"""Options of other fits that have no meaning here, and why."""

DESIGN = (
    *("dataset", "family", "model", "depth", "width", "params", "dataset_size", "budget", "epochs", "batch_size"),
    *("optimizer", "schedule", "weight_decay", "augment"),
)
"""What may name a design beside its learning rate, where `by` is not given."""
WINDOW = 10.0
"""The parabola sees rates within this factor of the best: error against log rate is a bowl only near its bottom."""
SURE = 0.9
_STEP = 3.0
"""The factor to the next rate where the grid shows none."""


@dataclass(frozen=True, eq=False)
class LearningRates(Summary):
    """The best rate of every design.

    Attributes:
        lr, y: names of the columns; by: the columns that name a design.
        best: one row a design: the columns of `by`; `rates` tried and how many of them `diverged` (no finite y);
            `lr` at the minimum with `lr_low`, `lr_high`, and `y` there; `flag`, why the minimum is not to be
            trusted, or empty. Where flagged, `lr` is the best rate tried and its interval is NaN.
        missing: the runs that would settle the flagged designs: the columns of `by` and `lr`, one row a run.
        level, resamples: of the intervals.
        warnings: what a reader must know.
    """

    lr: str
    y: str
    by: tuple[str, ...]
    best: pd.DataFrame
    missing: pd.DataFrame
    level: float
    resamples: int
    warnings: tuple[str, ...]

    @property
    def settled(self) -> bool:
        """Whether every design has its best rate inside its grid."""
        return not (self.best["flag"] != "").any()

    def summary(self) -> str:
        """A line for every design."""
        lines = [f"best {self.lr} by a parabola in log {self.lr}, {100 * self.level:g} % intervals"]
        for row in self.best.to_dict("records"):
            name = ", ".join(f"{column} {row[column]}" for column in self.by) or "all rows"
            ends = "" if np.isnan(row["lr_low"]) else f" [{short(row['lr_low'], 2)}, {short(row['lr_high'], 2)}]"
            flag = f"; {row['flag']}" if row["flag"] else ""
            lines.append(f"  {name}: {short(row['lr'], 2)}{ends}, {self.y} {short(row['y'])}{flag}")
        return "\n".join([*lines, *self.cautions()])

    def to_dict(self) -> dict[str, Any]:
        """The fields and `settled`, as JSON can hold them."""
        return super().to_dict() | {"settled": self.settled}


def best_learning_rates(
    frame: pd.DataFrame | Mapping[str, Any],
    y: str = "error",
    *,
    lr: str = "lr",
    by: Sequence[str] | None = None,
    **options: Any,
) -> LearningRates:
    """The rate at which a parabola in log `lr` through the best rates of each design is lowest.

    The parabola is fitted by least squares to the mean `y` of the rates within a factor of 10 of the best one (at
    least its two neighbours). A design is flagged when its best rate is at an end of those that gave a finite `y`,
    when fewer than three did, or when noise moves the minimum out of the window in a tenth of the resamples.

    Args:
        frame: one row a run; `cell_id` tells which rows are repeats. Runs whose `state` is diverged, and rows
            without a finite `y`, count as diverged; runs in another state than done are left out.
        y: the column that was measured, positive.
        lr: the column of learning rates.
        by: the columns that name a design; default those of `DESIGN` that vary.
        **options: `run`, `cell`, `resamples`, `level`, `seed` of `Options`; the others have no use here.

    Raises:
        ValueError: a column is missing or unfit, or no row has a finite `y`.
    """
    chosen = Options.of(options, unused=_UNUSED)
    resamples, level = chosen.resamples, chosen.level
    given, waiting = of_state(as_frame(frame), ("done", "diverged"))
    names = tuple(_varied(given) if by is None else by)
    for name in (*names, lr):
        columns.require(given, name)
    table, _, notes = measured(of_state(given, ("done",))[0], [lr, y], run=chosen.run, cell=chosen.cell)
    group = _groups(table, names)
    drawn = draw_curves(table, group, lr, y, resamples=resamples, seed=chosen.seed)
    firsts = table.loc[np.unique(group, return_index=True)[1], list(names)].to_dict("records")
    designs = [{str(name): value for name, value in row.items()} for row in firsts]
    best, missing = [], []
    for design, curve in zip(designs, drawn.curves, strict=True):
        diverged = _diverged(given, design, lr, curve)
        row, open_rates = _best(curve, diverged, level)
        best.append({**design, **row})
        missing += [{**design, lr: rate} for rate in open_rates]
    return LearningRates(
        lr=lr,
        y=y,
        by=names,
        best=pd.DataFrame(best),
        missing=pd.DataFrame(missing, columns=[*names, lr]),
        level=level,
        resamples=resamples,
        warnings=(*waiting, *notes, *drawn.notes, *_never(given, table, names)),
    )


def _varied(frame: pd.DataFrame) -> list[str]:
    return [name for name in DESIGN if name in frame and len(frame[name].unique()) > 1]


def _groups(table: pd.DataFrame, names: tuple[str, ...]) -> NDArray[np.intp]:
    if not names:
        return np.zeros(len(table), dtype=np.intp)
    return np.asarray(table.groupby(list(names), sort=False, dropna=False).ngroup(), dtype=np.intp)


def _never(given: pd.DataFrame, table: pd.DataFrame, names: tuple[str, ...]) -> tuple[str, ...]:
    """A sentence on the designs that have no finite y at all."""
    if not names:
        return ()
    gone = len(given.drop_duplicates(list(names))) - len(table.drop_duplicates(list(names)))
    return (f"{gone} designs diverged at every rate tried and have no row here",) if gone else ()


def _diverged(frame: pd.DataFrame, design: dict[str, Any], lr: str, curve: Curve) -> Array:
    """Rates of a design that were tried and never gave a finite y, rising."""
    mine = np.ones(len(frame), dtype=bool)
    for name, value in design.items():
        mine &= (frame[name] == value) | (frame[name].isna() & pd.isna(value))
    rates: Array = np.setdiff1d(frame.loc[mine, lr].to_numpy(dtype=float), curve.x)
    return rates


def _best(curve: Curve, diverged: Array, level: float) -> tuple[dict[str, Any], list[float]]:
    """The row of a design, and the rates that would settle it."""
    lowest = int(np.argmin(curve.y))
    row = {"rates": curve.x.size + diverged.size, "diverged": diverged.size}
    tried = row | {"lr": curve.x[lowest], "lr_low": np.nan, "lr_high": np.nan, "y": curve.y[lowest]}
    flag, open_rates = _edge(curve, diverged, lowest)
    if flag:
        return tried | {"flag": flag}, open_rates
    near = np.abs(np.log(curve.x / curve.x[lowest])) <= np.log(WINDOW) * (1 + 1e-9)
    near[lowest - 1 : lowest + 2] = True
    log_x = np.log(curve.x[near])
    log_lr, log_y = minima.parabola(log_x, np.log(np.concatenate([curve.y[None], curve.drawn])[:, near]))
    sure = float(np.mean(np.isfinite(log_lr[1:]))) if log_lr.size > 1 else 1.0
    if not np.isfinite(log_lr[0]) or sure < SURE:
        between = [float(np.sqrt(curve.x[k] * curve.x[k + 1])) for k in (lowest - 1, lowest)]
        return tried | {
            "flag": f"noise leaves the minimum open (inside in {100 * sure:.0f} % of resamples)"
        }, between
    wider = quantiles.widening(curve.spare, 0, level)
    at = quantity(float(np.exp(log_lr[0])), np.exp(log_lr[1:]), level, wider=wider, log=True)
    minimum = {"lr": at.value, "lr_low": at.low, "lr_high": at.high, "y": float(np.exp(log_y[0]))}
    return row | minimum | {"flag": ""}, []


def _edge(curve: Curve, diverged: Array, lowest: int) -> tuple[str, list[float]]:
    """Why the best rate tried is no minimum, and which rates are missing; an empty flag where it may be one."""
    rates, step = curve.x, _grid_step(np.concatenate([curve.x, diverged]))
    below, above = float(rates[0] / step), float(rates[-1] * step)
    higher = diverged[diverged > rates[-1]]
    if lowest == 0 and rates.size > 1:
        return "the best rate is the smallest tried", [below]
    if lowest == rates.size - 1 and higher.size:
        between = float(np.sqrt(rates[-1] * higher[0]))
        missing = [between] if higher[0] > 1.5 * rates[-1] else []
        return f"the best rate is the largest that did not diverge ({short(higher[0], 2)} did)", missing
    if lowest == rates.size - 1 and rates.size > 1:
        return "the best rate is the largest tried", [above]
    if rates.size == 1:
        return "only one rate", [below, above]
    return "", []


def _grid_step(rates: Array) -> float:
    """The typical factor between neighbouring rates."""
    if rates.size < 2:
        return _STEP
    return float(np.exp(np.median(np.diff(np.log(np.sort(rates))))))
