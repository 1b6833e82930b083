"""The finished runs of a table as plain arrays, from which a plan takes a law and the noise. Without pandas."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import sqlalchemy as sa

from orchestrator.store.schema import DONE, runs
from orchestrator.store.table import Table

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from trainer.spec import RunSpec


def earlier_runs(store: str, like: RunSpec) -> dict[str, NDArray[Any]]:
    """The finished runs with the data set, model family and stage of a run.

    Arrays `n` (params), `d` (examples), `y` (error > 0) and `cell`. Of cells that differ only in their recipe the
    one with the lowest mean error counts.

    Raises:
        TableError: there is no table, or it cannot be read.
    """
    names = ("params", "examples", "error", "cell_id", "dataset_size")
    query = sa.select(*(runs.c[name] for name in names)).where(
        runs.c.state == DONE,
        runs.c.error > 0,
        *(runs.c[name] == getattr(like, name) for name in ("dataset", "family", "stage")),
    )
    with Table(store) as table, table.engine.connect() as connection:
        rows = connection.execute(query).all()
    means: dict[Any, dict[str, list[float]]] = {}
    for n, d, y, cell, subset in rows:
        means.setdefault((n, d, subset), {}).setdefault(cell, []).append(y)
    kept = []
    for (n, d, _), cells in means.items():
        best = min(cells, key=lambda cell: sum(cells[cell]) / len(cells[cell]))
        kept += [(n, d, y, best) for y in cells[best]]
    n, d, y, cell = zip(*kept, strict=True) if kept else ((), (), (), ())
    numbers = {name: np.array(values, dtype=float) for name, values in (("n", n), ("d", d), ("y", y))}
    return {**numbers, "cell": np.array(cell, dtype=str)}
