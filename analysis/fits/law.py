"""One law of one variable through the rows of a table."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Literal, Unpack

import numpy as np

from analysis.fits import build as conclusion
from analysis.fits.law_fit import LawFit
from analysis.laws.power import Broken, Power
from analysis.laws.sigmoid import Sigmoid
from analysis.solver import fitting
from analysis.table.data import read
from analysis.table.options import Options

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import pandas as pd

    from analysis.laws.base import Law
    from analysis.solver.fitting import Fitted
    from analysis.table.data import Data
    from analysis.table.options import OptionNames

LAWS: dict[str, Callable[..., Law]] = {
    "power": partial(Power, floor=False),
    "power-floor": partial(Power, floor=True),
    "power-shift": partial(Power, floor=False, shift=True),
    "power-floor-shift": partial(Power, floor=True, shift=True),
    "sigmoid": Sigmoid,
    "broken-1": partial(Broken, breaks=1),
    "broken-2": partial(Broken, breaks=2),
    "broken-3": partial(Broken, breaks=3),
}
LawName = Literal[
    "power", "power-floor", "power-shift", "power-floor-shift", "sigmoid", "broken-1", "broken-2", "broken-3"
]


def fit_law(
    frame: pd.DataFrame | Mapping[str, Any],
    x: str = "examples",
    y: str = "error",
    *,
    law: LawName = "power-floor",
    chance: float | None = None,
    **options: Unpack[OptionNames],
) -> LawFit:
    """A law of `y` against `x` through all rows of `frame`, with intervals.

    Laws: "power[-floor][-shift]", y = floor + coefficient (shift + x)^-exponent; "sigmoid", (y - floor) /
    (chance - y)^gamma = coefficient x^-exponent, chance for small x (Alabdulmohsin et al. 2022, M4); "broken-k",
    a power law with k smooth breaks (Caballero et al. 2023, equation 1), whose `exponent` is the last one.
    `fit_power_law` says more of the first four, `fit_laws` compares them all.

    Args:
        frame: one row a point; any table with the two columns. Rows without a finite `y` are left out.
        x: positive column that is varied.
        y: positive column that was measured.
        law: which law.
        chance: y where nothing was learnt, if it is known; read by "sigmoid" only, fitted where it is None.
        **options: see `Options`.

    Raises:
        ValueError: a column or an option is missing or unfit, or there are fewer distinct x than parameters.
    """
    chosen = Options(**options)
    data = read(frame, (x,), y, chosen)
    form = place(data, law, chance)
    found = np.unique(data.x[0]).size
    need = max(3, form.free.size)
    if found < need:
        raise ValueError(f"found {found} distinct {x!r} in {data.y.size} rows; {law!r} needs at least {need}")
    return answer(data, form, law, x, y, chosen)


def place(data: Data, law: str, chance: float | None) -> Law:
    """The law placed at the data.

    Raises:
        ValueError: there is no such law, or `chance` is not above all y.
    """
    if law not in LAWS:
        raise ValueError(f"law is {law!r}; expected {', '.join(map(repr, LAWS))}")
    if law != "sigmoid" or chance is None:
        return LAWS[law](data.logs, data.centre_x)
    if not chance > 0:
        raise ValueError(f"chance is {chance!r}; expected what {law!r} begins at, such as 0.9")
    return Sigmoid(data.logs, data.centre_x, chance=chance / float(np.exp(data.centre_y)))


def answer(
    data: Data, form: Law, law: str, x: str, y: str, options: Options, *, fitted: Fitted | None = None
) -> LawFit:
    """Fit a law that was placed at the data, unless it is `fitted`, and draw the conclusions."""
    groups = [(np.unique(data.x[0], return_inverse=True)[1], form.free.size)]
    found = fitting.estimate(form, data, options, groups, fitted)
    return conclusion.conclude(LawFit, law, (x,), y, form, data, found, options)
