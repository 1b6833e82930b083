"""What the columns of a foreign table are: inputs, what was measured, repeats; recognised by their names.

The result has the names of this package (`params`, `examples`, `flops`), by which fits know what competes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from analysis.table import columns
from analysis.table.foreign import names
from analysis.table.foreign.names import INPUTS
from analysis.table.foreign.text import ReadError
from analysis.table.groups import LEAST
from analysis.table.identity import RUNS, SEEDS, STEPS, identified, plain

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class Taken(NamedTuple):
    """A column of the file, and what it became."""

    name: str
    column: str
    how: str = ""

    def __str__(self) -> str:
        same = f"'{self.column}'" if self.name == self.column and not self.how else ""
        return same or f"{self.name} = {self.how or repr(self.column)}"


@dataclass(frozen=True)
class Recognised:
    """A table with the names of this package.

    Attributes:
        frame: one row per run, or per record where only the records show a law; other columns as in the file.
        inputs: the columns in which a law may exist, at least one.
        y: the column that was measured, lower is better.
        taken: the inputs and y: their names here and the columns of the file.
        names: column of the file -> its name here, of all that were renamed.
        notes: what was left out or converted.
        by: the column of runs, where the rows are records of several runs and each has a law of its own.
    """

    frame: pd.DataFrame
    inputs: tuple[str, ...]
    y: str
    taken: tuple[Taken, ...]
    names: dict[str, str]
    notes: tuple[str, ...] = ()
    by: tuple[str, ...] = ()

    def __str__(self) -> str:
        """In a line: `36 rows; params = 'N', examples = 'tokens', 'loss'; 2 of 38 rows left out: ...`."""
        rows = f"{len(self.frame)} {'row' if len(self.frame) == 1 else 'rows'}"
        return "; ".join([rows, ", ".join(map(str, self.taken)), *self.notes])

    def of(self, frame: pd.DataFrame) -> Recognised:
        """The same of a frame with other rows, or more columns."""
        return replace(self, frame=frame)


def recognise(frame: pd.DataFrame, x: str | Sequence[str] = (), y: str = "") -> Recognised:
    """A table whose inputs have the names of this package, with the rows that can be fitted.

    Accuracy becomes error. Rows without a positive input or y are left out and counted. Of records of runs, the
    last one of each is kept where these have a law. Compute that no column counts is 6 N D.

    Args:
        frame: any table, as from `read_table`.
        x: the inputs, columns of the table; `params=SIZE` says what a column is that its name does not tell. By
            default those that their names tell, or the only column of numbers that may be one.
        y: the measured column; by default the one that its name tells: test before validation before others.

    Raises:
        ReadError: there is no such column, or it is not clear which one is meant; a ValueError.
    """
    if twice := sorted({str(name) for name in frame.columns[frame.columns.duplicated()]}):
        raise ReadError(f"column {twice[0]!r} appears twice; rename one")
    measured = _named(frame, y, "y") if y else _measured(frame)
    asked = _asked(frame, [x] if isinstance(x, str) and x else list(x))
    known = asked | {role: name for role, name in _known(frame, measured, asked).items() if role not in asked}
    chosen = asked or ({} if any(_varies(frame[name]) for name in known.values()) else _only(frame, measured))
    table, taken = _renamed(frame, known | chosen)
    table, of_y = _error(table, measured)
    used = [one for one in taken if not (asked or chosen) or one.name in chosen]
    table, left_out = _fitting(table, frame, [*used, of_y])
    table, records, by = _final(table, [one.name for one in used], of_y.name)
    table, derived = _derived(table, [one.name for one in taken])
    inputs = [one.name for one in (*used, *(() if chosen else derived))]
    return Recognised(
        table,
        tuple(name for name in dict.fromkeys((*INPUTS, *inputs)) if name in inputs),
        of_y.name,
        (*used, *(() if chosen else derived), of_y),
        {one.column: one.name for one in (*taken, of_y) if one.column != one.name},
        (*frame.attrs.get("notes", ()), *left_out, *records),
        by,
    )


def _named(frame: pd.DataFrame, name: str, option: str) -> str:
    """The column of a name, in any spelling of it; ReadError if there is none or it holds no numbers."""
    near = [
        str(column) for column in frame.columns if plain(name) in (plain(column), plain(names.bare(str(column))))
    ]
    column = name if name in frame else near[0] if len(near) == 1 else ""
    if not column:
        try:
            columns.require(frame, name)
        except ValueError as error:
            raise ReadError(f"--{option}: {error}") from None
    if not _is_numeric(frame[column]):
        text = next((cell for cell in frame[column] if isinstance(cell, str)), "nothing")
        raise ReadError(f"--{option}: column {column!r} holds {text!r}; expected numbers")
    return column


def _asked(frame: pd.DataFrame, texts: Sequence[str]) -> dict[str, str]:
    """Name here -> column, of inputs that were named."""
    inputs: dict[str, str] = {}
    for text in texts:
        role, equals, name = (part.strip() for part in text.partition("="))
        says_role = bool(equals) and text not in frame
        if says_role and role not in INPUTS:
            raise ReadError(f"--x {text!r}: {role!r} is no input; it is one of {', '.join(INPUTS)}")
        column = _named(frame, name if says_role else text, "x")
        here = role if says_role else next((r for r in INPUTS if names.tier(column, r) is not None), column)
        if here in inputs:
            raise ReadError(f"--x: {inputs[here]!r} and {column!r} are both {here}; name one")
        inputs[here] = column
    return inputs


def _known(frame: pd.DataFrame, y: str, asked: Mapping[str, str]) -> dict[str, str]:
    """Name here -> column, of the inputs that are known by their names. ReadError if one may be two columns."""
    free = [str(name) for name in frame.columns if name not in (y, *asked.values())]
    free = [name for name in free if _is_numeric(frame[name]) and _is_filled(frame[name])]
    inputs: dict[str, str] = {}
    for role in INPUTS:
        for tier in (0, 1):
            found = [name for name in free if names.tier(name, role) == tier]
            found = [
                name for k, name in enumerate(found) if not any(frame[name].equals(frame[b]) for b in found[:k])
            ]
            if len(found) > 1 and not asked:
                raise ReadError(f"{_listed(found)} may be {role}; name one: --x {_typed(found[0])}")
            if found:
                inputs |= {role: found[0]} if len(found) == 1 else {}
                break
    return inputs


def _only(frame: pd.DataFrame, y: str) -> dict[str, str]:
    """The only column that may be an input, though its name does not say so; ReadError if there are several."""
    free = [str(name) for name in frame.columns if name != y and _is_numeric(frame[name])]
    varied = [name for name in free if frame[name].nunique() >= LEAST and (frame[name] > 0).any()]
    others = {*SEEDS, *RUNS, *STEPS}
    found = [name for name in varied if plain(name) not in others and not names.is_other(name)]
    found = found or [name for name in varied if plain(name) in STEPS][:1]
    if len(found) == 1:
        return {found[0]: found[0]}
    what = f"{_listed(found)} may be the input" if found else f"none of the columns {_listed(free)} is an input"
    raise ReadError(f"{what}; name one: --x {_typed(found[0]) if found else 'COLUMN'}")


def _measured(frame: pd.DataFrame) -> str:
    """The column that was measured, by its name."""
    ranks: dict[str, tuple[int, int, bool]] = {}
    for name in map(str, frame.columns):
        kind = names.measure(name)
        if kind is not None and _is_numeric(frame[name]) and frame[name].notna().any():
            ranks[name] = (names.split(name), kind, plain(name) != names.MEASURES[kind])
    if not ranks:
        free = [str(name) for name in frame.columns if _is_numeric(frame[name])]
        what = f"the columns of numbers are {_listed(free)}" if free else "no column holds numbers"
        raise ReadError(f"no column is a loss, an error or an accuracy by its name; {what}: name one, --y COLUMN")
    best = min(ranks.values())
    found = [name for name, rank in ranks.items() if rank == best]
    if len(found) > 1:
        raise ReadError(f"{_listed(found)} may have been measured; name one: --y {_typed(found[0])}")
    return found[0]


def _renamed(frame: pd.DataFrame, inputs: dict[str, str]) -> tuple[pd.DataFrame, list[Taken]]:
    """The table with its inputs under their names here, in the units of their headings; and what was taken."""
    table, taken = frame.copy(), []
    for here, column in inputs.items():
        values, told = frame[column].astype(float), ""
        if here in INPUTS and (factor := names.factor(column)) != 1:
            values, told = values * factor, f"{column!r} x {factor:g}"
        if here != column and here in table:
            table = table.rename(columns={here: f"{here} (column)"})
        table = table.rename(columns={column: here}).assign(**{here: values})
        taken.append(Taken(here, column, told))
    return table, taken


def _error(table: pd.DataFrame, column: str) -> tuple[pd.DataFrame, Taken]:
    """The table with what was measured; accuracy as error, percent as shares."""
    place = names.measure(column)
    kind = "" if place is None else names.MEASURES[place]
    values = table[column].astype(float)
    top = values.max()
    if kind not in ("error", "accuracy") or not (values.min() >= 0 and top <= 100):
        return table.assign(**{column: values}), Taken(column, column)
    percent = top > 1
    shares = values / 100 if percent else values
    told = f"{column!r} / 100" if percent else ""
    if kind == "error":
        return table.assign(**{column: shares}), Taken(column, column, told)
    name = re.sub(r"acc(uracy)?", "error", column, count=1, flags=re.IGNORECASE)
    name = name if name != column and name not in table else f"1 - {column}"
    told = f"1 - {column!r}{' / 100' if percent else ''}"
    return table.rename(columns={column: name}).assign(**{name: 1 - shares}), Taken(name, column, told)


def _fitting(table: pd.DataFrame, given: pd.DataFrame, taken: Sequence[Taken]) -> tuple[pd.DataFrame, list[str]]:
    """The rows with positive inputs and a positive y; a note on each kind of the others, with its first line."""
    keep, notes = np.ones(len(table), dtype=bool), []
    texts = given.attrs.get("texts", {})
    for one in taken:
        values = table[one.name].to_numpy(dtype=float)
        zero = one is taken[-1]  # a y of 0 is for the fit, which tells what it means
        for wrong, why in (
            (~np.isfinite(values), "without a number"),
            ((values < 0) if zero else (values <= 0), "below 0" if zero else "not above 0"),
        ):
            out = wrong & keep
            if not out.any():
                continue
            keep &= ~out
            line = given.index[out][0] if given.index.name == "line" else int(np.flatnonzero(out)[0]) + 1
            text = texts.get(one.column, (None, ""))
            quoted = f", {text[1]!r}" if text[0] == line else ""
            where = f"line {line}" if given.index.name == "line" else f"row {line}"
            notes.append((int(out.sum()), f"{why} in {one.column!r} ({where}{quoted})"))
    counts = ", ".join(f"{count} {why}" for count, why in notes)
    if not keep.any():
        raise ReadError(f"no row can be fitted: {counts}")
    told = counts if len(notes) > 1 else "".join(why for _, why in notes)
    left = [f"{(~keep).sum()} of {len(table)} rows left out: {told}"] if notes else []
    return table[keep], left


def _final(table: pd.DataFrame, inputs: Sequence[str], y: str) -> tuple[pd.DataFrame, list[str], tuple[str, ...]]:
    """The last record of each run where these have values enough for a law; else all rows, and the column of runs.

    With a note on what was done.
    """
    known, _ = identified(table.reset_index(drop=True), (*inputs, y), run=None, cell=None)
    if columns.RUN not in known or not known[columns.RUN].duplicated().any():
        return table, [], ()
    order = known[columns.STEP].to_numpy() if columns.STEP in known else np.arange(len(known))
    last = known.assign(_order=order, _place=np.arange(len(known))).sort_values("_order", kind="stable")
    places = np.sort(last.drop_duplicates(columns.RUN, keep="last")["_place"].to_numpy())
    final = table.iloc[places]
    if not any(final[name].nunique() >= LEAST for name in inputs):
        runs = known[columns.RUN].to_numpy()
        named = [str(name) for name in table.columns if np.array_equal(table[name].to_numpy(), runs)]
        by = tuple(named[:1]) if len(final) > 1 else ()
        return table, [f"records of {len(final)} runs" + (f", one law for each {by[0]!r}" if by else "")], by
    return final, [f"{len(table)} records of {len(final)} runs, of which the last ones are kept"], ()


def _derived(table: pd.DataFrame, inputs: Sequence[str]) -> tuple[pd.DataFrame, list[Taken]]:
    """The table with the third of params, examples and compute where it has two: C = 6 N D."""
    have = [name for name in INPUTS if name in inputs]
    if len(have) != 2:
        return table, []
    if "flops" not in have:
        values, how = 6 * table["params"] * table["examples"], "6 params examples"
    else:
        other = have[0]
        values, how = table["flops"] / (6 * table[other]), f"flops / (6 {other})"
    (name,) = set(INPUTS) - set(have)
    if name in table:
        table = table.rename(columns={name: f"{name} (column)"})
    return table.assign(**{name: values}), [Taken(name, "", how)]


def _is_numeric(column: pd.Series[Any]) -> bool:
    return pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)


def _varies(column: pd.Series[Any]) -> bool:
    values = column.dropna()
    return bool((values != values.iloc[:1].squeeze()).any())


def _is_filled(column: pd.Series[Any]) -> bool:
    return 2 * int(column.notna().sum()) >= len(column)


def _listed(columns: Sequence[str], most: int = 6) -> str:
    shown = ", ".join(repr(name) for name in columns[:most])
    return f"{shown} and {len(columns) - most} more" if len(columns) > most else shown


def _typed(name: str) -> str:
    """A name as it is typed in a shell."""
    return name if re.fullmatch(r"[\w./-]+", name) else f"'{name}'"
