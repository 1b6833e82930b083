"""Populations in a table: the categorical columns that split it, and whether its groups share a law."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import fdtrc

from analysis.numbers import short
from analysis.table.rows import Refusal, hashable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

Array = NDArray[np.float64]

LEAST = 3
"""Fewest distinct values of each input that make rows a population of their own."""
SIZES = ("params", "params_body", "width")
"""Columns of model sizes: sizes compete, so a label with one size for each value names no population."""
STEPS = ("step", "_step", "iteration")
"""Columns that count the records of a run."""
NEVER = {
    *("id", "uuid", "run", "name", "run_name", "display_name", "trial", "search_cell", "parent", "parent_cell"),
    *("sweep", "sweeps", "seed", "state", "status", "reason", "asked", "notes", "comment", "tags", "fingerprint"),
    *("host", "hostname", "machine", "node", "device", "gpu", "engine", "loader"),
    *("path", "file", "filename", "url"),
    *("date", "time", "timestamp", "created", "started", "ended", "user", "commit", "version", "flops_rule"),
}
"""Columns that identify runs or say where and when they were trained, as do those that end in _id, _at, _time."""
APART, DIFFER = 0.01, 0.05
"""Probabilities by chance below which populations are not fitted together, and are said to differ."""
_DRAWS, _FREE = 999, 0.05


def axes(frame: pd.DataFrame, inputs: Sequence[str], taken: Sequence[str] = ()) -> tuple[str, ...]:
    """The categorical columns that split a table into populations, in the order of the table.

    A column of texts or truth values counts if two of its values or more, with half of the rows, have LEAST
    distinct values of every input that varies. Not so identifiers and hosts (`NEVER`), names of sizes (one value
    of a column of SIZES each), names of runs (no step twice), and a column that the others already determine.
    `inputs` are the columns that a law is fitted in; `taken` have another role.
    """
    varied = [name for name in inputs if name in frame and _varies(frame[name])]
    found = [
        str(name)
        for name in frame.columns
        if name not in {*inputs, *taken} and _is_category(frame, name) and _splits(frame, str(name), varied)
    ]
    return determining(frame, found)


def determining(frame: pd.DataFrame, names: Sequence[str]) -> tuple[str, ...]:
    """The first of `names` that split a table into the groups that all of them split it into."""
    found = list(names)
    for name in reversed(names):
        others = [other for other in found if other != name]
        if others and index(frame, others).max() == index(frame, found).max():
            found = others
    return tuple(found)


def index(frame: pd.DataFrame, names: Sequence[str]) -> NDArray[np.intp]:
    """The group of each row, [rows], numbered from 0 in sorted order of the values of `names`."""
    keys = [plain(frame[name]) for name in names]
    return np.asarray(frame.groupby(keys, sort=True, dropna=False, observed=True).ngroup(), dtype=np.intp)


def plain(column: pd.Series) -> pd.Series:
    """A column that can be grouped by: lists as text, "one, two"; see `rows.hashable` for others without a hash."""
    if not pd.api.types.is_object_dtype(column):
        return column
    known = column.map(hashable)
    return known.map(lambda value: ", ".join(map(str, value)) if isinstance(value, tuple) else value)


def split(frame: pd.DataFrame, names: Sequence[str]) -> Iterator[tuple[tuple[object, ...], pd.DataFrame]]:
    """The values of `names` and the rows of each group, in sorted order of the values."""
    yield from frame.groupby([plain(frame[name]) for name in names], sort=True, dropna=False, observed=True)


def label(names: Sequence[str], values: Sequence[object]) -> str:
    """A group in words: `family s-mlp, schedule cosine`."""
    return ", ".join(f"{name} {value}" for name, value in zip(names, values, strict=True))


def listed(frame: pd.DataFrame, name: str, most: int = 5) -> str:
    """A column with its values: `family (b-mlp, s-mlp)`."""
    values = sorted(map(str, frame[name].dropna().unique()))
    more = [f"{len(values) - most} more"] if len(values) > most else []
    return f"{name} ({', '.join([*values[:most], *more])})"


def refusal(tests: Mapping[str, float], *, pool: bool) -> tuple[str, ...]:
    """Why a fit of populations that do not share a law is rejected; empty where they do, or with `pool`.

    `tests` maps each column that splits the table, as `listed`, to its `share_law`. A column counts at 1 %.
    """
    apart = {name: p for name, p in tests.items() if p * len(tests) < APART}
    if pool or not apart:
        return ()
    names = " and ".join(f"{name}, p = {short(p, 1)}" for name, p in apart.items())
    text = f"the rows are of populations that do not share the law, by {names}"
    return (Refusal(f"{text}: fit each (analysis.fit_by, --by), or all together (pool=True, --pool)"),)


def pooled(tests: Mapping[str, float], *, pool: bool) -> tuple[str, ...]:
    """What was found of the populations that `pool` fits together; empty without `pool` or populations."""
    if not pool or not tests:
        return ()
    found = [
        f"{name}: " + ("too few rows to compare their laws" if np.isnan(p) else f"{_words(p)} (p = {short(p, 2)})")
        for name, p in tests.items()
    ]
    return (f"populations are fitted together, by {'; by '.join(found)}",)


def _words(p: float) -> str:
    return "their laws differ" if p < DIFFER else "no difference between their laws is seen"


def share_law(residuals: Array, basis: Array, group: NDArray[np.intp], cluster: NDArray[np.intp]) -> float:
    """The probability of residuals [n] that differ so much between groups if all groups have one law.

    `basis` [P, n] are the derivatives of the law by its parameters, or other functions of the inputs that describe
    it. The F test of a correction of its own for each group against one for all; and the same F of the noise left
    by the former, each divided by what its row leaves free and each cluster with a random sign, which allows for
    shared and for unequal noise: the larger probability of the two. NaN if there are too few rows.
    """
    common = _directions(basis.T)
    own = _directions(np.concatenate([np.where(group == g, basis, 0.0) for g in range(group.max() + 1)]).T)
    spare, extra = residuals.size - own.shape[1], own.shape[1] - common.shape[1]
    if spare < LEAST or extra < 1:
        return np.nan
    signs = np.random.default_rng(0).choice([-1.0, 1.0], size=(_DRAWS, int(cluster.max()) + 1))
    noise = (residuals - own @ (own.T @ residuals)) / np.maximum(1 - np.sum(own**2, axis=1), _FREE)
    drawn = np.concatenate([residuals[None], signs[:, cluster] * noise])
    drawn -= (drawn @ common) @ common.T
    explained, whole = np.sum((drawn @ own) ** 2, axis=1), np.sum(drawn**2, axis=1)
    ratio = (explained / extra) / np.maximum((whole - explained) / spare, 1e-24)
    by_signs = float(np.mean(ratio >= ratio[0] * (1 - 1e-9)))
    return max(float(fdtrc(extra, spare, ratio[0])), by_signs if ratio[0] > 0 else 1.0)


def _directions(columns: Array) -> Array:
    """An orthonormal basis [n, r] of the span of columns [n, k], scaled to one length first."""
    length = np.linalg.norm(columns, axis=0)
    scaled = columns[:, length > 0] / length[length > 0]
    left, singular, _ = np.linalg.svd(scaled, full_matrices=False)
    return np.asarray(left[:, singular > 1e-8 * singular[0]])


def _is_category(frame: pd.DataFrame, name: object) -> bool:
    plain = re.sub(r"[\W_]+", "_", str(name)).strip("_").lower()
    if plain in NEVER or plain.endswith(("_id", "_at", "_time")):
        return False
    if np.sum(frame.columns == name) > 1:
        return False
    column = frame[name]
    if isinstance(column.dtype, pd.CategoricalDtype) or pd.api.types.is_bool_dtype(column):
        return True
    if not (pd.api.types.is_object_dtype(column) or pd.api.types.is_string_dtype(column)):
        return False
    return all(isinstance(value, str | bool | np.bool_) for value in column.dropna())


def _splits(frame: pd.DataFrame, name: str, varied: Sequence[str]) -> bool:
    """Whether the values of a column are populations."""
    group = index(frame, [name])
    count = np.bincount(group)
    if not varied or not 2 <= count.size <= len(frame) // LEAST:
        return False
    distinct = np.min([frame[x].groupby(group).nunique().to_numpy() for x in varied], axis=0)
    whole = distinct >= LEAST
    if whole.sum() < 2 or count[whole].sum() < len(frame) / 2:
        return False
    return not (_names_sizes(frame, group) or _names_runs(frame, group))


def _varies(column: pd.Series) -> bool:
    return len(column) > 0 and bool((column != column.iloc[0]).any())


def _names_sizes(frame: pd.DataFrame, group: NDArray[np.intp]) -> bool:
    sizes = [frame[name] for name in SIZES if name in frame and _varies(frame[name])]
    return any(size.groupby(group).nunique().max() <= 1 for size in sizes)


def _names_runs(frame: pd.DataFrame, group: NDArray[np.intp]) -> bool:
    steps = [frame[name] for name in frame.columns if str(name).lower() in STEPS and frame[name].nunique() >= LEAST]
    return any(not pd.DataFrame({"group": group, "step": step}).duplicated().any() for step in steps)
