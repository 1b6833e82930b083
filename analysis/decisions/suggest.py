"""The next runs: those that most reduce the variance of a target for their FLOPs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.approaches.optimum import SIX_N_D, Price, along, fit_price, growth
from analysis.approaches.surface import fit_surface
from analysis.decisions import information
from analysis.decisions.information import Mixture
from analysis.decisions.reach import limit, too_far
from analysis.fits.diagnosis.rejection import require_answerable
from analysis.fits.forms import union
from analysis.fits.quantity import Quantity, quantity
from analysis.fits.summary import Summary
from analysis.numbers import short
from analysis.solver.fitting import FitError
from analysis.table import columns

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from analysis.approaches.surface import SurfaceFit

Array = NDArray[np.float64]
Target = Literal["exponent", "optimum", "error"]
TARGETS: tuple[Target, ...] = get_args(Target)

BEYOND = 4.0
"""The default grid extends the sizes and examples of the runs by this factor."""
_GRID = 17
_SWEEPS = 4


@dataclass(frozen=True, eq=False)
class Suggestion(Summary):
    """The next runs worth their FLOPs.

    Attributes:
        target: the target in words.
        now: the target according to the runs so far.
        expected: (low, high), the interval to expect after the suggested runs, about the same value.
        forms: the forms of the surface that were averaged, by weight.
        runs: one row per candidate: its columns (sizes, examples, `flops`, ...), `seeds` (how many runs of it) and
            `narrows` (the factor on the width of the interval by these runs alone); the most informative for its
            FLOPs first.
        budget, spent: FLOPs allowed, and those of the suggested runs.
        sigma: noise of one run (sd of log y) assumed.
        level: of the intervals.
        warnings, reasons: those of the best form; a target too far beyond the runs is a reason too.
    """

    target: str
    now: Quantity
    expected: tuple[float, float]
    forms: dict[str, float]
    runs: pd.DataFrame
    budget: float
    spent: float
    sigma: float
    level: float
    warnings: tuple[str, ...]
    reasons: tuple[str, ...]

    @property
    def narrows(self) -> float:
        """Expected width of the interval over its width now."""
        return (self.expected[1] - self.expected[0]) / (self.now.high - self.now.low)

    def summary(self) -> str:
        """The target now and after the runs, and one line per suggested candidate."""
        low, high = self.expected
        count = int(self.runs["seeds"].sum()) if len(self.runs) else 0
        lines = [
            f"{self.target}: {self.now} now, [{short(low)}, {short(high)}] expected after {count} more runs",
            f"  {short(self.spent)} of {short(self.budget)} FLOPs, at {short(100 * self.sigma, 2)} % noise per run",
            f"  by {', '.join(f'{name} ({weight:.2f})' for name, weight in self.forms.items())}",
            *(f"  not supported: {text}" for text in self.reasons),
        ]
        for row in self.runs.to_dict("records"):
            what = ", ".join(f"{name} {_short(value)}" for name, value in row.items() if name != "narrows")
            lines.append(f"  {what}; alone {row['narrows']:.2f} x the width")
        return "\n".join([*lines, *self.cautions()])


def _short(value: Any) -> str:
    return short(value) if isinstance(value, float) else str(value)


def suggest(  # noqa: PLR0913 - the columns, the question and its limits
    runs: pd.DataFrame | Mapping[str, Any],
    budget: float,
    target: Target = "exponent",
    *,
    at: float | None = None,
    n: str = "params",
    d: str = "examples",
    y: str = "error",
    flops: str = "flops",
    candidates: pd.DataFrame | None = None,
    most: int = 24,
    repeats: int = 3,
    level: float = 0.95,
    seed: int = 0,
    pool: bool = False,
    fitted: SurfaceFit | None = None,
) -> Suggestion:
    """Return the runs, at most `budget` FLOPs together, that most narrow the interval of the target.

    Every form of the surface (`fit_forms`) that the runs so far do not rule out counts, by its weight. The gain of
    a candidate is the drop in the log of the target's variance that follows from its gradient (c-optimality),
    averaged over the forms, the estimate and bootstrap replicates: the best design depends on the unknown truth.
    Runs are chosen greedily, by gain per FLOP and by gain alone; the better choice is improved by exchanges.

    Args:
        runs: one row per run.
        budget: FLOPs that may be spent, positive.
        target: "exponent" of the best params in compute, "optimum" (best params) or "error" (lowest) at compute
            `at`.
        at: compute of the optimum or error; default ten times the largest of the runs, or as far as these support a
            claim (`reach.limit`). Further out the target is not supported.
        n: name of the column of sizes.
        d: name of the column of examples.
        y: name of the measured column.
        flops: name of the column of compute; if absent, 6 n d.
        candidates: runs that can be made, one per row: columns `n`, `d`, `flops`, and any columns that name them.
            Default: a grid over the sizes and examples of the runs, extended by a factor of 4.
        most: the largest number of runs.
        repeats: the largest number of runs of one candidate; with many, the design is a few corners of the grid.
        level: nominal coverage of the interval.
        seed: of the resampling.
        pool: as for `Options`.
        fitted: the surface of these runs, where it was fitted already; otherwise 200 resamples are drawn.

    Raises:
        ValueError: a column or an option is unfit, or no candidate is affordable.
        FitError: the runs so far have no law, are of populations that do not share one, or do not determine the
            target.
    """
    if target not in TARGETS:
        raise ValueError(f"target is {target!r}; expected 'error', 'exponent' or 'optimum'")
    if not (np.isfinite(budget) and budget > 0 and min(most, repeats) > 0):
        raise ValueError(f"budget {budget!r}, most {most!r}, repeats {repeats!r}: expected positive numbers")
    fit = fitted or fit_surface(runs, n, d, y, resamples=200, level=level, seed=seed, pool=pool)
    require_answerable(fit.reasons)
    aims = _aims(fit, target, at, flops)
    grid = _grid(aims[0]) if candidates is None else columns.check(candidates, [n, d, flops])[0]
    grid = grid[grid[flops] <= budget].reset_index(drop=True)
    if not len(grid):
        raise ValueError(f"no candidate costs at most {short(budget)} FLOPs")
    return _suggestion(aims, grid, _Limits(grid[flops].to_numpy(float), float(budget), most, repeats))


@dataclass(frozen=True, eq=False)
class _Aim:
    """A target of one form and its weight, with the price of an example and the compute `at` which it is asked.

    `compute` is that of the fitted runs [n].
    """

    fit: SurfaceFit
    weight: float
    target: Target
    at: float
    price: Price
    flops: str
    compute: Array

    @property
    def words(self) -> str:
        n, y = self.fit.x[0], self.fit.y
        if self.target == "exponent":
            return f"exponent of the best {n} in {self.flops}"
        return f"{'best ' + n if self.target == 'optimum' else 'lowest ' + y} at {short(self.at)} {self.flops}"

    def values(self, theta: Array) -> Array:
        """The target as a function of scaled parameters [B, P]: [B]; the log of an optimum or error."""
        if self.target == "exponent":
            return growth(self.fit.law.parameters(theta, self.fit.data.centre_y), self.price.power)
        log_n, _, log_y = along(self.fit, theta, np.log([self.at]), self.price)
        return np.asarray(log_n[:, 0] if self.target == "optimum" else log_y[:, 0])

    def now(self) -> Quantity:
        """The target according to the runs so far."""
        fit = self.fit
        value, drawn = float(self.values(fit.solution.theta[None])[0]), self.values(fit.solution.replicates)
        if self.target == "exponent":
            return quantity(value, drawn, fit.level, wider=fit.wider)
        return quantity(float(np.exp(value)), np.exp(drawn), fit.level, wider=fit.wider, log=True)

    def out_of_reach(self, now: Quantity) -> tuple[str, ...]:
        """Why the compute, or the optimum there, is out of reach of the fitted runs."""
        n = self.fit.x[0]
        asked = () if self.target == "exponent" else too_far(self.flops, self.at, self.compute)
        return (*asked, *(too_far(n, now.value, self.fit.data.x[0]) if self.target == "optimum" else ()))

    def expected(self, now: Quantity, narrower: float) -> tuple[float, float]:
        """The interval narrowed about its value, on a log scale but for the exponent."""
        if self.target == "exponent":
            return now.value + narrower * (now.low - now.value), now.value + narrower * (now.high - now.value)
        return now.value * (now.low / now.value) ** narrower, now.value * (now.high / now.value) ** narrower


def _aims(fit: SurfaceFit, target: Target, at: float | None, flops: str) -> list[_Aim]:
    """The target of every form that counts, the best form first."""
    n, d = fit.x
    price = fit_price(fit.points, n, d, flops) if flops in fit.points else SIX_N_D
    compute = price.scale * fit.data.x[0] ** price.power * fit.data.x[1]
    at = at or float(compute.max()) * min(10.0, limit(compute))
    shares = fit.forms.weights if fit.forms else {fit.name: 1.0}
    aims = [
        _Aim(form, shares[name], target, at, price, flops, compute)
        for name, form in sorted(fit.alternatives.items(), key=lambda pair: -shares[pair[0]])
    ]
    best = aims[0]
    if ended := [name for name in best.fit.at_bounds if name not in information.OPEN_ENDED]:
        law = f"{', '.join(ended)} of the law {best.fit.name!r} of {fit.y!r} in {n!r} and {d!r}"
        raise FitError(f"the runs do not determine {law}: {'; '.join(best.fit.warnings)}")
    if not np.isfinite(best.values(best.fit.solution.theta[None])[0]):
        raise FitError(f"{best.words} is not determined by the runs so far")
    return [aim for aim in aims if aim is best or _counts(aim)]


def _counts(aim: _Aim) -> bool:
    """Whether a form differs from those nested in it, and has the target."""
    inside = not set(aim.fit.at_bounds) - {"floor"}
    return inside and bool(np.isfinite(aim.values(aim.fit.solution.theta[None])[0]))


def _suggestion(aims: list[_Aim], grid: pd.DataFrame, limits: _Limits) -> Suggestion:
    aim, fit = aims[0], aims[0].fit
    n, d = fit.x
    before = _mixture(aims, grid[n].to_numpy(float), grid[d].to_numpy(float))
    chosen = _choose(before, limits)
    now, assumed = union([aim.now() for aim in aims]), f"no column {aim.flops!r}: FLOPs are taken as 6 {n} {d}"
    return Suggestion(
        target=aim.words,
        now=now,
        expected=aim.expected(now, _after(before, chosen).narrower(before)),
        forms={aim.fit.name: float(weight) for aim, weight in zip(aims, before.weights, strict=True)},
        runs=_table(grid, chosen, before, aim.flops),
        budget=limits.budget,
        spent=float(limits.cost[chosen].sum()),
        sigma=before.parts[0].sigma,
        level=fit.level,
        warnings=(*fit.warnings, *([] if aim.flops in fit.points else [assumed])),
        reasons=(*fit.reasons, *aim.out_of_reach(now)),
    )


def _mixture(aims: list[_Aim], n: Array, d: Array) -> Mixture:
    """The information of the runs so far under every form, and its gradients at candidates (n, d)."""
    weights = np.array([aim.weight for aim in aims])
    slopes = [information.gradients(aim.fit, information.places(aim.fit), n, d) for aim in aims]
    parts = [information.inform(aim.fit, aim.values) for aim in aims]
    return Mixture(tuple(parts), tuple(slopes), weights / weights.sum())


def _grid(aim: _Aim) -> pd.DataFrame:
    """The default candidates."""
    axes = [np.geomspace(axis.min() / BEYOND, axis.max() * BEYOND, _GRID) for axis in aim.fit.data.x]
    sizes, examples = (axis.ravel() for axis in np.meshgrid(*axes, indexing="ij"))
    n, d = aim.fit.x
    return pd.DataFrame({n: sizes, d: examples, aim.flops: aim.price.scale * sizes**aim.price.power * examples})


@dataclass(frozen=True, eq=False)
class _Limits:
    """Limits of a choice: cost [G] of each candidate, FLOPs in all, runs in all, runs of one candidate."""

    cost: Array
    budget: float
    most: int
    repeats: int

    def allowed(self, chosen: list[int]) -> NDArray[np.bool_]:
        """Which candidates [G] may be added to those chosen."""
        left = self.budget * (1 + 1e-12) - self.cost[chosen].sum()
        count = np.bincount(chosen, minlength=self.cost.size)
        return np.asarray((self.cost <= left) & (count < self.repeats) & (len(chosen) < self.most))


def _choose(before: Mixture, limits: _Limits) -> list[int]:
    """Indices of the chosen candidates, with repeats."""
    choices = [_greedy(before, limits, power) for power in (1.0, 0.5, 0.0)]
    scores = [_after(before, chosen).spread() for chosen in choices]
    return _exchange(before, limits, choices[int(np.argmin(scores))])


def _after(before: Mixture, chosen: Iterable[int]) -> Mixture:
    """The information after the chosen runs."""
    for k in chosen:
        before = before.after(k)
    return before


def _greedy(so_far: Mixture, limits: _Limits, power: float) -> list[int]:
    """Repeatedly the allowed candidate of largest gain / cost^power."""
    chosen: list[int] = []
    while np.any(allowed := limits.allowed(chosen)):
        best = int(np.argmax(np.where(allowed, so_far.gains() / limits.cost**power, -np.inf)))
        chosen, so_far = [*chosen, best], so_far.after(best)
    return chosen


def _exchange(before: Mixture, limits: _Limits, chosen: list[int]) -> list[int]:
    """Replace one run at a time by an allowed better one, until none is better."""
    full = _after(before, chosen)
    for _ in range(_SWEEPS):
        previous = list(chosen)
        for place, k in enumerate(previous):
            others = [*chosen[:place], *chosen[place + 1 :]]
            without = full.after(k, sign=-1.0)
            gains = np.where(limits.allowed(others), without.gains(), -np.inf)
            best = int(np.argmax(gains))
            if gains[best] > gains[k] + 1e-9:
                chosen[place], full = best, without.after(best)
        if chosen == previous:
            break
    return chosen


def _table(grid: pd.DataFrame, chosen: list[int], before: Mixture, flops: str) -> pd.DataFrame:
    """`Suggestion.runs`."""
    picks, seeds = np.unique(chosen, return_counts=True)
    alone = [_after(before, [k] * count).narrower(before) for k, count in zip(picks, seeds, strict=True)]
    table = grid.iloc[picks].assign(seeds=seeds, narrows=alone)
    worth = -np.log(np.array(alone)) / (table[flops].to_numpy(float) * seeds)
    return table.iloc[np.argsort(-worth, kind="stable")].reset_index(drop=True)
