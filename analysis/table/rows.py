"""Which rows of a table are measurements: those of finished runs, each once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from analysis.table import columns
from analysis.table.identity import identified

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

STATES = ("state", "status")
"""Names, in lower case, of the column that says how a run ended."""
DONE = ("done", "finished", "complete", "completed")
OTHERS = (
    *("queued", "running", "diverged", "pruned", "failed", "cancelled", "blocked", "crashed", "killed", "fail"),
    *("waiting", "pending", "scheduled", "preempted", "preempting"),
)
"""States of runs, in lower case, here and in common trackers; a column without any of them is not about runs."""

_FEW, _DIGITS = 5, 8
"""Repeats that their deviation is taken from, and digits behind the point that are looked at."""


FEW_ZEROS = 0.05
"""Share of rows whose y is 0 up to which they are left out with a note; more forbid a claim."""


class Refusal(str):
    """A note on the rows of a table that forbids claims from them."""

    __slots__ = ()


def refusals(notes: Iterable[str]) -> tuple[Refusal, ...]:
    """The notes that forbid claims."""
    return tuple(note for note in notes if isinstance(note, Refusal))


class Rows(NamedTuple):
    """The measurements of a table, the number of rows without a finite y, and notes on what was left out."""

    table: pd.DataFrame
    dropped: int
    notes: tuple[str, ...]


def measured(
    frame: pd.DataFrame | Mapping[str, Any],
    names: Sequence[str],
    *,
    positive: bool = True,
    run: str | None = None,
    cell: str | None = None,
) -> Rows:
    """The rows of `frame` that can be fitted, `names` as finite floats (see `columns.check`), the index renumbered.

    Rows of runs that are not done are left out, and so are rows without a finite y, the last of `names`, and (with
    `positive`) rows whose y is 0: of more than FEW_ZEROS of them the note is a Refusal. A row that
    is there twice is kept once: of one run (and step) with equal `names`, or, where the runs have no names, equal
    in every column. The table has `run_id` where rows are known to belong to a run and `cell_id` where they are
    known to repeat each other: its own, the columns `run` and `cell`, or as its structure shows (`identity.py`).

    Raises:
        ValueError: as for `columns.check`, there is no column `run` or `cell`, no run is done, or no y is finite.
    """
    given = as_frame(frame)
    done, waiting = of_state(given, ("done",))
    above, zeros = _above_zero(done, names[-1]) if positive else (done, ())
    clean, dropped = columns.check(above, names, positive=positive)
    if clean.empty:
        raise ValueError(f"no row has a finite {names[-1]!r}, of {len(given)} rows; choose another column or rows")
    known, found = identified(clean, names, run=run, cell=cell)
    single, copies = _single(known, names)
    return Rows(
        single.reset_index(drop=True), dropped, (*waiting, *zeros, *copies, *found, *_records(single, names[-1]))
    )


def as_frame(frame: pd.DataFrame | Mapping[str, Any]) -> pd.DataFrame:
    """`frame` as a DataFrame whose index is renumbered, whose objects can be compared: see `hashable`."""
    table = frame.reset_index(drop=True) if isinstance(frame, pd.DataFrame) else pd.DataFrame(dict(frame))
    for name in table.columns[(table.dtypes == "object") & ~table.columns.duplicated(keep=False)]:
        values = [hashable(value) for value in table[name]]
        if any(new is not old for new, old in zip(values, table[name], strict=True)):
            table = table.assign(**{str(name): pd.Series(values, index=table.index, dtype="object")})
    return table


def hashable(value: Any) -> Any:
    """The value itself if it has a hash, which comparing needs; a tuple for a list or array; others as text."""
    try:
        hash(value)
    except TypeError:
        return hashable(tuple(value)) if isinstance(value, list | np.ndarray) else str(value)
    return value


def of_state(frame: pd.DataFrame, states: Sequence[str]) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """The rows of runs in one of the states, "done" for those that finished, and a note on the others.

    All rows, if no column says how runs ended.

    Raises:
        ValueError: no run is in any of the states.
    """
    state = run_states(frame)
    if state is None or state.isin(states).all():
        return frame, ()
    kept = state.isin(states)
    counts = ", ".join(f"{word} {count}" for word, count in state[~kept].value_counts().items())
    if not kept.any():
        raise ValueError(f"no run is {' or '.join(states)} ({counts}); a fit needs finished runs")
    which = f"{(~kept).sum()} of {len(frame)} rows are of runs that are not {' or '.join(states)}"
    return frame[kept].reset_index(drop=True), (f"{which} ({counts}): left out",)


def run_states(frame: pd.DataFrame) -> pd.Series | None:
    """The state of each run in lower case, "done" if it finished; None where no column is about runs."""
    for name in frame.columns:
        if str(name).lower() not in STATES or not isinstance(frame[name], pd.Series):
            continue
        words = frame[name].astype("string").str.strip().str.lower()
        if words.isin([*DONE, *OTHERS]).any():
            return words.mask(words.isin(DONE), "done").fillna("without a state")
    return None


def _above_zero(frame: pd.DataFrame, y: str) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """The rows whose y is not 0, and a note on the others.

    Raises:
        ValueError: y is 0 in every row.
    """
    if np.sum(frame.columns == y) != 1 or not pd.api.types.is_numeric_dtype(frame[y]):
        return frame, ()
    zero = (frame[y] == 0).fillna(value=False).to_numpy(dtype=bool)
    count = int(zero.sum())
    if not count:
        return frame, ()
    where = f"{y} is 0 in {count} of {len(frame)} rows"
    instead = "fit another measure of the runs" + (
        "" if y == "loss" else ", such as the loss: y='loss', or --y loss"
    )
    if count == len(frame):
        raise ValueError(f"{where}, and 0 has no logarithm; {instead}")
    saturated = f"{where}: it has saturated, and the other rows alone do not show its law; {instead}"
    many = count > max(1, FEW_ZEROS * len(frame))
    note = (
        Refusal(saturated)
        if many
        else f"{where} ({columns.which(frame, zero)}), which has no logarithm: left out; {instead}"
    )
    return frame[~zero].reset_index(drop=True), (note,)


def _records(table: pd.DataFrame, y: str) -> tuple[str, ...]:
    """A note if some runs have several rows."""
    if columns.RUN not in table or not table[columns.RUN].duplicated().any():
        return ()
    runs = table[columns.RUN].nunique(dropna=False)
    of = f"the rows are records of {runs} {'run' if runs == 1 else 'runs'}"
    return (f"{of}, taken while they trained: a law of the final {y} needs the last record of each run",)


def _single(table: pd.DataFrame, names: Sequence[str]) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Every row once, and a note on the copies."""
    runs = columns.RUN in table
    keys = [columns.RUN, *([columns.STEP] if columns.STEP in table else []), *names] if runs else None
    copies = table.duplicated(subset=None if keys is None else list(dict.fromkeys(keys)))
    if not copies.any():
        return table, ()
    what = f"{copies.sum()} of {len(table)} rows"
    if runs:
        return table[~copies], (
            f"{what} repeat a run that has a row already (a run of two sweeps, say): counted once",
        )
    if _are_rounded(table, names[-1]):
        return table, (f"{what} are equal in every column, as often as rounding makes runs equal: kept",)
    keep = "to keep runs of equal numbers, tell them apart by a column such as 'seed'"
    return table[~copies], (f"{what} are duplicates, equal in every column: counted once; {keep}",)


def _are_rounded(table: pd.DataFrame, y: str) -> bool:
    """Whether rows are equal in every column as often as repeats are whose y is rounded.

    Of repeats with deviation s, rounded to steps of q, a share of q / (2 sqrt(pi) s) of the pairs is equal. Where
    the counts of all rows have a common divisor, the table was exported several times.
    """
    if table.columns.has_duplicates:
        return False
    counts = table.groupby(list(table.columns), dropna=False).size().to_numpy()
    design = table.groupby([name for name in table.columns if name != y], dropna=False)[y]
    runs, spare = design.transform("size").to_numpy(), len(table) - design.ngroups
    spread = (table[y] - design.transform("mean")).to_numpy()
    if np.gcd.reduce(counts) > 1 or spare < _FEW or not np.any(spread):
        return False
    step = next((10.0**-k for k in range(_DIGITS) if np.allclose(table[y].round(k), table[y], 1e-12, 0)), 0.0)
    deviation = np.sqrt(max(np.sum(spread**2) / spare - step**2 / 12, step**2 / 12))
    expected = np.sum(runs - 1) / 2 * min(step / (2 * np.sqrt(np.pi) * deviation), 1.0)
    return bool(np.sum(counts * (counts - 1)) / 2 <= expected + 3 * np.sqrt(expected))
