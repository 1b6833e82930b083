"""Hold out the largest budgets, predict them from the rest, and score: the only test that an extrapolation has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.approaches.curves import by_budget
from analysis.checks.predictors import Question, log_linear, power, surface
from analysis.fits.power_law import check_options
from analysis.solver.fitting import FitError
from analysis.table import columns

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from analysis.checks.predictors import Predict

    Law = Callable[[pd.DataFrame, Question], Predict]

Array = NDArray[np.float64]

LAWS: dict[int, dict[str, Law]] = {
    1: {
        "power law": power(floor=False),
        "power law with floor": power(floor=True),
        "power law with floor and shift": power(floor=True, shift=True),
    },
    2: {"chinchilla": surface("chinchilla"), "kaplan": surface("kaplan"), "log-linear": log_linear},
}
"""The laws that are compared, by the number of inputs; log-linear is the naive one that a surface must beat."""
SPLITS = 4
"""At most so many cuts are tried, the largest one level held out, then two, ..."""
COVERED = 0.8
"""A band that holds fewer of the held-out runs has failed."""
RIVAL = 1.5
"""A law whose held-out error was within this factor of the best at some cut is not ruled out."""
APART = 3.0
"""What lies beyond the data is open when a law not ruled out allows more than this x the held-out error."""
_BINS, _SAME = 8, 1e-3


@dataclass(frozen=True, eq=False)
class Validation:
    """How well each law predicts what is larger than all it was fitted to.

    Attributes:
        x, y, order: the inputs, what was measured, and the column whose largest levels were held out.
        table: one row a law and cut: `law`, `held` (levels held out), `train`, `test` (rows), `reach` (largest
            order held out over the largest fitted), `log_rmse` and `bias` of log y, `covered` (share of the
            held-out runs inside the band), `why_not` where the law could not be fitted, `apart` (how far from this
            law's log y the bands of all laws not ruled out reach, as far beyond all rows as the cut reached).
        scores: one row a law, the best first: `law`, `cuts` answered, `log_rmse` over all held-out runs, `covered`.
        level: of the bands, which are for a new run: the law's uncertainty and the noise of a run.
        warnings: what a reader must know.
    """

    x: tuple[str, ...]
    y: str
    order: str
    table: pd.DataFrame
    scores: pd.DataFrame
    level: float
    warnings: tuple[str, ...]

    @property
    def best(self) -> str:
        """The law that predicted best among those that answered every cut."""
        return str(self.scores["law"].iloc[0])

    def reach(self, law: str | None = None) -> tuple[float, float]:
        """How far a law (default the best) held, and its log RMSE up to there.

        The largest reach up to which every cut had its runs in the band, and up to which the laws not
        ruled out agree on what lies beyond all rows. (1, NaN) where already the shortest failed.
        """
        name = law or self.best
        rows = self.table[self.table["law"] == name].sort_values("reach")
        overall = self.scores.set_index("law").loc[name]  # two runs held out may be right by luck
        off = rows["log_rmse"].cummax().clip(lower=overall["log_rmse"] * (overall["covered"] >= COVERED))
        held = (rows["covered"] >= COVERED) & (rows["apart"] <= APART * off + _SAME)
        good = held.cummin()
        return (float(rows["reach"][good].max()), float(off[good].max())) if good.any() else (1.0, np.nan)

    def summary(self) -> str:
        """A line for every law, the best first."""
        cuts = self.table.drop_duplicates("held")
        far = f"{cuts['reach'].min():.2g} to {cuts['reach'].max():.2g} x beyond what was fitted"
        lines = [f"{len(cuts)} cuts of the largest {self.order}, reaching {far}"]
        for row in self.scores.to_dict("records"):
            covered = f"{100 * row['covered']:.0f} % of runs in the {100 * self.level:g} % band"
            lines.append(f"  {row['law']}: off by {100 * row['log_rmse']:.2g} % rms, {covered}")
        lines += [
            f"  {row['law']} without the largest {row['held']}: {row['why_not']}"
            for row in self.table[self.table["why_not"] != ""].to_dict("records")
        ]
        return "\n".join([*lines, *(f"  caution: {text}" for text in self.warnings)])

    def to_dict(self) -> dict[str, Any]:
        """As JSON can hold it."""
        out: dict[str, Any] = {"x": list(self.x), "y": self.y, "order": self.order, "level": self.level}
        for name in ("table", "scores"):
            table = getattr(self, name).astype(object)
            out[name] = table.where(table.notna(), None).to_dict("records")
        return out | {"warnings": list(self.warnings)}

    def __str__(self) -> str:
        return self.summary()


def validate(
    frame: pd.DataFrame | Mapping[str, Any],
    x: str | Sequence[str] = ("params", "examples"),
    y: str = "error",
    *,
    order: str | None = None,
    laws: Mapping[str, Law] | None = None,
    resamples: int = 200,
    level: float = 0.95,
    seed: int = 0,
) -> Validation:
    """Fit each law without the largest levels of `order`, predict the runs held out, and score.

    The cuts hold out the largest level, then the largest two, up to four and never more than half. What is scored
    is log y of single runs, and whether they fall in a band made of the law's interval and the noise of a run.

    Args:
        frame: one row a run (of a frontier, pass the frontier).
        x: one input (power laws are compared) or params and examples (surfaces, and a log-linear law to beat).
        y: the column that was measured.
        order: the column whose largest levels are held out; default the input where there is one, else `budget`,
            `flops`, or the product of the inputs. Near-equal values are one level; where there are no levels, eight
            bins of equal count.
        laws: name -> law to compare instead; `analysis.checks.predictors` has more of them: `curve("broken-1")`,
            `mixture`.
        resamples: bootstrap resamples of every fit, at least 20.
        level: nominal coverage of the bands.
        seed: of the resampling.

    Raises:
        ValueError: a column or option is unfit, or there are too few levels to hold one out.
        FitError: no law could be fitted to any part.
    """
    check_options(resamples, level)
    names = (x,) if isinstance(x, str) else tuple(x)
    if len(names) > 2 or resamples < 20:
        raise ValueError(f"{len(names)} inputs and {resamples} resamples; expected one or two, and at least 20")
    table, order = ordered(frame, names, y, order)
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
    last = table[group == count - 1]
    told = pd.DataFrame(rows)
    told["apart"] = _apart(told, chosen, table, last, question)
    return Validation(names, y, order, told, scores, level, tuple(_cautions(scores, names)))


def ordered(
    frame: pd.DataFrame | Mapping[str, Any], names: tuple[str, ...], y: str, order: str | None
) -> tuple[pd.DataFrame, str]:
    """A checked table with its order column, and the name of that."""
    given = frame if isinstance(frame, pd.DataFrame) else pd.DataFrame(dict(frame))
    if order is None:
        known = names if len(names) == 1 else [name for name in ("budget", "flops") if name in given]
        order = known[0] if known else " x ".join(names)
    if order not in given and order == " x ".join(names):
        given, _ = columns.check(given, [*names, y])
        given = given.assign(**{order: given[list(names)].prod(axis=1)})
    table, _ = columns.check(given, [*dict.fromkeys((*names, order)), y])
    return table.sort_values([order, *names, y], kind="stable", ignore_index=True), order


def levels(table: pd.DataFrame, order: str) -> NDArray[np.intp]:
    """The level of each row, [rows], from 0 for the smallest: near-equal values, or bins of equal count."""
    distinct = np.unique(table[order].to_numpy(dtype=float), return_inverse=True)[1]
    many = int(distinct.max()) + 1
    try:
        group = by_budget(table, order)
    except ValueError:
        return np.asarray(distinct * min(_BINS, many) // many, dtype=np.intp)
    if group.max() + 1 > max(len(table) // 2, _BINS):
        return np.asarray(distinct * _BINS // many, dtype=np.intp)
    return group


def _scored(
    name: str, law: Law, train: pd.DataFrame, test: pd.DataFrame, question: Question, order: str, held: int
) -> dict[str, Any]:
    reach = float(test[order].max() / train[order].max())
    row = {"law": name, "held": held, "train": len(train), "test": len(test), "reach": reach}
    try:
        middle, low, high = law(train, question)(test)
    except (FitError, ValueError) as error:
        return row | {"log_rmse": np.nan, "bias": np.nan, "covered": np.nan, "why_not": str(error)}
    off = np.log(test[question.y].to_numpy(dtype=float)) - middle
    inside = (middle + off >= low) & (middle + off <= high)
    numbers = {
        "log_rmse": float(np.sqrt(np.mean(off**2))),
        "bias": float(off.mean()),
        "covered": float(inside.mean()),
    }
    return row | numbers | {"why_not": ""}


def _apart(
    told: pd.DataFrame, laws: dict[str, Law], table: pd.DataFrame, last: pd.DataFrame, question: Question
) -> list[float]:
    """`apart` of every row, at the inputs of the largest level times what the reach leaves to each."""
    good = told["log_rmse"] <= RIVAL * told.groupby("held")["log_rmse"].transform("min")
    open_still = set(told.loc[good, "law"])
    fitted: dict[str, Predict] = {}
    for name in told.loc[told["why_not"] == "", "law"].unique():
        try:
            fitted[name] = laws[name](table, question)
        except (FitError, ValueError):
            continue
    out = []
    for row in told.to_dict("records"):
        if row["law"] not in fitted:
            out.append(np.nan)
            continue
        there = last.assign(**{name: last[name] * row["reach"] ** (1 / len(question.x)) for name in question.x})
        middle = fitted[row["law"]](there)[0]
        ends = [fitted[name](there)[1:] for name in {row["law"], *open_still} & set(fitted)]
        out.append(float(np.max(np.abs(np.concatenate(ends) - middle))))
    return out


def _scores(table: pd.DataFrame) -> pd.DataFrame:
    """Each law over all its cuts, those that answered every cut first, then by their error."""
    rows = []
    for law, cuts in table[table["why_not"] == ""].groupby("law", sort=False):
        weight = cuts["test"] / cuts["test"].sum()
        rmse, covered = np.sqrt((weight * cuts["log_rmse"] ** 2).sum()), (weight * cuts["covered"]).sum()
        rows.append({"law": law, "cuts": len(cuts), "log_rmse": float(rmse), "covered": float(covered)})
    scores = pd.DataFrame(rows, columns=["law", "cuts", "log_rmse", "covered"])
    return scores.sort_values(["cuts", "log_rmse"], ascending=[False, True], kind="stable", ignore_index=True)


def _cautions(scores: pd.DataFrame, names: tuple[str, ...]) -> list[str]:
    out = []
    best = scores.iloc[0]
    if best["covered"] < COVERED:
        out.append(f"the band of the best law holds only {100 * best['covered']:.0f} % of the held-out runs")
    if best["law"] == "log-linear" and len(names) == 2:
        out.append("a log-linear law predicts best: these runs show neither a floor nor a bend")
    return out
