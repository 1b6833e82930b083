"""Forms of a surface on one table, compared: which the points rule out, and what the others leave open."""

from __future__ import annotations

import html
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.fits.quantity import Quantity
from analysis.fits.summary import Summary, as_json
from analysis.laws import newton
from analysis.laws.constrained import Constrained
from analysis.laws.surfaces.bounded import Overfitted
from analysis.solver import fitting
from analysis.table.options import Options

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from analysis.fits.result import Interval, LawFit
    from analysis.laws.base import Law
    from analysis.table.data import Data

Array = NDArray[np.float64]

QUANTITIES = ("alpha", "beta", "params_exponent", "examples_exponent", "frontier_exponent", "floor")
"""What all forms have; the floor of a form without one is 0."""


class Scored(NamedTuple):
    """A form at its minimum of the loss that all forms share: the minimum, and the AICc."""

    law: Law
    data: Data
    objective: float
    aicc: float


def compare(laws: Mapping[str, tuple[Law, Data]], residuals: newton.Residuals) -> dict[str, Scored]:
    """Every law at its minimum of one loss, the lowest AICc first; all data have the same y.

    The loss is Huber's with the threshold of the law that leaves the least scatter. A law that overfits is left out
    where y rises with N at none of the points: its third term then models something else.
    """
    options = Options(residuals=residuals)
    pilots = {name: fitting.minimise(law, data, options) for name, (law, data) in laws.items()}
    loss = min((pilot.loss for pilot in pilots.values()), key=lambda loss: loss.delta)
    scored = []
    for name, (law, data) in laws.items():
        theta, objective, _ = newton.refine(fitting.pose(law, data, loss), pilots[name].theta[None, :].copy())
        if _shows_nothing(law, theta):
            continue
        least = float(objective[0])
        scored.append((name, Scored(law, data, least, fitting.aicc(law, data, least))))
    return dict(sorted(scored, key=lambda pair: pair[1].aicc))


def _shows_nothing(law: Law, theta: Array) -> bool:
    """Whether a law overfits at none of its points, for theta [1, P]."""
    base, whole = (law.base, law.whole(theta)) if isinstance(law, Constrained) else (law, theta)
    return isinstance(base, Overfitted) and not base.overfits(whole[0])


@dataclass(frozen=True, eq=False)
class Forms(Summary):
    """Forms of a surface, compared.

    Attributes:
        fits: name -> fit, the form of lowest AICc first; forms that are ruled out have no replicates.
        aicc: name -> AICc less that of the best form.
        losses: name -> minimum of the loss under which all forms were compared.
        weights: name -> Akaike weight among the forms that are not ruled out; 0 for the others.
        ruled_out: name -> why.
    """

    fits: dict[str, LawFit] = field(repr=False)
    aicc: dict[str, float]
    losses: dict[str, float]
    weights: dict[str, float]
    ruled_out: dict[str, str]

    @property
    def best(self) -> LawFit:
        """The form of lowest AICc."""
        return next(iter(self.fits.values()))

    @property
    def open(self) -> dict[str, LawFit]:
        """The forms that are not ruled out, the best first."""
        return {name: fit for name, fit in self.fits.items() if name not in self.ruled_out}

    @property
    def reasons(self) -> tuple[str, ...]:  # type: ignore[override]
        """Why the exponents are not identified; empty when `supported`."""
        return self.best.reasons

    @property
    def warnings(self) -> tuple[str, ...]:  # type: ignore[override]
        """What a reader must know, one sentence each; the reasons are among them."""
        return self.best.warnings

    @cached_property
    def quantities(self) -> dict[str, Quantity]:
        """alpha, beta, the exponents of the optimum and the floor: of the best form, in the union of intervals."""
        return {name: union([_quantity(fit, name) for fit in self.open.values()]) for name in QUANTITIES}

    @property
    def intervals(self) -> dict[str, Interval]:
        """Quantity -> the union of its intervals over the forms that are not ruled out."""
        return {name: (found.low, found.high) for name, found in self.quantities.items()}

    def predict(self, *x: Any) -> pd.DataFrame:
        """The forms that are not ruled out, at inputs that broadcast together, one row each.

        Columns as of `LawFit.predict`: `y` is their weighted mean in log, the band the union of theirs. A form that
        tells repeated examples apart takes another number of inputs and is left out where it is not the best.

        Raises:
            ValueError: another number of inputs than the best form has, or some of them not positive and finite.
        """
        alike = {name: fit for name, fit in self.open.items() if fit.x == self.best.x}
        curves = [fit.predict(*x) for fit in alike.values()]
        logs = np.average(np.log([c["y"] for c in curves]), axis=0, weights=[self.weights[name] for name in alike])
        low, high = np.min([c["low"] for c in curves], axis=0), np.max([c["high"] for c in curves], axis=0)
        return curves[0].assign(y=np.exp(logs), low=low, high=high)

    def table(self) -> pd.DataFrame:
        """One row a form: `form`, `parameters`, `rms`, `aicc`, `weight`, `ruled_out`, its exponents and floor."""
        rows = []
        for name, fit in self.fits.items():
            row = {"form": name, "parameters": int(fit.law.free.size), "rms": fit.rms, "aicc": self.aicc[name]}
            row |= {"weight": self.weights[name], "ruled_out": name in self.ruled_out}
            rows.append(row | {key: fit.estimates.get(key, 0.0) for key in QUANTITIES})
        return pd.DataFrame(rows)

    def summary(self) -> str:
        """The forms in order, what they leave open, and what is against a claim."""
        fit = self.best
        lines = [f"forms of {fit.y} against {' and '.join(fit.x)}, {fit.n} points, {fit.n_distinct} distinct:"]
        for row in self.table().to_dict("records"):
            state = "ruled out" if row["ruled_out"] else f"weight {row['weight']:.2f}"
            lines.append(f"  {row['form']:18} AICc +{row['aicc']:<8.1f} rms {row['rms']:<8.2g} {state}")
        lines += [f"  not supported: {text}" for text in self.reasons]
        lines += [f"  {name} {found}{self._disagreement(name)}" for name, found in self.quantities.items()]
        return "\n".join([*lines, *self.cautions()])

    def to_dict(self) -> dict[str, Any]:
        """The comparison and every fit, as JSON can hold it."""
        names = ("quantities", "aicc", "losses", "weights", "ruled_out", "supported", "warnings", "reasons", "fits")
        return {name: as_json(getattr(self, name)) for name in names} | {"forms": as_json(self.table())}

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(self.summary())}</pre>{self.table().to_html(index=False)}"

    def _disagreement(self, name: str) -> str:
        """Which two forms disagree about a quantity, where their intervals do not meet."""
        ends = {form: fit.intervals.get(name, (0.0, 0.0)) for form, fit in self.open.items()}
        lowest, highest = min(ends, key=lambda form: ends[form][1]), max(ends, key=lambda form: ends[form][0])
        if not ends[highest][0] > ends[lowest][1]:
            return ""
        texts = (f"{form} gives {_quantity(self.fits[form], name)}" for form in (lowest, highest))
        return f": {', '.join(texts)}, and neither is ruled out"


def union(parts: Sequence[Quantity]) -> Quantity:
    """The first of several quantities, with the union of their intervals and all their replicates."""
    low, high = min(part.low for part in parts), max(part.high for part in parts)
    return Quantity(parts[0].value, low, high, np.concatenate([part.replicates for part in parts]))


def _quantity(fit: LawFit, name: str) -> Quantity:
    ends = fit.intervals.get(name, (0.0, 0.0))
    return Quantity(fit.estimates.get(name, 0.0), *ends, fit.replicates.get(name, np.empty(0)))
