"""The laws of a sweep: error against params, examples and FLOPs, and the calibration on the Zipf task."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd

from analysis import FitError, fit_frontier, fit_law, fit_power_law
from analysis.approaches.surface import read_surface
from analysis.checks.parts import attempt
from analysis.fits.law import law_entry, power_law_name
from analysis.fits.summary import Summary
from analysis.fits.thresholds import LEAST_VALUES
from analysis.laws.constrained import constrain
from analysis.table.data import read
from analysis.table.groups import NEVER, determining
from analysis.table.identity import CLOCK, OUTCOME, RUNS, SEEDS, STEPS, plain
from analysis.table.options import Options
from orchestrator.text import count
from trainer.data.sets import zipf
from trainer.spec import SETTINGS, RunSpec

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from analysis import LawFit

AXES = ("params", "examples", "flops")
_OURS = ("run_id", "cell_id", "state", "dataset")
"""Columns of every run of a sweep; a table without them is another lab's."""
_LENGTH = ("seed", "budget", "epochs", "examples", "steps", "parent", "parent_cell")
CATEGORIES = tuple(
    name
    for name, field in SETTINGS.items()
    if field.content or (field.identity and field.kind.name in ("choice", "name"))
)
"""Settings with names for values, and those that say which data set it is: each value is a population."""


def categories(runs: pd.DataFrame) -> tuple[str, ...]:
    """The columns of CATEGORIES that vary among the finished runs, or all runs if none has finished.

    Without those that the others determine.
    """
    done = runs[runs["state"] == "done"]
    rows = done if len(done) else runs
    varied = [name for name in CATEGORIES if name in rows and len(rows[name].unique()) > 1]
    return determining(rows, varied)


@dataclass(frozen=True)
class AxisLaw:
    """What was measured against one axis: its fit, or why there is none."""

    x: str
    fit: LawFit | None
    why_not: str = ""
    y: str = "error"

    @property
    def name(self) -> str:
        """What is fitted, in words."""
        return f"{self.y} against {self.x}"

    def summary(self) -> str:
        """The fit in words, or why there is none."""
        return self.fit.summary() if self.fit else f"{self.name}: no fit: {self.why_not}"

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {"x": self.x, "fit": self.fit.to_dict() if self.fit else None, "why_not": self.why_not}


def laws(
    results: pd.DataFrame,
    *,
    y: str = "error",
    resamples: int = 1000,
    shift: bool = False,
    law: str | None = None,
    pool: bool = False,
    inputs: Sequence[str] = AXES,
    **constraints: Any,
) -> list[AxisLaw]:
    """Fit `y` against every one of `inputs` that the finished runs of one sweep vary.

    Each is the law of the frontier: the lowest error for at most so many FLOPs, params or examples, with everything
    else free. If only one thing was varied, all runs are fitted. If cells share budgets (isoFLOP curves), the law
    in FLOPs takes the best cell of each budget, since rounding to whole steps leaves cells of one budget a little
    apart. On the Zipf task only `examples` is a law: its error has no floor and does not depend on params.
    `law` names another law than a power law, as for `analysis.fit_law`; `pool` fits populations together;
    `constraints` are `fix`, `tie` and `bounds` of a fit.
    """
    done = results[results["state"] == "done"]
    zipf = on_zipf(done)
    options = {"law": law} if law else {"floor": _has_floor(done, y), "shift": shift}
    shared = {"y": y, "resamples": resamples, "pool": pool, **constraints}
    return [_law(done, x, {**options, **shared}) for x in (("examples",) if zipf and inputs == AXES else inputs)]


def _has_floor(done: pd.DataFrame, y: str) -> bool:
    return not (on_zipf(done) and y == "error")


def require_held(
    runs: pd.DataFrame,
    given: Mapping[str, Any],
    *,
    y: str,
    law: str = "",
    shift: bool = False,
    surface: bool = False,
) -> None:
    """Raise a ValueError where the law that is fitted to the runs cannot be held to `fix`, `tie` and `bounds`.

    Rows that cannot be fitted at all are left to the fit.
    """
    chosen, done = Options.of(given), runs[runs["state"] == "done"]
    name = law or ("chinchilla" if surface else power_law_name(floor=_has_floor(done, y), shift=shift))
    columns = ("params", "dataset_size", "examples")
    if surface:
        data = attempt(lambda: read_surface(done, columns, y, name, chosen)[0])[0]
    else:
        data = attempt(lambda: read(done, ("examples",), y, chosen))[0]
    if data is not None:
        constrain(law_entry(name)(data.logs, data.centre_x), chosen.constraints, data.centre_y)


def _law(done: pd.DataFrame, x: str, options: dict[str, Any]) -> AxisLaw:
    distinct, y = done[x].nunique(), options["y"]
    if distinct < LEAST_VALUES:
        values = count(distinct, f"distinct value of {x}", f"distinct values of {x}")
        runs = f"{values} among {count(len(done), 'finished run')}"
        return AxisLaw(x, None, f"{runs}; a law needs {LEAST_VALUES}", y)
    shared = x == "flops" and shares_budgets(done)
    done = done.assign(flops=done["budget"]) if shared else done
    kind: Literal["running", "each"] = "each" if shared else "running"
    if not _several_axes(done):
        fit = fit_law if "law" in options else fit_power_law
        return AxisLaw(x, *attempt(lambda: fit(done, x=x, **options)), y)
    return AxisLaw(x, *attempt(lambda: fit_frontier(done, x=x, kind=kind, **options)), y)


def shares_budgets(done: pd.DataFrame) -> bool:
    """Whether two sizes or more on average share a budget, as in isoFLOP curves; cells of one size compete."""
    if "budget" not in done or "params" not in done:
        return False
    pairs = done[["budget", "params"]].dropna().drop_duplicates()
    return bool(len(pairs) and pairs["budget"].nunique() * 2 <= len(pairs))


def on_zipf(runs: pd.DataFrame) -> bool:
    """Whether all runs are of the Zipf task."""
    return is_of_a_sweep(runs) and set(runs["dataset"]) == {"zipf"}


def is_of_a_sweep(runs: pd.DataFrame) -> bool:
    """Whether a table has the columns of our runs."""
    return set(_OURS) <= set(runs.columns)


def _several_axes(done: pd.DataFrame) -> bool:
    """Whether there are more cells than one axis of the recipe alone, or budgets alone, would give."""
    if not is_of_a_sweep(done):
        chosen = settings(done)
        most = max((int(done[name].nunique()) for name in chosen), default=1)
        return 1 < most < len(done[cell_columns(done)].drop_duplicates())
    recipe = [name for name in RunSpec.__dataclass_fields__ if name in done and name not in _LENGTH]
    most = int(done[recipe].nunique().max())
    return 1 < most < done["cell_id"].nunique()


def settings(runs: pd.DataFrame) -> list[str]:
    """The columns of another lab's table that hold what was chosen for a run, but for its length."""
    named = {*SEEDS, *RUNS, *STEPS, *NEVER, "budget"}
    return [
        name
        for name in map(str, runs.columns)
        if plain(name) not in named
        and not OUTCOME.search(plain(name))
        and not CLOCK.search(plain(name))
        and not (pd.api.types.is_object_dtype(runs[name]) and runs[name].is_unique)
    ]


def cell_columns(runs: pd.DataFrame) -> list[str]:
    """The columns by which runs are repeats of each other."""
    if is_of_a_sweep(runs):
        return ["cell_id"]
    lengths = ("examples",) if "examples" in runs else ("flops",) if "flops" in runs else ()
    return [*settings(runs), *lengths]


def design_columns(runs: pd.DataFrame) -> list[str]:
    """The columns by which cells are tries of one design, of which the best counts."""
    names = ("model", "dataset_size", "budget") if is_of_a_sweep(runs) else ("params", "examples")
    return [name for name in names if name in runs]


def at_stage(results: pd.DataFrame, stage: str) -> pd.DataFrame:
    """The runs of one stage of a chain, with the cost and recipe of the first run of each chain.

    The law of a probe is its error against the compute of the model it probes: `flops`, `examples`, `epochs`,
    `dataset_size`, `budget` and the recipe are those of the first run, errors those of the stage.
    """
    runs = results[results["stage"] == stage]
    if not (runs["parent"] != "").any():
        return runs
    rows = results.set_index("run_id")
    first = runs["parent"]
    while (above := first.map(rows["parent"]).fillna("")).ne("").any():
        first = first.where(above == "", above)
    return runs.assign(**{name: first.map(rows[name]).to_numpy() for name in _OF_THE_FIRST})


_OF_THE_FIRST = (
    *("flops", "flops_paper", "flops_6nd", "examples", "epochs", "steps", "dataset_size", "budget", "lr"),
    *("batch_size", "schedule", "optimizer", "weight_decay"),
)


@dataclass(frozen=True)
class Calibration:
    """The exponent measured on a task whose exponent is known."""

    measured: float
    interval: tuple[float, float]
    exact: float
    theory: float

    @property
    def holds(self) -> bool:
        """Whether the interval covers the exponent of the exact finite curve."""
        return self.interval[0] <= self.exact <= self.interval[1]

    def __str__(self) -> str:
        low, high = self.interval
        verdict = "covers" if self.holds else "MISSES"
        return (
            f"calibration on the Zipf task: measured exponent {self.measured:.3f} [{low:.3f}, {high:.3f}] "
            f"{verdict} that of the exact finite curve, {self.exact:.3f} "
            f"(theory for infinitely many tokens: {self.theory:.3f})"
        )


@dataclass(frozen=True)
class AxisLaws(Summary):
    """What `isoflop fit` answers: the law against each axis, and the calibration of a Zipf sweep."""

    laws: list[AxisLaw]
    calibration: Calibration | None

    def summary(self) -> str:
        """A paragraph for each axis."""
        return "\n\n".join([*(law.summary() for law in self.laws), *filter(None, [self.calibrated])])

    @property
    def calibrated(self) -> str:
        """The calibration in words; empty for other sweeps."""
        return str(self.calibration) if self.calibration else ""

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        calibrated = asdict(self.calibration) if self.calibration else None
        return {"laws": [law.to_dict() for law in self.laws], "calibration": calibrated}


def answered(results: pd.DataFrame, fitted: list[AxisLaw]) -> AxisLaws:
    """The laws of a table. Raises FitError if there is none against any axis."""
    if not any(law.fit for law in fitted):
        axes: dict[str, list[str]] = {}
        for law in fitted:
            axes.setdefault(law.why_not, []).append(law.x)
        raise FitError("; ".join(f"{fitted[0].y} against {', '.join(x)}: no fit: {why}" for why, x in axes.items()))
    return AxisLaws(fitted, calibration(results, fitted))


def calibration(results: pd.DataFrame, fitted: list[AxisLaw]) -> Calibration | None:
    """Compare the fitted exponent of a Zipf sweep with the exact one; None for any other sweep.

    The exact curve is fitted by the same estimator at the same numbers of examples.
    """
    done = results[results["state"] == "done"]
    fit = next((law.fit for law in fitted if law.x == "examples"), None)
    if fit is None or fit.y != "error" or not on_zipf(done):
        return None
    tasks = done[["dataset", "zipf_alpha", "zipf_tokens"]].drop_duplicates()
    if len(tasks) != 1:
        return None
    alpha = tasks["zipf_alpha"].fillna(zipf.DEFAULT_ALPHA).iloc[0]
    tokens = int(tasks["zipf_tokens"].fillna(zipf.DEFAULT_TOKENS).iloc[0])
    distinct = done.drop_duplicates("examples").sort_values("examples")
    error = zipf.expected_error(distinct["dataset_size"].to_numpy(), alpha, tokens)
    curve = {"examples": distinct["examples"].to_numpy(), "error": error}
    exact = fit_power_law(curve, x="examples", floor=False, resamples=0)
    theory = zipf.theoretical_exponent(alpha)
    return Calibration(fit.exponent, fit.intervals["exponent"], exact.exponent, theory)
