"""Parts of a table: its levels by one column, and fits of parts that may have no answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import pandas as pd

from analysis.approaches.curves import by_budget
from analysis.fits.quantity import Quantity
from analysis.solver.fitting import FitError
from analysis.table import columns
from analysis.table.rows import measured

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

T = TypeVar("T")
UNKNOWN = Quantity(np.nan, np.nan, np.nan, np.empty(0))
"""The value of a quantity that a part does not determine."""
_BINS = 8


def attempt(fit: Callable[[], T]) -> tuple[T | None, str]:
    """What `fit()` returns and an empty text; or None and why the data have no answer (FitError, ValueError)."""
    try:
        return fit(), ""
    except (FitError, ValueError) as error:
        return None, str(error)


def ordered(
    frame: pd.DataFrame | Mapping[str, Any], names: tuple[str, ...], y: str, order: str | None
) -> tuple[pd.DataFrame, str, tuple[str, ...]]:
    """The measurements of a table sorted by its order column, the name of that column, and notes on the rows.

    The default order is the input where there is one, else `budget`, `flops`, or the product of the inputs.
    """
    given = frame if isinstance(frame, pd.DataFrame) else pd.DataFrame(dict(frame))
    product = " x ".join(names)
    if order is None:
        present = names if len(names) == 1 else [name for name in ("budget", "flops") if name in given]
        order = present[0] if present else product
    table, _, notes = measured(given, [*dict.fromkeys((*names, *([order] if order in given else []))), y])
    if order == product and order not in table:
        table = table.assign(**{order: table[list(names)].prod(axis=1)})
    columns.require(table, order)
    return table.sort_values([order, *names, y], kind="stable", ignore_index=True), order, notes


def levels(table: pd.DataFrame, order: str) -> NDArray[np.intp]:
    """The level of each row, [rows], from 0 for the smallest: near-equal values, or bins of equal count."""
    distinct = np.unique(table[order].to_numpy(dtype=float), return_inverse=True)[1]
    count = int(distinct.max()) + 1
    group, _ = attempt(lambda: by_budget(table, order))
    if group is None:
        return np.asarray(distinct * min(_BINS, count) // count, dtype=np.intp)
    if group.max() + 1 > max(len(table) // 2, _BINS):
        return np.asarray(distinct * _BINS // count, dtype=np.intp)
    return group
