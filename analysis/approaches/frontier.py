"""The frontier: the lowest error at each compute, or at each size, and the law through it.

Approach 1 of Hoffmann et al. 2022 (3.1) takes the envelope of training curves; here a point is a cell,
the mean of its seeds, so that a lucky seed is not mistaken for a good design.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, Unpack

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.approaches.forms import fit_forms
from analysis.approaches.luck import UNKNOWN, of_frontier
from analysis.approaches.selection import NEAR, beyond, draw_points, select
from analysis.fits.law import place, power_law_name, require_distinct, require_fall
from analysis.fits.result import LawFit, build
from analysis.solver import fitting
from analysis.table import columns, groups, seeds
from analysis.table.data import read
from analysis.table.options import Options
from analysis.table.rows import Refusal, measured

if TYPE_CHECKING:
    from collections.abc import Mapping

    from analysis.fits.forms import Forms
    from analysis.laws.base import Law
    from analysis.solver.fitting import Minimum
    from analysis.table.data import Data
    from analysis.table.options import OptionNames

Array = NDArray[np.float64]
Kind = Literal["auto", "running", "each"]
_POINTS = "the points of a frontier are cells, selected anew in every resample from their own runs"
_UNUSED = dict.fromkeys(("weights", "sd", "bootstrap", "by"), _POINTS)
"""Options of other fits that have no meaning for a frontier."""


@dataclass(frozen=True)
class _Cells:
    """Runs sorted into cells: the cell [R] and the y [R] of each run, the mean x of each cell [C]."""

    cell: NDArray[np.intp]
    y: Array
    x: Array

    def means(self) -> Array:
        """Mean of each cell's runs, [C]."""
        return seeds.cell_means(self.cell, self.y)

    def drawn_means(self, resamples: int, rng: np.random.Generator, noise: float = 0.0) -> Array:
        """Means of runs drawn with replacement inside each cell, [B, C].

        Deviations are scaled by sqrt(n / (n - 1)): the draws from n runs vary too little by that factor. A run
        alone in its cell gets log-normal noise of this size.
        """
        means = np.empty((resamples, self.x.size))
        for cell in range(self.x.size):
            y = self.y[self.cell == cell]
            drawn = rng.multinomial(y.size, np.full(y.size, 1 / y.size), size=resamples) @ y / y.size
            means[:, cell] = y.mean() + np.sqrt(y.size / max(y.size - 1, 1)) * (drawn - y.mean())
            if y.size == 1 and noise > 0:
                means[:, cell] *= np.exp(noise * rng.normal(size=resamples))
        lifted: Array = np.maximum(means, 1e-3 * self.y.min())
        return lifted


def frontier(
    frame: pd.DataFrame | Mapping[str, Any], x: str = "flops", y: str = "error", *, kind: Kind = "auto"
) -> pd.DataFrame:
    """The cells on the frontier, sorted by `x`, columns as from `average_seeds` and `x` averaged.

    Args:
        frame: one row a run; `cell_id` tells which rows are repeats, without it a column of seeds does.
        x: the price.
        y: what it buys, the lower the better.
        kind: "running" keeps the cells that beat every cheaper one (at equal x the best); "each" keeps the
            best cell at each distinct x, everything else being free (the paper's bottleneck). "auto" is
            "running" for compute (flops, budget, seconds), and for params or examples where every x was tried
            in one cell only while the other of the two varied as well (isoFLOP curves); otherwise "each". Cells
            of one size, each at a compute of its own, are one curve, of which "auto" keeps all.

    Raises:
        ValueError: a column is missing or unfit, or `kind` is none of the three.
    """
    table = measured(frame, [x, y]).table
    return _points(table, _cells(table, x, y), (x, y), running=_is_running(kind, table, x))


def fit_frontier(
    frame: pd.DataFrame | Mapping[str, Any],
    x: str = "flops",
    y: str = "error",
    *,
    kind: Kind = "auto",
    floor: bool = True,
    shift: bool = False,
    law: str | None = None,
    forms: Forms | None = None,
    **options: Unpack[OptionNames],
) -> LawFit:
    """The power law through the frontier, with the selection inside the bootstrap.

    Arguments and errors as for `fit_power_law` and `frontier`; `law` names another law, as for `fit_law`; `forms`
    are those of the surface of these runs, where they were compared already. Each resample draws the runs of every
    cell again, averages them, selects the frontier, and fits: the intervals hold the noise of seeds and the luck
    of the selection. Along compute the noise of a run alone in its cell is taken from the other cells or from the
    scatter about the isoFLOP curves; replicates are higher by what the best of several cells owes to luck, and
    intervals wider by the ratio of the scatter about the law to the noise. Where the noise is not known, the
    points of the frontier are drawn in addition, and a warning says so. `points` of the result are the frontier
    points; `n_clusters` counts them. `weights`, `sd`, `bootstrap` and `by` have no use here.
    """
    chosen = replace(Options.of(options, unused=_UNUSED), by="row")
    name = law or power_law_name(floor=floor, shift=shift)
    table, dropped, notes = measured(frame, [x, y], run=chosen.run, cell=chosen.cell)
    cells, running = _cells(table, x, y), _is_running(kind, table, x)
    points = _points(table, cells, (x, y), running=running)
    notes += (*_of_records(table), *(_under_a_ceiling(table, y, forms) if x in columns.COMPUTE else ()))
    data = read(points, (x,), y, replace(chosen, run=None, cell=None))  # a cell has the columns that its runs share
    luck = UNKNOWN if x in columns.FREE_BESIDE else of_frontier(table, x, y)
    data = replace(data, dropped=dropped, notes=(*(luck.notes or _notes(cells)), *notes))
    placed = place(data, name, chosen.constraints)
    require_distinct(data, placed, name, x, "frontier points")
    minimum = fitting.minimise(placed, data, chosen)
    require_fall(placed, minimum, x, y)
    data = replace(data, populations=_populations(table, (x, y), placed, data, minimum, running=running))
    rng = np.random.default_rng(chosen.seed)
    at, lowest, on_frontier = select(cells.x, cells.drawn_means(chosen.resamples, rng, luck.sd), running=running)
    weights = draw_points(on_frontier, rng, beyond(placed.free.size, data.distinct), every=luck.sd > 0)
    problem = fitting.pose(placed, data, minimum.loss)
    drawn = placed.at(np.log(at)[None, :] - data.centre_x[:, None])
    anew = replace(problem, law=drawn, precision=np.ones(at.size))
    log_y = luck.corrected(
        at, np.log(lowest), np.log(select(cells.x, cells.means()[None, :], running=running)[1][0])
    )
    replicates = fitting.refit(drawn, anew, weights, log_y - data.centre_y, minimum.theta)
    solution = fitting.with_replicates(problem, minimum, *replicates)
    wider = luck.wider(placed, data, minimum.theta, chosen.level) if luck.sd > 0 else None
    return build(LawFit, name, ((x,), y), placed, data, solution, chosen, wider=wider)


def _populations(
    table: pd.DataFrame, names: tuple[str, str], law: Law, data: Data, minimum: Minimum, *, running: bool
) -> dict[str, float]:
    """Column that splits the table -> `groups.share_law` of the frontiers of its groups about the law of all."""
    x, y = names
    tests = {}
    for name in groups.axes(table, (x,), (y,)):
        parts = [part for _, part in groups.split(table, [name])]
        points = [_points(part, _cells(part, x, y), names, running=running) for part in parts]
        every, group = pd.concat(points), np.repeat(np.arange(len(points)), [len(part) for part in points])
        at = law.at(np.log(every[x].to_numpy(dtype=float))[None, :] - data.centre_x[:, None])
        value, basis = at.gradient(minimum.theta[None, :])
        off = np.log(every[y].to_numpy(dtype=float)) - data.centre_y - value[0]
        tests[groups.listed(table, name)] = groups.share_law(off, basis[0, law.free], group, np.arange(off.size))
    return tests


def _is_running(kind: Kind, table: pd.DataFrame, x: str) -> bool:
    if kind not in ("auto", "running", "each"):
        raise ValueError(f"kind is {kind!r}; expected 'auto', 'running' or 'each'")
    if kind != "auto":
        return kind == "running"
    return _has_choice(table, x) if x in columns.COMPUTE else _is_traded(table, x)


def _has_choice(table: pd.DataFrame, x: str) -> bool:
    """Whether cells differ in size, or some cost almost the same; otherwise all of them are one curve.

    The cells that beat all cheaper ones are then those with luck, and a plateau at the end is none of them.
    """
    if _any_varies(table, columns.FREE_BESIDE["examples"]):
        return True
    at = np.sort(np.log(_cells(table, x, x).x))
    return bool((np.diff(at) <= NEAR).any())


def _is_traded(table: pd.DataFrame, x: str) -> bool:
    """Whether every x was tried once while its partner varied too, as along isoFLOP curves."""
    tried_once = table[x].nunique() >= np.unique(seeds.cell_index(table)).size
    return tried_once and _any_varies(table, columns.FREE_BESIDE.get(x, ()))


def _any_varies(table: pd.DataFrame, names: tuple[str, ...]) -> bool:
    return any((table[name] != table[name].iloc[0]).any() for name in names if name in table)


def _cells(table: pd.DataFrame, x: str, y: str) -> _Cells:
    cell = seeds.cell_index(table)
    at, values = table[x].to_numpy(dtype=float), table[y].to_numpy(dtype=float)
    return _Cells(cell, values, seeds.cell_means(cell, at))


def _points(table: pd.DataFrame, cells: _Cells, names: tuple[str, str], *, running: bool) -> pd.DataFrame:
    """The averaged cells on the frontier, sorted by x."""
    x, y = names
    averaged = seeds.average_seeds(table, y).assign(**{x: cells.x})
    best = averaged.sort_values([x, y], kind="stable").drop_duplicates(x)
    chosen = select(cells.x, cells.means()[None, :], running=running)[2][0]
    frontier_cells: pd.DataFrame = best.loc[chosen].reset_index(drop=True)
    return frontier_cells


def _of_records(table: pd.DataFrame) -> tuple[str, ...]:
    """Why there is no law: the points of one lucky run, all below the law, are taken for independent ones."""
    if not seeds.has_records(table) or table[columns.RUN].nunique() < 2:
        return ()
    return (Refusal("a frontier of records follows the luckiest run; keep the last record of each run"),)


def _under_a_ceiling(table: pd.DataFrame, y: str, forms: Forms | None) -> tuple[str, ...]:
    """Why there is no law: the surface of the runs has a ceiling, whose bend a few frontier points do not show."""
    try:
        forms = forms or fit_forms(table, "params", "examples", y, resamples=0)
    except (ValueError, np.linalg.LinAlgError):  # no surface can be fitted to these columns
        return ()
    if "chinchilla" in forms.open or forms.best.name not in ("bounded", "overfitted"):
        return ()
    best = (
        f"the form {forms.best.name!r} describes the surface of these runs best, and the additive one is ruled out"
    )
    return (Refusal(f"{best}: the frontier bends as {y} leaves the ceiling, and a power law does not"),)


def _notes(cells: _Cells) -> tuple[str, ...]:
    if np.bincount(cells.cell).max() > 1:
        return (f"repeats are exactly equal: {seeds.EQUAL}",) if seeds.are_equal(cells.cell, cells.y) else ()
    return ("one run a cell: the noise of seeds cannot be resampled, only the points of the frontier are",)
