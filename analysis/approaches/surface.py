"""The surface: y against params and examples at once (approach 3 of Hoffmann et al. 2022)."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, Unpack, cast

import numpy as np
import pandas as pd

from analysis.fits.law import law_entry
from analysis.fits.result import LawFit, build
from analysis.fits.thresholds import LEAST_VALUES
from analysis.laws.constrained import constrain
from analysis.solver import bootstrap, fitting
from analysis.table.data import read
from analysis.table.options import Options

if TYPE_CHECKING:
    from collections.abc import Mapping

    from analysis.fits.forms import Forms
    from analysis.laws.base import Law
    from analysis.table.data import Data
    from analysis.table.options import OptionNames

INPUTS = (("N", "D"), ("N", "U", "D"))
"""Inputs of the laws that are fitted here: params, unique examples, examples seen."""


class SurfaceFit(LawFit):
    """A law of params N and examples D; with repeated examples of N, unique examples U and D, in this order.

    The estimates are the parameters of the law (A, alpha, B, beta, floor; Nc, alpha, Dc, beta for "kaplan"; q,
    ceiling, C, gamma, delta; `examples_decay`, `params_decay` in repeats) and what follows at the optimum under
    C = k N D, no example repeated, whatever k: `params_exponent` (N* ~ C^.), `examples_exponent` (D* ~ C^.),
    `frontier_exponent` (y - floor ~ C^-.).
    """

    @cached_property
    def forms(self) -> Forms | None:
        """Every form of the surface on the same rows, compared; None for laws of repeated examples."""
        from analysis.approaches.forms import forms_of  # which imports this module

        return forms_of(self)

    @property
    def alternatives(self) -> dict[str, SurfaceFit]:
        """The forms that the points do not rule out, this one first unless it is, else the best."""
        if self.forms is None:
            return {self.name: self}
        fits = cast("dict[str, SurfaceFit]", self.forms.open)
        return ({self.name: self} if self.name in fits else {}) | fits

    @property
    def params_exponent(self) -> float:
        """Exponent of the optimal params in C: beta / (alpha + beta)."""
        return self["params_exponent"]

    @property
    def examples_exponent(self) -> float:
        """Exponent of the optimal examples in C: alpha / (alpha + beta)."""
        return self["examples_exponent"]

    @property
    def frontier_exponent(self) -> float:
        """Exponent of the reducible loss along the optimum in C: alpha beta / (alpha + beta)."""
        return self["frontier_exponent"]


def fit_surface(
    frame: pd.DataFrame | Mapping[str, Any],
    n: str = "params",
    d: str = "examples",
    y: str = "loss",
    *,
    u: str = "dataset_size",
    law: str = "chinchilla",
    **options: Unpack[OptionNames],
) -> SurfaceFit:
    """The surface through all rows of `frame`, with bootstrap intervals.

    Laws: "chinchilla", y = floor + A N^-alpha + B D^-beta (Hoffmann et al. 2022, equation 10, appendix D.3);
    "kaplan", y = [(Nc / N)^(alpha / beta) + Dc / D]^beta (Kaplan et al. 2020, equation 1.5); "coupled", floor +
    [(A N^-alpha)^q + (B D^-beta)^q]^(1/q), of which both are cases; "bounded", the first with a ceiling such as
    chance; "overfitted", that with a term that rises with N and falls with D; "repeated", the first with N and
    D replaced by what they are worth when U unique examples are seen D / U times (Muennighoff et al. 2023,
    equations 5 and 6; all parameters at once where they fix those of the first); and "repeated-examples", the
    same with N as it is. Exponents are in [0.001, 10], coefficients and floor >= 0.
    The loss is Huber's on residuals of log y; its threshold comes from the data, where Hoffmann et al. fix
    1e-3 (`delta=1e-3`). Intervals are percentiles over resampled clusters (rows that share a `run_id`,
    otherwise rows), widened for few clusters.

    Args:
        frame: one row a point; any table with the columns. Rows without a finite `y` are left out.
        n: positive column of the trainable parameters N.
        d: positive column of the training examples (tokens) D, repeats counted. Where a table has a column
            `epochs` in its place, D is `u` times that.
        y: positive column that was measured.
        u: positive column of the unique examples U; read by the "repeated" forms only.
        law: which law.
        **options: see `Options`.

    Raises:
        ValueError: a column or an option is missing or unfit, or there are too few distinct points.
    """
    chosen = Options.of(options)
    data, names = read_surface(frame, (n, u, d), y, law, chosen)
    return fit_placed(data, place(data, names, law, (n, d), chosen), law, (names, y), chosen)


def fit_placed(
    data: Data, law: Law, name: str, columns: tuple[tuple[str, ...], str], options: Options
) -> SurfaceFit:
    """The fit of a surface that was placed at the data, and of its resamples; params first, examples last."""
    groups = bootstrap.required(data, law.free.size, axes=[0, len(columns[0]) - 1])
    solution = fitting.solve(law, data, options, groups)
    return build(SurfaceFit, name, columns, law, data, solution, options)


def read_surface(
    frame: pd.DataFrame | Mapping[str, Any], columns: tuple[str, str, str], y: str, law: str, options: Options
) -> tuple[Data, tuple[str, ...]]:
    """The rows for a law of params, unique examples and examples, and the columns that it reads of them.

    Raises:
        ValueError: there is no such law, it has other inputs, or a column is missing or unfit.
    """
    entry, (n, u, d) = law_entry(law), columns
    if entry.inputs not in INPUTS:
        raise ValueError(f"law {law!r} has the inputs {', '.join(entry.inputs)}; fit it with fit_law")
    names = (n, u, d) if len(entry.inputs) == 3 else (n, d)
    return read(_with_examples(frame, u, d), names, y, options), names


def place(data: Data, names: tuple[str, ...], law: str, pair: tuple[str, str], options: Options) -> Law:
    """The law placed at the rows, under the constraints of the options.

    Raises:
        ValueError: the design cannot carry the law, or a constraint cannot hold.
    """
    placed = constrain(law_entry(law)(data.logs, data.centre_x), options.constraints, data.centre_y)
    _check_design(data, names, pair, placed)
    return placed


def _with_examples(frame: pd.DataFrame | Mapping[str, Any], u: str, d: str) -> pd.DataFrame | Mapping[str, Any]:
    if d in frame or "epochs" not in frame or u not in frame:
        return frame
    table = pd.DataFrame(dict(frame))
    return table.assign(**{d: table[u] * table["epochs"]})


def _check_design(data: Data, names: tuple[str, ...], pair: tuple[str, str], law: Law) -> None:
    """Raise a ValueError where the design cannot carry the law."""
    for name in pair:
        axis = data.x[names.index(name)]
        count = np.unique(axis).size
        if count < LEAST_VALUES:
            found = f"found {count} distinct {name!r} in {axis.size} rows"
            raise ValueError(f"{found}; a surface needs at least {LEAST_VALUES}")
    points, count = np.unique(data.x, axis=1).shape[1], law.free.size
    if points < count:
        raise ValueError(f"found {points} distinct points of {', '.join(names)}; this law needs {count}")
    if len(names) == 3 and not np.any(data.x[2] > 1.01 * data.x[1]):
        raise ValueError(f"no row has more {names[2]!r} than {names[1]!r}; without repeats fit 'chinchilla'")
