"""The columns of runs that a terminal shows: those in which they differ, as many as fit."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from orchestrator import text
from trainer.errors import UserError
from trainer.spec import SETTINGS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    Rows = Sequence[Mapping[str, Any]]

_ID = 8
"""Hex digits of a run_id that are shown; a verb takes any beginning of it."""
_LONGEST = 40
"""Characters of a text in a table; of a longer one the beginning is shown."""
_IN_MODEL = ("family", "depth", "width", "expansion")
LENGTHS = ("epochs", "budget", "examples")
_UNNAMED = (*_IN_MODEL, *LENGTHS, "dataset", "path", "loader", "start")
SETTING_COLUMNS = (
    *("dataset", "model"),
    *(name for name, field in SETTINGS.items() if field.section and name not in _UNNAMED),
    "stage",
)
"""Columns that tell runs apart, but for their lengths and seeds."""
_SILENT = {"state": {"", "done"}, "attempt": {"", "0", "1"}, "priority": {"", "0"}}
"""Values that need no column where all rows have them."""
METRIC_COLUMNS = ("error", "loss", "params", "flops", "seconds")
_COUNTS = ("params", "params_embed", "params_body", "params_head", "examples")


def shown(name: str, value: Any) -> str:
    """Return a value of a column as a table shows it; empty where it is missing."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if name == "run_id":
        return str(value)[:_ID]
    if name == "budget" or name.endswith("flops"):
        return text.flops(value)
    if name in _COUNTS:
        return text.number(value)
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 1e15 else text.number(value, 4)
    return text.cut(", ".join(value) if isinstance(value, list) else str(value), _LONGEST)


def naming(rows: Rows) -> tuple[list[str], list[str]]:
    """Return the columns that tell runs apart, and those that vary with them.

    The first are the model, every setting that splits the runs further, a length and the seed. Of the lengths that
    vary, the one with the fewest values is taken: the sweep file declared it.
    """
    varied = [name for name in ("sweep", *SETTING_COLUMNS) if name != "model" and _distinct(rows, [name]) > 1]
    lengths = [name for name in LENGTHS if _distinct(rows, [name]) > 1]
    length = sorted(lengths, key=lambda name: _distinct(rows, [name]))[:1]
    names, groups = ["model"], _distinct(rows, ["model"])
    for name in (*varied, *length, "seed"):
        if (split := _distinct(rows, [*names, name])) > groups:
            names.append(name)
            groups = split
    names = sorted(names, key=("sweep", *SETTING_COLUMNS, *LENGTHS, "seed").index)
    return names, [name for name in varied if name not in names]


def fitted(
    rows: Rows, after: Sequence[str], width: int, essential: Sequence[str] = ()
) -> tuple[list[dict[str, str]], list[str]]:
    """Return rows as texts within `width` characters, and columns for which there is no room to tell runs apart.

    Shown are run_id, the columns in which the runs differ, and those of `after` that say something; `essential`
    ones have the room first, besides run_id and model.
    """
    names, others = naming(rows)
    filled = [name for name in after if {shown(name, row.get(name)) for row in rows} - _SILENT.get(name, {""})]
    columns = dict.fromkeys(["run_id", *names, *filled, *others])
    kept = text.fitting(text_rows(rows, list(columns)), width, ("run_id", "model", *essential))
    return kept, [name for name in names if kept and name not in kept[0]]


def chosen(rows: Rows, columns: str) -> list[dict[str, str]]:
    """Return rows as texts with the columns of a list `one,two`, or all columns for `all`.

    Raises UserError for a column that does not exist.
    """
    known = list(rows[0]) if rows else []
    names = known if columns == "all" else names_in(columns)
    if rows:
        require(names, known, "columns")
    return text_rows(rows, names)


def names_in(columns: str) -> list[str]:
    """Return the names of a list `one, two`."""
    return [name.strip() for name in columns.split(",") if name.strip()]


def require(names: Iterable[str], known: Sequence[str], option: str) -> None:
    """Raise UserError for a name that is none of the known columns."""
    for name in names:
        if name not in known:
            raise UserError(f"--{option} {name!r}: no such column; {text.nearest(name, known, 'columns are')}")


def text_rows(rows: Rows, names: Sequence[str]) -> list[dict[str, str]]:
    """Return some columns of rows as texts."""
    return [{name: shown(name, row.get(name)) for name in names} for row in rows]


def _distinct(rows: Rows, names: Sequence[str]) -> int:
    return len({tuple(shown(name, row.get(name)) for name in names) for row in rows})
