"""What differs between two runs, or between two sweeps: in their settings and in their results."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from textwrap import wrap
from typing import TYPE_CHECKING, Any

from orchestrator import text
from orchestrator.store.columns import LENGTHS, METRIC_COLUMNS, SETTING_COLUMNS, shown
from orchestrator.store.schema import STATES
from trainer.spec import SETTINGS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from orchestrator.store.table import Table

    Rows = Sequence[Mapping[str, Any]]

_VALUES = 28
"""Characters of a list of values."""


@dataclass(frozen=True)
class Difference:
    """What differs between `a` and `b`, two runs or two sweeps.

    Attributes:
        a, b: names of what is compared.
        settings: setting -> its values of a and of b, where they differ.
        results: result -> its values of a and of b; None where there is none.
        notes: sentences on the runs that both have, and on errors in pairs of runs.
    """

    a: str
    b: str
    settings: Mapping[str, tuple[str, str]]
    results: Mapping[str, tuple[float | None, float | None]]
    notes: tuple[str, ...] = ()

    def text(self, width: int = 80) -> str:
        """Return it as text in lines of at most `width` characters."""
        settings = [{"setting": name, "A": a, "B": b} for name, (a, b) in self.settings.items()]
        results = [
            {"result": name, "A": _result(name, a), "B": _result(name, b), "B / A": _ratio(a, b)}
            for name, (a, b) in self.results.items()
            if (a, b) != (None, None)
        ]
        parts = [
            f"A  {self.a}\nB  {self.b}",
            text.table(settings) or "no setting differs",
            text.table(results) or "neither has a result yet",
            "\n".join(line for note in self.notes for line in wrap(note, width)),
        ]
        return "\n\n".join(filter(None, parts))

    def __str__(self) -> str:
        return self.text()

    def _repr_html_(self) -> str:
        return f"<pre>{text.escape(self.text(100))}</pre>"

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {**vars(self), "notes": list(self.notes)}


def run_difference(a: Mapping[str, Any], b: Mapping[str, Any]) -> Difference:
    """Return what differs between two runs, rows of `Table.shown`."""
    names = [name for name in SETTINGS if name in a and name not in LENGTHS]
    settings = {name: (shown(name, a[name]), shown(name, b[name])) for name in ("model", *names)}
    for name in ("epochs", "examples", "steps"):
        settings[name] = (shown(name, a["plan"][name]), shown(name, b["plan"][name]))
    results = {name: (a[name], b[name]) for name in ("error", "loss", "val_error", *METRIC_COLUMNS[2:])}
    heads = [f"{row['run_id'][:8]}  {row['model']} seed {row['seed']}, {row['state']}" for row in (a, b)]
    return Difference(
        heads[0],
        heads[1],
        {name: values for name, values in settings.items() if values[0] != values[1]},
        results,
    )


def sweep_difference(table: Table, a: str, b: str) -> Difference:
    """Return what differs between two sweeps of a table."""
    of = {row["sweep"]: row for row in table.sweeps()}
    one, two = table.listed(a, STATES), table.listed(b, STATES)
    settings = {}
    for name in (*SETTING_COLUMNS, *LENGTHS, "seed"):
        values = [list(dict.fromkeys(shown(name, row[name]) for row in rows)) for rows in (one, two)]
        if set(values[0]) != set(values[1]):
            settings[name] = (_values(values[0]), _values(values[1]))
    named = {"runs": "runs", "best error": "best_error", "flops": "flops"}
    named |= {"seconds elapsed": "seconds", "seconds summed over runs": "trained_seconds"}
    results = {name: (of[a][column], of[b][column]) for name, column in named.items()}
    heads = [f"{name}  {_states(rows)}" for name, rows in ((a, one), (b, two))]
    return Difference(heads[0], heads[1], settings, results, (_shared(one, two), *_pairs(one, two)))


def _shared(one: Rows, two: Rows) -> str:
    ids = [{row["run_id"] for row in rows} for rows in (one, two)]
    both = text.count(len(ids[0] & ids[1]), "run")
    return f"{both} in both, {len(ids[0] - ids[1])} only in A, {len(ids[1] - ids[0])} only in B"


def _pairs(one: Rows, two: Rows) -> Iterable[str]:
    """The errors of B in those of A, in pairs of runs that differ only in settings of which no value is in both."""
    names = (*SETTING_COLUMNS, *LENGTHS, "seed")
    apart = [name for name in names if not _all(one, name) & _all(two, name)]
    same = [name for name in names if name not in apart]
    of = [_by_design(rows, same) for rows in (one, two)]
    errors = [(of[0][key], of[1][key]) for key in of[0].keys() & of[1].keys()]
    logs = [
        math.log(b["error"] / a["error"])
        for a, b in errors
        if a["run_id"] != b["run_id"] and a["error"] * b["error"]
    ]
    if not logs:
        return
    low, mean, high = (math.exp(value) for value in (min(logs), sum(logs) / len(logs), max(logs)))
    ways = [name for name in apart if name not in LENGTHS] or apart
    pairs = f"{text.count(len(logs), 'pair')} of runs that differ only in {', '.join(ways)}"
    yield f"error of B / error of A: geometric mean {mean:.3g}, from {low:.3g} to {high:.3g}, in {pairs}"


def _by_design(rows: Rows, names: Sequence[str]) -> dict[tuple[str, ...], Mapping[str, Any]]:
    """The finished runs by their values of some settings, of which no other run has the same."""
    keys = [tuple(shown(name, row[name]) for name in names) for row in rows]
    once = {key for key, number in Counter(keys).items() if number == 1}
    pairs = zip(keys, rows, strict=True)
    return {key: row for key, row in pairs if key in once and row["state"] == "done" and row["error"] is not None}


def _all(rows: Rows, name: str) -> set[str]:
    return {shown(name, row[name]) for row in rows}


def _values(values: Sequence[str]) -> str:
    return text.cut(", ".join(value or "none" for value in values), _VALUES)


def _states(rows: Rows) -> str:
    states = Counter(row["state"] for row in rows)
    return ", ".join(f"{states[state]} {state}" for state in STATES if states[state])


def _result(name: str, value: float | None) -> str:
    return text.duration(value) if name.startswith("seconds") and value is not None else shown(name, value)


def _ratio(a: float | None, b: float | None) -> str:
    return f"{b / a:.3g}" if a and b else ""
