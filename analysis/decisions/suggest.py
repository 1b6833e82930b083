"""The next runs: those whose FLOPs most reduce the variance of what is asked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.approaches.optimum import SIX_N_D, Price, fit_price, solve_chinchilla
from analysis.approaches.surface import fit_surface
from analysis.decisions import information
from analysis.fits.quantity import Quantity, quantity
from analysis.solver.fitting import FitError
from analysis.table import columns

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from analysis.approaches.surface import SurfaceFit
    from analysis.decisions.information import Information

Array = NDArray[np.float64]
Target = Literal["exponent", "optimum", "error"]
TARGETS: tuple[Target, ...] = get_args(Target)

BEYOND = 4.0
"""The default grid reaches this factor beyond the sizes and examples that were run: farther the law is a guess."""
_GRID = 17
_SWEEPS = 4


@dataclass(frozen=True, eq=False)
class Suggestion:
    """The next runs worth their FLOPs.

    Attributes:
        target: what they are to settle, in words.
        now: the target as the runs so far have it.
        expected: (low, high), the interval to expect after the suggested runs, about the same value.
        runs: one row a run: the columns of the candidates (sizes, examples, `flops`, ...), and `seeds`, how many
            runs of it; the most telling for its FLOPs first, `narrows` being the factor on the width of the
            interval that its runs alone bring.
        budget, spent: FLOPs allowed, and those of the suggested runs.
        sigma: noise of one run (sd of log y) assumed.
        level: of the intervals.
        warnings, reasons: as of the fit behind it.
    """

    target: str
    now: Quantity
    expected: tuple[float, float]
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
        """The target now and then, and a line for every suggested run."""
        low, high = self.expected
        count = int(self.runs["seeds"].sum()) if len(self.runs) else 0
        lines = [
            f"{self.target}: {self.now} now, [{low:.3g}, {high:.3g}] expected after {count} more runs",
            f"  {self.spent:.3g} of {self.budget:.3g} FLOPs, at {100 * self.sigma:.2g} % noise a run",
        ]
        for row in self.runs.to_dict("records"):
            what = ", ".join(f"{name} {_short(value)}" for name, value in row.items() if name != "narrows")
            lines.append(f"  {what}; alone {row['narrows']:.2f} x the width")
        return "\n".join([*lines, *(f"  caution: {text}" for text in self.warnings)])

    def to_dict(self) -> dict[str, Any]:
        """As JSON can hold it."""
        out: dict[str, Any] = {"target": self.target, "now": self.now.to_dict(), "expected": list(self.expected)}
        runs = self.runs.astype(object).where(self.runs.notna(), None)
        out |= {name: getattr(self, name) for name in ("budget", "spent", "sigma", "level")}
        return out | {
            "runs": runs.to_dict("records"),
            "warnings": list(self.warnings),
            "reasons": list(self.reasons),
        }

    def __str__(self) -> str:
        return self.summary()


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


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
) -> Suggestion:
    """The runs, at most `budget` FLOPs together, that most narrow the interval of the target.

    A surface floor + A N^-alpha + B D^-beta is fitted to the runs so far. A candidate is worth the drop of the log
    of the target's variance that its gradient promises (c-optimality), averaged over the estimate and bootstrap
    replicates, since the best design depends on what is not known yet. The runs are chosen greedily, by gain per
    FLOP and by gain alone, the better of both improved by exchanges. The same candidate may be chosen several
    times: those are seeds.

    Args:
        runs: one row a run.
        budget: FLOPs that may be spent, positive.
        target: "exponent" of the best params in compute, "optimum" (best params) or "error" (lowest) at compute
            `at`.
        at: compute of the optimum or error; default ten times the largest that was run.
        n: column of sizes.
        d: column of examples.
        y: column that was measured.
        flops: column of compute; without one, 6 n d.
        candidates: runs that can be made, one a row: columns `n`, `d`, `flops`, and whatever names them. Default: a
            grid over the sizes and examples that were run and a factor of 4 beyond.
        most: the largest number of runs.
        repeats: the largest number of runs of one candidate. Without a limit the design puts everything on a few
            corners, which is best only if the law holds there.
        level: nominal coverage of the interval.
        seed: of the resampling.

    Raises:
        ValueError: a column or an option is unfit, or no candidate is affordable.
        FitError: the runs so far have no law to learn more of.
    """
    if target not in TARGETS:
        raise ValueError(f"target is {target!r}; expected 'error', 'exponent' or 'optimum'")
    if not (np.isfinite(budget) and budget > 0 and min(most, repeats) > 0):
        raise ValueError(f"budget {budget!r}, most {most!r}, repeats {repeats!r}: expected positive numbers")
    fit = fit_surface(runs, n, d, y, resamples=200, level=level, seed=seed)
    if set(fit.at_bounds) - {"floor"}:
        raise FitError(f"{y!r} does not fall with both {n!r} and {d!r}: {'; '.join(fit.warnings)}")
    price = fit_price(fit.points, n, d, flops) if flops in fit.points else SIX_N_D
    where = at or 10.0 * float((price.scale * fit.data.x[0] ** price.power * fit.data.x[1]).max())
    ask = _target(fit, target, where, price)
    grid = _grid(fit, price, flops) if candidates is None else columns.check(candidates, [n, d, flops])[0]
    grid = grid[grid[flops] <= budget].reset_index(drop=True)
    if not len(grid):
        raise ValueError(f"no candidate costs at most {budget:.3g} FLOPs")
    if not np.isfinite(ask(fit.solution.theta[None])[0]):
        raise FitError(f"{_words(target, where, n, y, flops)} is not determined by the runs so far")
    known = information.inform(fit, ask)
    slopes = information.gradients(fit, information.places(fit), grid[n].to_numpy(float), grid[d].to_numpy(float))
    limits = _Limits(grid[flops].to_numpy(float), float(budget) * (1 + 1e-12), most, repeats)
    chosen = _choose(known, slopes, limits)
    then = known
    for k in chosen:
        then = then.after(slopes[:, k])
    now, narrower = _now(fit, ask, target, level), float(np.sqrt(then.variance()[0] / known.variance()[0]))
    return Suggestion(
        target=_words(target, where, n, y, flops),
        now=now,
        expected=_expected(now, narrower, log=target != "exponent"),
        runs=_table(grid, chosen, known, slopes, flops),
        budget=float(budget),
        spent=float(grid[flops].to_numpy(float)[chosen].sum()),
        sigma=known.sigma,
        level=level,
        warnings=(*fit.warnings, *(() if flops in fit.points else (f"no column {flops!r}: taken as 6 {n} {d}",))),
        reasons=fit.reasons,
    )


def _target(fit: SurfaceFit, target: Target, at: float, price: Price) -> Callable[[Array], Array]:
    """The target as a function of scaled parameters [B, P]: [B]; logs for what is positive."""

    def ask(theta: Array) -> Array:
        values = fit.law.parameters(theta, fit.data.centre_y)
        if target == "exponent":
            return np.asarray(values["beta"] / (values["alpha"] + price.power * values["beta"]))
        log_n, _, log_y = solve_chinchilla(values, np.log([at]), price)
        return np.asarray(log_n[:, 0] if target == "optimum" else log_y[:, 0])

    return ask


def _words(target: Target, at: float, n: str, y: str, flops: str) -> str:
    if target == "exponent":
        return f"exponent of the best {n} in {flops}"
    return f"{'best ' + n if target == 'optimum' else 'lowest ' + y} at {at:.3g} {flops}"


def _grid(fit: SurfaceFit, price: Price, flops: str) -> pd.DataFrame:
    axes = [np.geomspace(axis.min() / BEYOND, axis.max() * BEYOND, _GRID) for axis in fit.data.x]
    sizes, examples = (axis.ravel() for axis in np.meshgrid(*axes, indexing="ij"))
    n, d = fit.x
    return pd.DataFrame({n: sizes, d: examples, flops: price.scale * sizes**price.power * examples})


@dataclass(frozen=True, eq=False)
class _Limits:
    """What may be chosen: cost [G] of every candidate, all that may be spent, how many runs, how many of one."""

    cost: Array
    budget: float
    most: int
    repeats: int

    def allowed(self, chosen: list[int]) -> NDArray[np.bool_]:
        """The candidates [G] that may follow those chosen."""
        left = self.budget - self.cost[chosen].sum()
        count = np.bincount(chosen, minlength=self.cost.size)
        return np.asarray((self.cost <= left) & (count < self.repeats) & (len(chosen) < self.most))


def _choose(known: Information, slopes: Array, limits: _Limits) -> list[int]:
    """Indices of the chosen candidates, with repeats."""
    tried = [_greedy(known, slopes, limits, power) for power in (1.0, 0.5, 0.0)]
    return _exchange(known, slopes, limits, min(tried, key=lambda chosen: _score(known, slopes, chosen)))


def _greedy(known: Information, slopes: Array, limits: _Limits, power: float) -> list[int]:
    """Always the allowed candidate of the largest gain / cost^power."""
    chosen: list[int] = []
    while np.any(allowed := limits.allowed(chosen)):
        best = int(np.argmax(np.where(allowed, known.gains(slopes) / limits.cost**power, -np.inf)))
        chosen, known = [*chosen, best], known.after(slopes[:, best])
    return chosen


def _exchange(known: Information, slopes: Array, limits: _Limits, chosen: list[int]) -> list[int]:
    """Replace one run at a time by an allowed better one, until nothing is better."""
    full = known
    for k in chosen:
        full = full.after(slopes[:, k])
    for _ in range(_SWEEPS):
        before = list(chosen)
        for place, k in enumerate(before):
            others = [*chosen[:place], *chosen[place + 1 :]]
            without = full.after(slopes[:, k], sign=-1.0)
            gains = np.where(limits.allowed(others), without.gains(slopes), -np.inf)
            best = int(np.argmax(gains))
            if gains[best] > gains[k] + 1e-9:
                chosen[place], full = best, without.after(slopes[:, best])
        if chosen == before:
            break
    return chosen


def _score(known: Information, slopes: Array, chosen: list[int]) -> float:
    for k in chosen:
        known = known.after(slopes[:, k])
    return float(np.mean(np.log(known.variance())))


def _now(fit: SurfaceFit, ask: Callable[[Array], Array], target: Target, level: float) -> Quantity:
    value, drawn = float(ask(fit.solution.theta[None])[0]), ask(fit.solution.replicates)
    if target == "exponent":
        return quantity(value, drawn, level, wider=fit.wider)
    return quantity(float(np.exp(value)), np.exp(drawn), level, wider=fit.wider, log=True)


def _expected(now: Quantity, narrower: float, *, log: bool) -> tuple[float, float]:
    """The interval narrowed about its value, on a log scale for what is positive."""
    if log:
        return now.value * (now.low / now.value) ** narrower, now.value * (now.high / now.value) ** narrower
    return now.value + narrower * (now.low - now.value), now.value + narrower * (now.high - now.value)


def _table(grid: pd.DataFrame, chosen: list[int], known: Information, slopes: Array, flops: str) -> pd.DataFrame:
    picks, seeds = np.unique(chosen, return_counts=True)
    alone = []
    for k, count in zip(picks, seeds, strict=True):
        then = known
        for _ in range(count):
            then = then.after(slopes[:, k])
        alone.append(float(np.sqrt(then.variance()[0] / known.variance()[0])))
    table = grid.iloc[picks].assign(seeds=seeds, narrows=alone)
    worth = -np.log(np.array(alone)) / (table[flops].to_numpy(float) * seeds)
    return table.iloc[np.argsort(-worth, kind="stable")].reset_index(drop=True)
