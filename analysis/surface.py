"""The surface: y against params and examples at once (approach 3 of Hoffmann et al. 2022)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Unpack

import numpy as np

from analysis import conclusion, fitting, intervals
from analysis.fit import LawFit
from analysis.fitting import Options
from analysis.surface_forms import Additive

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd

    from analysis.fitting import Data, OptionNames
    from analysis.form import Form

FORMS: dict[str, type[Form]] = {"chinchilla": Additive}


class SurfaceFit(LawFit):
    """A law of params N and examples D.

    For `chinchilla` the estimates are A, alpha, B, beta, floor of y = floor + A N^-alpha + B D^-beta, and what
    follows at the optimum under C = k N D, whatever k: `params_exponent` (N* ~ C^.), `examples_exponent`
    (D* ~ C^.), `frontier_exponent` (y - floor ~ C^-.).
    """

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
    form: Literal["chinchilla"] = "chinchilla",
    **options: Unpack[OptionNames],
) -> SurfaceFit:
    """The surface through all rows of `frame`, with bootstrap intervals.

    "chinchilla" is y = floor + A N^-alpha + B D^-beta (Hoffmann et al. 2022, equation 10 and appendix D.3),
    exponents in [0.001, 10], A, B, floor >= 0. The loss is Huber's on residuals of log y; its threshold comes
    from the data, where they fix 1e-3 (`delta=1e-3`). Intervals are percentiles over resampled clusters (rows
    that share a `run_id`, otherwise rows), widened for few clusters.

    Args:
        frame: one row a point; any table with the three columns. Rows without a finite `y` are left out.
        n: positive column of the trainable parameters N.
        d: positive column of the training examples (tokens) D.
        y: positive column that was measured.
        form: which law.
        **options: see `Options`.

    Raises:
        ValueError: a column or an option is missing or unfit, or there are too few distinct points.
    """
    if form not in FORMS:
        raise ValueError(f"form is {form!r}; expected {' or '.join(map(repr, FORMS))}")
    chosen = Options(**options)
    data = fitting.read(frame, (n, d), y, chosen)
    law = FORMS[form](data.logs)
    _check_distinct(data, (n, d), law.low.size)
    rng = np.random.default_rng(chosen.seed)
    groups = [(np.unique(axis, return_inverse=True)[1], 3) for axis in data.x]
    groups.append((np.unique(data.x, axis=1, return_inverse=True)[1].ravel(), law.low.size))
    draws = intervals.draw(data.cluster, groups, chosen.resamples, rng)
    found = fitting.estimate(law, data, chosen, draws)
    return conclusion.conclude(SurfaceFit, form, (n, d), y, law, data, found, chosen)


def _check_distinct(data: Data, names: tuple[str, str], count: int) -> None:
    """Raise a ValueError where the design cannot carry the law.

    Raises:
        ValueError: fewer than 3 distinct values of an input, or fewer distinct pairs than parameters.
    """
    for name, axis in zip(names, data.x, strict=True):
        found = np.unique(axis).size
        if found < 3:
            raise ValueError(f"found {found} distinct {name!r} in {axis.size} rows; a surface needs at least 3")
    pairs = np.unique(data.x, axis=1).shape[1]
    if pairs < count:
        raise ValueError(f"found {pairs} distinct pairs of {names[0]!r} and {names[1]!r}; this law needs {count}")
