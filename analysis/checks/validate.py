"""Hold out the largest budgets, predict them from the rest, and score the predictions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.checks.parts import attempt, levels, ordered
from analysis.checks.predictors import FittedLaw, LogLinear, Question, power, surface
from analysis.fits.summary import Summary
from analysis.numbers import short
from analysis.solver.fitting import FitError
from analysis.table.options import Options

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from analysis.checks.predictors import Law, Predict
    from analysis.fits.result import LawFit

Array = NDArray[np.float64]

LAWS: dict[int, dict[str, Law]] = {
    1: {
        "power law": power(floor=False),
        "power law with floor": power(floor=True),
        "power law with floor and shift": power(floor=True, shift=True),
    },
    2: {"chinchilla": surface("chinchilla"), "kaplan": surface("kaplan"), "log-linear": LogLinear},
}
"""The laws that are compared, by the number of inputs; log-linear is the baseline that a surface must beat."""
SPLITS = 4
"""Most cuts: the largest level is held out, then the two largest, ..."""
COVERED = 0.8
"""Share of the held-out runs that a band must contain."""
RIVAL = 1.5
"""A law whose held-out error is within this factor of the best at some cut is not ruled out."""
APART = 3.0
"""An extrapolation fails if a law that is not ruled out differs by more than this x the held-out error."""
_SAME = 1e-3


@dataclass(frozen=True, eq=False)
class Validation(Summary):
    """How well each law predicts runs that are larger than all it was fitted to.

    Attributes:
        x, y, order: the inputs, the measured column, and the column whose largest levels were held out.
        table: one row per law and cut: `law`, `held` (levels held out), `train`, `test` (rows), `reach` (largest
            order held out over the largest fitted), `log_rmse` and `bias` of log y, `covered` (share of the
            held-out runs inside the band), `why_not` if the law could not be fitted, `apart` (how far from this
            law's log y the bands of all laws not ruled out reach, as far beyond all rows as the cut reached).
        scores: one row per law, the best first: `law`, `cuts` predicted, `log_rmse` over all held-out runs,
            `covered`.
        rejected: law -> why it does not describe the whole table, empty where nothing says so.
        level: of the bands, which are for a new run: the uncertainty of the law and the noise of a run.
        warnings: cautions, one sentence each.
    """

    x: tuple[str, ...]
    y: str
    order: str
    table: pd.DataFrame
    scores: pd.DataFrame
    rejected: dict[str, tuple[str, ...]]
    level: float
    warnings: tuple[str, ...]

    @property
    def best(self) -> str:
        """The law that predicted best among those that were fitted at every cut."""
        return str(self.scores["law"].iloc[0])

    @property
    def held(self) -> int:
        """The runs that the best law predicted without having seen them."""
        own = self.table[(self.table["law"] == self.best) & (self.table["why_not"] == "")]
        return int(own["test"].max())

    def reach(self, law: str | None = None) -> tuple[float, float]:
        """How far beyond its data a law (default: the best) can be trusted, and its log RMSE up to there.

        The largest reach up to which every cut had its runs in the band and the laws that are not ruled out agree
        on what lies beyond all rows. (1, NaN) if the shortest cut already failed.
        """
        name = law or self.best
        rows = self.table[self.table["law"] == name].sort_values("reach")
        overall = self.scores.set_index("law").loc[name]  # two runs held out may be right by luck
        off = rows["log_rmse"].cummax().clip(lower=overall["log_rmse"] * (overall["covered"] >= COVERED))
        good = ((rows["covered"] >= COVERED) & (rows["apart"] <= APART * off + _SAME)).cummin()
        return (float(rows["reach"][good].max()), float(off[good].max())) if good.any() else (1.0, np.nan)

    def summary(self) -> str:
        """One line per law, the best first."""
        cuts = self.table.drop_duplicates("held")
        far = f"{short(cuts['reach'].min(), 2)} to {short(cuts['reach'].max(), 2)} x beyond the fitted range"
        lines = [f"{len(cuts)} cuts of the largest {self.order}, reaching {far}"]
        for row in self.scores.to_dict("records"):
            covered = f"{100 * row['covered']:.0f} % of runs in the {100 * self.level:g} % band"
            lines.append(f"  {row['law']}: off by {short(100 * row['log_rmse'], 2)} % rms, {covered}")
        lines += [
            f"  {row['law']} without the largest {row['held']}: {row['why_not']}"
            for row in self.table[self.table["why_not"] != ""].to_dict("records")
        ]
        return "\n".join([*lines, *self.cautions()])


def validate(  # noqa: PLR0913 - the columns, the laws and the resampling
    frame: pd.DataFrame | Mapping[str, Any],
    x: str | Sequence[str] = ("params", "examples"),
    y: str = "error",
    *,
    order: str | None = None,
    laws: Mapping[str, Law] | None = None,
    whole: Mapping[str, LawFit] | None = None,
    resamples: int = 200,
    level: float = 0.95,
    seed: int = 0,
) -> Validation:
    """Fit each law without the largest levels of `order`, predict the runs held out, and score the predictions.

    The cuts hold out the largest level, then the two largest, up to four and never more than half. Scored are
    log y of single runs, and whether they fall in a band that combines the interval of the law and the noise of a
    run.

    Args:
        frame: one row per run (for the law of a frontier, pass the frontier).
        x: one input (power laws are compared) or params and examples (surfaces, and a log-linear baseline).
        y: name of the measured column.
        order: the column whose largest levels are held out; default the input if there is one, else `budget`,
            `flops`, or the product of the inputs. Near-equal values are one level; values spread evenly are put
            into eight bins of equal count.
        laws: name -> law to compare instead, such as `analysis.checks.predictors.curve("broken-1")`.
        whole: fits of all rows that exist already, by the names of their laws; they are not fitted again.
        resamples: bootstrap resamples of every fit, at least 20.
        level: nominal coverage of the bands.
        seed: of the resampling.

    Raises:
        ValueError: a column or option is unfit, or there are fewer than 4 levels.
        FitError: no law could be fitted to any part.
    """
    Options(resamples=resamples, level=level, seed=seed)
    names = (x,) if isinstance(x, str) else tuple(x)
    if len(names) > 2 or resamples < 20:
        raise ValueError(f"{len(names)} inputs and {resamples} resamples; expected 1 or 2 inputs and at least 20")
    table, order, _ = ordered(frame, names, y, order)
    group = levels(table, order)
    count = int(group.max()) + 1
    cuts = range(1, min(SPLITS, count // 2) + 1)
    if count < 4:
        raise ValueError(f"{count} levels of {order!r}; holding one out needs at least 4")
    question = Question(names, y, {"resamples": resamples, "level": level, "seed": seed})
    chosen = dict(laws or LAWS[len(names)])
    rows = [
        _scored(name, law, table[group < count - held], table[group >= count - held], question, order, held)
        for held in cuts
        for name, law in chosen.items()
    ]
    scores = _scores(pd.DataFrame(rows))
    if not len(scores):
        raise FitError(f"no law could be fitted: {rows[0]['why_not']}")
    cut = pd.DataFrame(rows)
    fitted = _whole(cut, chosen, table, question, whole or {})
    cut["apart"] = _apart(cut, fitted, table[group == count - 1], question)
    rejected = {name: tuple(getattr(fitted.get(name), "rejected", ())) for name in chosen}
    return Validation(names, y, order, cut, scores, rejected, level, tuple(_warnings(scores, names)))


def _scored(
    name: str, law: Law, train: pd.DataFrame, test: pd.DataFrame, question: Question, order: str, held: int
) -> dict[str, Any]:
    """The row of `Validation.table` of one law and cut, but for `apart`."""
    reach = float(test[order].max() / train[order].max())
    row = {"law": name, "held": held, "train": len(train), "test": len(test), "reach": reach}
    band, why_not = attempt(lambda: law(train, question)(test))
    if band is None:
        return row | {"log_rmse": np.nan, "bias": np.nan, "covered": np.nan, "why_not": why_not}
    middle, low, high = band
    off = np.log(test[question.y].to_numpy(dtype=float)) - middle
    inside = (middle + off >= low) & (middle + off <= high)
    numbers = {
        "log_rmse": float(np.sqrt(np.mean(off**2))),
        "bias": float(off.mean()),
        "covered": float(inside.mean()),
    }
    return row | numbers | {"why_not": ""}


def _whole(
    cuts: pd.DataFrame,
    laws: dict[str, Law],
    table: pd.DataFrame,
    question: Question,
    known: Mapping[str, LawFit],
) -> dict[str, Predict]:
    """The laws that could be fitted to some part, fitted to the whole table."""
    fitted: dict[str, Predict] = {}
    for name in cuts.loc[cuts["why_not"] == "", "law"].unique():
        if name in known:
            fitted[name] = FittedLaw(known[name])
            continue
        predict, _ = attempt(lambda name=name: laws[name](table, question))  # type: ignore[misc]
        if predict:
            fitted[name] = predict
    return fitted


def _apart(cuts: pd.DataFrame, fitted: dict[str, Predict], last: pd.DataFrame, question: Question) -> list[float]:
    """`apart` of every row, at the inputs of the largest level scaled by the reach of the cut."""
    good = cuts["log_rmse"] <= RIVAL * cuts.groupby("held")["log_rmse"].transform("min")
    rivals = set(cuts.loc[good, "law"])
    out = []
    for row in cuts.to_dict("records"):
        if row["law"] not in fitted:
            out.append(np.nan)
            continue
        there = last.assign(**{name: last[name] * row["reach"] ** (1 / len(question.x)) for name in question.x})
        middle = fitted[row["law"]](there)[0]
        ends = [fitted[name](there)[1:] for name in {row["law"], *rivals} & set(fitted)]
        out.append(float(np.max(np.abs(np.concatenate(ends) - middle))))
    return out


def _scores(table: pd.DataFrame) -> pd.DataFrame:
    """Each law over all its cuts: those fitted at every cut first, then by their error."""
    rows = []
    for law, cuts in table[table["why_not"] == ""].groupby("law", sort=False):
        weight = cuts["test"] / cuts["test"].sum()
        rmse, covered = np.sqrt((weight * cuts["log_rmse"] ** 2).sum()), (weight * cuts["covered"]).sum()
        rows.append({"law": law, "cuts": len(cuts), "log_rmse": float(rmse), "covered": float(covered)})
    scores = pd.DataFrame(rows, columns=["law", "cuts", "log_rmse", "covered"])
    return scores.sort_values(["cuts", "log_rmse"], ascending=[False, True], kind="stable", ignore_index=True)


def _warnings(scores: pd.DataFrame, names: tuple[str, ...]) -> list[str]:
    out = []
    best = scores.iloc[0]
    if best["covered"] < COVERED:
        out.append(f"the band of the best law holds only {100 * best['covered']:.0f} % of the held-out runs")
    if best["law"] == "log-linear" and len(names) == 2:
        out.append("a log-linear law predicts best: the runs show neither a floor nor a bend")
    return out
