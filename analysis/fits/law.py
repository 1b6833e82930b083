"""One law of one variable through the rows of a table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Unpack

import numpy as np

from analysis.fits.result import LawFit, build
from analysis.fits.thresholds import LEAST_VALUES
from analysis.laws import LAWS
from analysis.laws.constrained import constrain
from analysis.laws.sigmoid import Sigmoid
from analysis.solver import bootstrap, fitting
from analysis.solver.fitting import FitError
from analysis.table.data import read
from analysis.table.options import Options, check_option

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd

    from analysis.laws.base import Constraints, Law
    from analysis.solver.fitting import Minimum
    from analysis.table.data import Data
    from analysis.table.options import OptionNames


def fit_law(
    frame: pd.DataFrame | Mapping[str, Any],
    x: str = "examples",
    y: str = "error",
    *,
    law: str = "power-floor",
    chance: float | None = None,
    **options: Unpack[OptionNames],
) -> LawFit:
    """A law of `y` against `x` through all rows of `frame`, with intervals.

    Laws: "power[-floor][-shift]", y = floor + coefficient (shift + x)^-exponent; "sigmoid", (y - floor) /
    (chance - y)^gamma = coefficient x^-exponent, chance for small x (Alabdulmohsin et al. 2022, M4); "broken-k",
    a power law with k smooth breaks (Caballero et al. 2023, equation 1), whose `exponent` is the last one; a law
    that was registered (`register_law`) or installed; or "module:name". `fit_laws` compares several.

    Args:
        frame: one row a point; any table with the two columns. Rows without a finite `y` are left out.
        x: positive column that is varied.
        y: positive column that was measured.
        law: which law.
        chance: y of a model that has learnt nothing, if known; read by "sigmoid" only, fitted if None.
        **options: see `Options`.

    Raises:
        ValueError: a column or an option is missing or not valid, there is no such law, or there are fewer
            distinct x than parameters.
    """
    chosen = Options.of(options)
    data = read(frame, (x,), y, chosen)
    placed = place(data, law, chosen.constraints, chance)
    require_distinct(data, placed, law, x)
    return fit_placed(data, placed, law, (x, y), chosen)


def fit_power_law(
    frame: pd.DataFrame | Mapping[str, Any],
    x: str = "flops",
    y: str = "error",
    *,
    floor: bool = True,
    shift: bool = False,
    **options: Unpack[OptionNames],
) -> LawFit:
    """The power law of `y` against `x` through all rows of `frame`, with bootstrap intervals.

    y = floor + coefficient (shift + x)^-exponent with exponent in [0.001, 10], coefficient > 0, floor >= 0,
    shift >= 0 (Bachmann et al. 2023, section 4: `a (b + x)^-alpha + E_inf`). The loss is Huber's on residuals
    of log y with delta = 1.345 x 1.4826 x their MAD, where Hoffmann et al. 2022 (appendix D.3) fix 1e-3.
    The floor may lie above the lowest y seen: on a noisy plateau half of the points are below it.
    Intervals are percentiles over resampled clusters (rows that share a `run_id`, otherwise rows), widened
    for few clusters. They hold sampling error, not the error of the law.

    Args:
        frame: one row a point; any table with the two columns. Rows without a finite `y` are left out.
        x: name of the positive column that is varied.
        y: name of the positive column that was measured.
        floor: whether the law has a floor.
        shift: whether x is shifted.
        **options: the loss and the bootstrap; see `Options`.

    Raises:
        ValueError: a column or an option is missing or not valid, or there are fewer distinct x than parameters
            (at least 3).
        FitError: `y` does not fall with `x`.
    """
    law, chosen = power_law_name(floor=floor, shift=shift), Options.of(options)
    data = read(frame, (x,), y, chosen)
    placed = place(data, law, chosen.constraints)
    require_distinct(data, placed, law, x)
    minimum = fitting.minimise(placed, data, chosen)
    require_fall(placed, minimum, x, y)
    return fit_placed(data, placed, law, (x, y), chosen, minimum=minimum)


def power_law_name(*, floor: bool, shift: bool) -> str:
    """Name of the power law with these parts.

    Raises:
        ValueError: a part is not a truth value.
    """
    check_option("floor", floor)
    check_option("shift", shift)
    return "power" + "-floor" * bool(floor) + "-shift" * bool(shift)


def place(data: Data, law: str, constraints: Constraints, chance: float | None = None) -> Law:
    """The law of one variable placed at the data, under constraints.

    Raises:
        ValueError: there is no such law, it has several inputs, `chance` is not valid, or a constraint cannot hold.
    """
    entry = law_entry(law)
    if len(entry.inputs) != 1:
        raise ValueError(f"law {law!r} has the inputs {', '.join(entry.inputs)}; fit it with fit_surface")
    if not issubclass(entry, Sigmoid):
        check_option("chance", chance)
        return constrain(entry(data.logs, data.centre_x), constraints, data.centre_y)
    chance = constraints.fix.get("chance", chance)
    check_option("chance", chance)
    scaled = None if chance is None else chance / float(np.exp(data.centre_y))
    return constrain(entry(data.logs, data.centre_x, chance=scaled), constraints.unfixed("chance"), data.centre_y)


def law_entry(law: str) -> type[Law]:
    """The law of this name.

    Raises:
        ValueError: there is none; the message has the nearest name and the list.
    """
    try:
        return LAWS.get(law)
    except LookupError as error:
        raise ValueError(str(error)) from error


def require_distinct(data: Data, law: Law, name: str, x: str, what: str = "rows") -> None:
    """Raise a ValueError when there are fewer distinct x than the law has parameters, or fewer than 3."""
    need = max(LEAST_VALUES, law.free.size)
    if data.distinct >= need:
        return
    without = f" ({data.dropped} rows without a finite value left out)" if data.dropped else ""
    message = (
        f"found {data.distinct} distinct {x!r} in {data.y.size} {what}{without}; {name!r} needs at least {need}"
    )
    raise ValueError(message)


def require_fall(law: Law, minimum: Minimum, x: str, y: str) -> None:
    """Raise a FitError where a law placed at its data does not fall between their ends."""
    ends = np.array([law.logs[0].min(), law.logs[0].max()])[None, :]
    first, last = law.at(ends).value(minimum.theta[None, :])[0]
    exponent = law.parameters(minimum.theta[None, :], 0.0).get("exponent", np.inf)
    least = law.exponent_range[0]
    flat = (least > 0 and exponent < 1.01 * least) or first < last + np.log(1.001)
    if flat or not np.isfinite(first - last):
        raise FitError(
            f"{y!r} does not fall as {x!r} grows; look at the points, or fit law 'growth' if it should rise"
        )


def fit_placed(
    data: Data, law: Law, name: str, columns: tuple[str, str], options: Options, *, minimum: Minimum | None = None
) -> LawFit:
    """The fit of a law that was placed at the data, unless its `minimum` is given, and of its resamples."""
    solution = fitting.solve(law, data, options, bootstrap.required(data, law.free.size), minimum)
    x, y = columns
    return build(LawFit, name, ((x,), y), law, data, solution, options)
