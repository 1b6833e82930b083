"""Which rows belong to one run, and which runs repeat one design, where a table does not say so by our names.

The rows of a history share the seed, the data and the noise of their run: resampled one by one, nominal 95 %
intervals of planted surfaces covered the truth in 8 to 75 % of the tables. A history is known by its structure,
steps that differ within rows of one name or one design, and by what trackers call their columns.
"""

from __future__ import annotations

import re
from functools import cache
from itertools import chain
from typing import TYPE_CHECKING, Any

import pandas as pd

from analysis.table import columns

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pandas.core.groupby import SeriesGroupBy

RUNS = (
    *("runid", "run", "runname", "name", "displayname", "uid", "uuid", "trialid", "trialname", "trial"),
    *("trialnumber", "experimentid", "experimentname", "experiment", "expid", "expname", "exp", "jobid", "job"),
    "id",
)
STEPS = (
    *("step", "globalstep", "trainstep", "trainerglobalstep", "optimizerstep", "iteration", "iter"),
    *("trainingiteration", "epoch", "update", "numupdates"),
)
SEEDS = ("seed", "randomseed", "rngseed", "replicate", "replica", "repeat", "rep")
"""Names of runs, of moments of a run and of repeats, without capitals, blanks and punctuation."""
CLOCK = re.compile(r"token|example|sample|flop|compute|image|seen|epoch|^[dc]$")
"""Inputs that grow while a run trains. Params do not."""
OUTCOME = re.compile(
    r"loss|error|acc|perplexity|ppl|bpb|bpc|score|auc|second|runtime|hours|timestamp|^date|created|gradnorm|memory"
    r"|mfu|throughput|persec|^host|^gpu|^node|^attempt|^state$|^status$|^sweeps?$|^device$"
)
"""Columns that are measured or noted: runs that repeat each other may differ in them."""


def identified(
    table: pd.DataFrame, names: Sequence[str], *, run: str | None, cell: str | None
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """The table with `run_id` (and `step`) and `cell_id` where they are given or found, and notes on what is open.

    `names` are the inputs and, last, what was measured.

    Raises:
        ValueError: there is no column `run` or `cell`.
    """
    notes: tuple[str, ...] = ()
    if run is None and columns.RUN not in table:
        history = _history(table, names)
        key = history or _names(table, names)
        table = _with_runs(table, key) if key else table
        notes = (_why(history),) if history else () if key else _unclear(table, names)
    elif run is not None:
        columns.require(table, run)
        table = _with_runs(table, [run])
    if cell is not None:
        columns.require(table, cell)
        table = table.assign(**{columns.CELL: table[cell]})
    elif columns.CELL not in table:
        table, open_cells = _with_cells(table, names)
        notes += open_cells
    return table, notes


def _why(key: list[str]) -> str:
    by = ", ".join(map(repr, key))
    return f"rows that agree in {by} are taken as records of one run; if each is a run that ended, say by='row'"


def _with_runs(table: pd.DataFrame, key: list[str]) -> pd.DataFrame:
    """The table with `run_id`, and `step` where a column is one."""
    run = table[key[0]] if len(key) == 1 else _number(table, key)
    step = next(iter(_called(table, STEPS)), None)
    moment = {} if step is None or columns.STEP in table else {columns.STEP: table[step]}
    return table.assign(**{columns.RUN: run, **moment})


def _history(table: pd.DataFrame, names: Sequence[str]) -> list[str]:
    """The columns that name the run of each record, or none.

    With a step, they are a column of runs, all that was chosen, a column of text, or the inputs that a run keeps:
    the first within which no step is twice. Without one, a column of runs in whose rows an input grows.
    """
    runs, texts = _called(table, RUNS), [name for name in _unique(table) if _is_text(table[name])]
    for step in _called(table, STEPS):
        chosen = [name for name in _unique(table) if name not in (step, names[-1]) and not _grows(name)]
        chosen = [name for name in chosen if name in names or not OUTCOME.search(plain(name))]
        kept = [name for name in names[:-1] if name != step and not CLOCK.search(plain(name))]
        for key in ([name] for name in runs):
            if _are_records(table, key, step, names[-1]):
                return key
        if any(table[name].is_unique for name in runs):
            return []
        for key in (chosen, *([name] for name in texts), kept):
            if key and _are_records(table, key, step, names[-1]):
                return key
    for name in runs:
        clock = _clock(table, name, names)
        if clock and (_is_text(table[name]) or len(names) > 2):
            return [name]
    return []


def _are_records(table: pd.DataFrame, key: list[str], step: str, y: str) -> bool:
    """Whether rows of one key are moments of one run: several, each at a step of its own, and y changes."""
    rows = table.drop_duplicates(list(dict.fromkeys([*key, step, y])))
    again = rows.duplicated(key, keep=False)
    if not again.any() or rows.duplicated([*key, step]).any():
        return False
    return bool(_vary(rows[again].groupby(key, dropna=False)[y]).any())


def _clock(table: pd.DataFrame, name: str, names: Sequence[str]) -> str:
    """The input that grows from row to row of each value of a column that has several, the others being fixed."""
    inputs, y = list(names[:-1]), names[-1]
    if name in names or len(table[name].unique()) < 2:
        return ""
    rows = table.drop_duplicates([name, *inputs, y])
    groups = rows[rows.duplicated(name, keep=False)].groupby(name, sort=False, dropna=False)
    for clock in inputs:
        others = [other for other in inputs if other != clock]
        if not len(groups) or not CLOCK.search(plain(clock)) or not groups[clock].agg(_is_rising).all():
            continue
        if not any(_vary(groups[other]).any() for other in others) and _vary(groups[y]).any():
            return clock
    return ""


def _vary(groups: SeriesGroupBy[Any, Any]) -> pd.Series[bool]:
    """Whether each group has several values."""
    return groups.nunique().gt(1)


def _is_rising(values: pd.Series) -> bool:
    return bool((values.diff().iloc[1:] > 0).all())


def _names(table: pd.DataFrame, names: Sequence[str]) -> list[str]:
    """The column that names runs, one row a run or copies of it, or none."""
    for name in _called(table, RUNS):
        if name not in names and not table.drop_duplicates([name, *names]).duplicated(name).any():
            return [name]
    return []


def _unclear(table: pd.DataFrame, names: Sequence[str]) -> tuple[str, ...]:
    """A note where rows may be records of one run and the table does not say of which."""
    steps = [name for name in _called(table, STEPS) if len(table[name].unique()) > 1]
    steps = [name for name in steps if name not in names or table[name].duplicated().any()]
    if steps:
        return (f"several {steps[0]!r} and no 'run_id': records of one run are resampled as if independent",)
    for name in (name for name in _unique(table) if _is_text(table[name]) or plain(name) in RUNS):
        clock = _clock(table, name, names)
        if clock and table[name].value_counts().max() > 2:
            return (f"{clock} rises within each {name!r}: if those are records of one run, say run={name!r}",)
    return ()


def _with_cells(table: pd.DataFrame, names: Sequence[str]) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """The table with `cell_id` if it has runs that differ in nothing that was chosen but their seed.

    Without a column of seeds that needs two inputs: rows of one size may differ in examples that are not listed.
    A note, where runs of equal inputs and several seeds differ in more, or have the same seed.
    """
    records = columns.RUN in table and table[columns.RUN].duplicated().any()
    seeds = [name for name in _called(table, (*SEEDS, *RUNS)) if name not in names and name != columns.RUN]
    seeds = [name for name in seeds if not _is_text(table[name]) and len(table[name].unique()) > 1]
    if not seeds and len(names) < 3:
        return table, ()
    named = [columns.RUN, columns.STEP, *seeds, *_called(table, (*RUNS, *STEPS))]
    key = [name for name in _unique(table) if name not in (*named, names[-1])]
    key = [name for name in key if name in names or not OUTCOME.search(plain(name))]
    key = [name for name in key if not (records and _grows(name))]
    key = [name for name in key if not (_is_text(table[name]) and table[name].is_unique)]
    key = [name for name in key if (table[name] != table[name].iloc[0]).any()]
    if not key:
        return table, ()
    number = _number(table, key)
    moments = [table[name] for name in (columns.STEP,) if records and name in table]
    each = pd.concat([number.rename("cell"), *(table[name] for name in seeds), *moments], axis=1)
    repeats = each.drop(columns=seeds).duplicated().any()
    if repeats and not (seeds and each.duplicated().any()):
        return table.assign(**{columns.CELL: number}), ()
    inputs = list(names[:-1])
    if records or not seeds or plain(seeds[0]) not in SEEDS or not inputs:
        return table, ()
    if not _vary(table.groupby(inputs, dropna=False)[seeds[0]]).any():
        return table, ()
    same = f"runs of equal {', '.join(map(repr, inputs))} and several {seeds[0]!r}"
    return table, (
        f"{same} are not taken as repeats, as more may differ: name the column of their cells, cell=...",
    )


def _number(table: pd.DataFrame, key: list[str]) -> pd.Series:
    return table.groupby(key, sort=False, dropna=False).ngroup()


def _grows(name: object) -> bool:
    return plain(name) in STEPS or bool(CLOCK.search(plain(name)))


def _called(table: pd.DataFrame, names: Iterable[str]) -> list[str]:
    """The columns with one of these names, in the order of the names."""
    of: dict[str, list[str]] = {}
    for column in _unique(table):
        of.setdefault(plain(column), []).append(column)
    return list(chain.from_iterable(of.get(name, ()) for name in names))


def _unique(table: pd.DataFrame) -> list[str]:
    return list(table.columns[~table.columns.duplicated(keep=False)])


def _is_text(values: pd.Series) -> bool:
    return not pd.api.types.is_numeric_dtype(values)


@cache
def plain(name: object) -> str:
    """A column's name without capitals, blanks and punctuation: "Run ID" is "runid"."""
    return re.sub(r"[^a-z0-9]", "", str(name).lower())
