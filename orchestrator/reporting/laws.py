"""Which laws a sweep's table can be asked for: error against params, examples and FLOPs, and the calibration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from trainer.spec import RunSpec

if TYPE_CHECKING:
    import pandas as pd

    from analysis import PowerLawFit

AXES = ("params", "examples", "flops")
LEAST = 3
"""Distinct values of x under which there is nothing to fit."""
_HOW_LONG = ("seed", "budget", "epochs", "examples", "steps", "parent", "parent_cell")


@dataclass(frozen=True)
class Law:
    """One axis of a sweep: its fit, or why there is none."""

    x: str
    fit: PowerLawFit | None
    why_not: str = ""

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {"x": self.x, "fit": self.fit.to_dict() if self.fit else None, "why_not": self.why_not}


def laws(results: pd.DataFrame, *, resamples: int = 1000, shift: bool = False) -> list[Law]:
    """Fit error against every axis of AXES that the finished runs of one sweep vary.

    Each is the law of the frontier: the lowest error for at most so many FLOPs, params or examples, everything
    else left free; where only one thing was varied there is nothing to choose and all runs count. Where cells
    share budgets (isoFLOP curves), FLOPs has the best cell of each budget, since whole steps leave cells of one
    budget a little apart. On the Zipf task only `examples` is a law: its error has no floor and knows nothing of
    parameters.
    """
    done = results[results["state"] == "done"]
    zipf = set(done["dataset"]) == {"zipf"}
    return [
        _law(done, x, floor=not zipf, shift=shift, resamples=resamples) for x in (("examples",) if zipf else AXES)
    ]


def _law(done: pd.DataFrame, x: str, *, floor: bool, shift: bool, resamples: int) -> Law:
    from analysis import FitError, fit_frontier, fit_power_law

    distinct = done[x].nunique()
    if distinct < LEAST:
        return Law(
            x, None, f"{distinct} distinct values of {x} among {len(done)} finished runs; a law needs {LEAST}"
        )
    try:
        shared = x == "flops" and shares_budgets(done)
        done = done.assign(flops=done["budget"]) if shared else done
        kind: Literal["running", "each"] = "each" if shared else "running"
        if not _traded(done):
            return Law(x, fit_power_law(done, x=x, floor=floor, shift=shift, resamples=resamples))
        return Law(x, fit_frontier(done, x=x, kind=kind, floor=floor, shift=shift, resamples=resamples))
    except (FitError, ValueError) as error:
        return Law(x, None, str(error))


def shares_budgets(done: pd.DataFrame) -> bool:
    """Whether cells share budgets, two and more of them each, as isoFLOP curves do."""
    return bool(done["budget"].nunique() * 2 <= done["cell_id"].nunique())


def _traded(done: pd.DataFrame) -> bool:
    """Whether cells compete: more of them than one axis alone, or budgets alone, would make."""
    recipe = [name for name in RunSpec.__dataclass_fields__ if name in done and name not in _HOW_LONG]
    most = int(done[recipe].nunique().max())
    return 1 < most < done["cell_id"].nunique()


def at_stage(results: pd.DataFrame, stage: str) -> pd.DataFrame:
    """The runs of one stage of a chain, with what the first runs of their chains cost.

    The law that a paper asks for is error of a probe against the compute of what it probes: `flops`, `examples`,
    `epochs`, `dataset_size`, `budget` and the recipe are those of the run at the beginning, errors the stage's own.
    """
    found = results[results["stage"] == stage]
    if not (found["parent"] != "").any():
        return found
    rows = results.drop_duplicates("run_id").set_index("run_id")
    first = found["parent"]
    while (above := first.map(rows["parent"]).fillna("")).ne("").any():
        first = first.where(above == "", above)
    taken = {name: first.map(rows[name]).to_numpy() for name in _OF_THE_FIRST}
    return found.assign(**taken)


_OF_THE_FIRST = (
    *("flops", "flops_paper", "flops_6nd", "examples", "epochs", "steps", "dataset_size", "budget", "lr"),
    *("batch_size", "schedule", "optimizer", "weight_decay"),
)


@dataclass(frozen=True)
class Calibration:
    """What the instrument measured on a task whose answer is known."""

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


def calibration(results: pd.DataFrame, found: list[Law]) -> Calibration | None:
    """The fitted exponent of a Zipf sweep beside the exact one; None for any other sweep.

    The exact curve is fitted by the same estimator at the same numbers of examples.
    """
    from analysis import fit_power_law
    from trainer.data.sets import zipf

    done = results[results["state"] == "done"]
    fit = next((law.fit for law in found if law.x == "examples"), None)
    tasks = done[["dataset", "zipf_alpha", "zipf_tokens"]].drop_duplicates()
    if fit is None or set(done["dataset"]) != {"zipf"} or len(tasks) != 1:
        return None
    alpha = tasks["zipf_alpha"].fillna(zipf.DEFAULT_ALPHA).iloc[0]
    tokens = int(tasks["zipf_tokens"].fillna(zipf.DEFAULT_TOKENS).iloc[0])
    import pandas as pd

    distinct = done.drop_duplicates("examples").sort_values("examples")
    curve = pd.DataFrame(
        {
            "examples": distinct["examples"].to_numpy(),
            "error": zipf.expected_error(distinct["dataset_size"].to_numpy(), alpha, tokens),
        }
    )
    exact = fit_power_law(curve, x="examples", floor=False, resamples=0)
    theory = zipf.theoretical_exponent(alpha)
    return Calibration(fit.exponent, fit.intervals["exponent"], exact.exponent, theory)
