"""One law for each population of a table, and whether the populations share their exponents."""

from __future__ import annotations

import html
import inspect
import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy.special import chdtrc

from analysis.fits.quantity import Quantity
from analysis.fits.summary import Summary, as_json, shown
from analysis.numbers import short
from analysis.solver import quantiles
from analysis.solver.fitting import FitError
from analysis.table import columns, groups

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_INPUTS, _OTHERS = ("x", "n", "d", "u"), ("y", "sd", "weights", "by", "budget", "flops", "run", "cell")
_MOST_PAIRS = 4
SIGNIFICANT = 0.05
"""Exponents that differ so much by chance less often than this are told apart."""


@dataclass(frozen=True, eq=False)
class GroupFits(Summary):
    """What a fit, or another function of a table, returned for each group.

    Attributes:
        columns: that name a group.
        rows: group -> number of its rows, all groups; a group is a tuple of values, one for each column.
        results: group -> what the function returned.
        why_not: group -> why it has no answer.
        exponents: name of an exponent -> probability of differences as large as these if all groups share it (a
            chi-square test of the logarithms, with the widths of the intervals); NaN with fewer than two groups.
        apart: name of an exponent -> pairs of groups that are told apart at 5 %, all pairs together.
    """

    columns: tuple[str, ...]
    rows: dict[tuple[Any, ...], int]
    results: dict[tuple[Any, ...], Any] = field(repr=False)
    why_not: dict[tuple[Any, ...], str]
    exponents: dict[str, float]
    apart: dict[str, tuple[tuple[tuple[Any, ...], tuple[Any, ...]], ...]]

    @property
    def warnings(self) -> tuple[str, ...]:  # type: ignore[override]  # computed, not stored
        """A sentence for every exponent that the groups were tested for."""
        return tuple(self._sentence(name) for name, p in self.exponents.items() if np.isfinite(p))

    def __getitem__(self, value: Any) -> Any:
        """The result of a group: its value, or the tuple of its values.

        Raises:
            KeyError: there is no such group, or it has no answer; the message says why.
        """
        key = value if isinstance(value, tuple) else (value,)
        if key in self.results:
            return self.results[key]
        names = ", ".join(groups.label(self.columns, group) for group in self.rows)
        raise KeyError(self.why_not.get(key) or f"no group {shown(value)}; the groups are {names}")

    def summary(self) -> str:
        """A paragraph for each group, then the tests of the exponents."""
        parts = []
        for group, count in self.rows.items():
            text = self.results[group].summary() if group in self.results else f"no answer: {self.why_not[group]}"
            head = groups.label(self.columns, group) or "all rows"
            parts.append("\n".join([f"{head} ({count} rows)", *(f"  {line}" for line in text.splitlines())]))
        return "\n\n".join([*parts, *(["\n".join(self.warnings)] if self.warnings else [])])

    def to_dict(self) -> dict[str, Any]:
        """As JSON can hold it: `groups` is a list with `values`, `rows`, and `result` or `why_not`."""
        entries = [
            {
                "values": dict(zip(self.columns, map(str, group), strict=True)),
                "rows": count,
                "result": as_json(self.results.get(group)),
                "why_not": self.why_not.get(group, ""),
            }
            for group, count in self.rows.items()
        ]
        return {"columns": list(self.columns), "groups": entries, "exponents": as_json(self.exponents)}

    def _repr_html_(self) -> str:
        """A heading and the notebook form of each result."""
        parts = []
        for group, count in self.rows.items():
            parts.append(f"<h4>{html.escape(groups.label(self.columns, group) or 'all rows')} ({count} rows)</h4>")
            result = self.results.get(group)
            show = getattr(result, "_repr_html_", None)
            parts.append(show() if show else f"<p>{html.escape(self.why_not.get(group, str(result)))}</p>")
        return "".join([*parts, *(f"<p>{html.escape(text)}</p>" for text in self.warnings)])

    def _sentence(self, name: str) -> str:
        p, pairs = self.exponents[name], self.apart[name]
        if p >= SIGNIFICANT:
            return f"no difference between the groups in {name} is seen (p = {short(p, 2)})"
        told = [
            f"{groups.label(self.columns, a)} and {groups.label(self.columns, b)}" for a, b in pairs[:_MOST_PAIRS]
        ]
        told += [f"{len(pairs) - _MOST_PAIRS} more pairs"] if len(pairs) > _MOST_PAIRS else []
        return f"the groups do not share {name} (p = {short(p, 2)})" + (
            f": apart are {'; '.join(told)}" if told else ""
        )


def fit_by(
    fit: Callable[..., Any],
    frame: pd.DataFrame | Mapping[str, Any],
    groups: str | Sequence[str] | None = None,
    **options: Any,
) -> GroupFits:
    """Apply a fit to each group of a table.

    Args:
        fit: `fit_law`, `fit_surface`, `fit_isoflop`, `verdict`, or any function of a frame.
        frame: one row a point.
        groups: the columns that name a group. Default: the columns of texts or truth values that split the table
            into populations (`analysis.table.groups.axes`); without any, all rows are one group.
        **options: passed to `fit`.

    Returns:
        Its result for each group, or the reason why a group has none.

    Raises:
        ValueError: a column is missing; or an option is not valid, in every group.
        TypeError: `fit` has no such option.
    """
    table = frame if isinstance(frame, pd.DataFrame) else pd.DataFrame(dict(frame))
    names = _columns(fit, table, groups, options)
    parts = _split(table, names)
    results: dict[tuple[Any, ...], Any] = {}
    why_not: dict[tuple[Any, ...], str] = {}
    for group, rows in parts.items():
        try:
            results[group] = fit(rows, **options)
        except (FitError, ValueError) as error:
            why_not[group] = str(error)
    if parts and not results and len(set(why_not.values())) == 1:
        raise ValueError(next(iter(why_not.values())))
    tests = share_exponents(results)
    return GroupFits(
        columns=names,
        rows={group: len(rows) for group, rows in parts.items()},
        results=results,
        why_not=why_not,
        exponents={name: p for name, (p, _) in tests.items()},
        apart={name: pairs for name, (_, pairs) in tests.items()},
    )


def share_exponents(
    results: Mapping[Any, Any],
) -> dict[str, tuple[float, tuple[tuple[Any, Any], ...]]]:
    """Name of each exponent -> the probability of such differences if it is shared, and the pairs told apart.

    Cochran's Q: the squared differences of the logarithms from their weighted mean, over the variances that the
    widths of the intervals stand for. A pair is told apart at 5 % divided by the number of pairs. Results whose
    exponent is not identified, or without an interval, are left out.
    """
    found: dict[str, dict[Any, tuple[float, float]]] = {}
    for group, result in results.items():
        for name, (value, level) in _exponents(result).items():
            width = np.log(value.high / value.low) if value.low > 0 else np.nan
            if np.isfinite(width) and width > 0:
                found.setdefault(name, {})[group] = (np.log(value.value), width / 2 / quantiles.gauss(level))
    tests = {}
    for name, values in found.items():
        logs, sd = np.array(list(values.values())).T
        if logs.size < 2:
            continue
        mean = np.average(logs, weights=sd**-2.0)
        p = float(chdtrc(logs.size - 1, np.sum(((logs - mean) / sd) ** 2)))
        pairs = list(itertools.combinations(range(logs.size), 2))
        keys = list(values)
        apart = tuple(
            (keys[a], keys[b])
            for a, b in pairs
            if chdtrc(1, (logs[a] - logs[b]) ** 2 / (sd[a] ** 2 + sd[b] ** 2)) * len(pairs) < SIGNIFICANT
        )
        tests[name] = (p, apart)
    return tests


def _exponents(result: Any) -> dict[str, tuple[Quantity, float]]:
    """The exponents of a fit, of a verdict's fit or of isoFLOP minima, each with the level of its interval."""
    fit = getattr(result, "fit", result)
    if not getattr(fit, "supported", False):
        return {}
    if hasattr(fit, "law") and hasattr(fit, "intervals"):
        named = {
            name: Quantity(
                fit.estimates[name], fit.intervals[name][0], fit.intervals[name][1], fit.replicates[name]
            )
            for name in fit.law.exponents
        }
    else:
        named = {
            name: value
            for name in ("n_exponent", "d_exponent")
            if isinstance(value := getattr(fit, name, None), Quantity)
        }
    return {name: (value, fit.level) for name, value in named.items()}


def _columns(
    fit: Callable[..., Any], table: pd.DataFrame, by: str | Sequence[str] | None, options: Mapping[str, Any]
) -> tuple[str, ...]:
    """The columns that name a group: those given, or those that split the table."""
    if by is not None:
        names = (by,) if isinstance(by, str) else tuple(by)
        for name in names:
            columns.require(table, name)
        return names
    defaults = {name: one.default for name, one in inspect.signature(fit).parameters.items()}
    given = {**defaults, **options}
    inputs, taken = (_names(given, roles) for roles in (_INPUTS, _OTHERS))
    return groups.axes(table, inputs, taken)


def _names(given: Mapping[str, Any], roles: Sequence[str]) -> list[str]:
    values = [given.get(role) for role in roles]
    flat = [
        [value] if isinstance(value, str) else value for value in values if isinstance(value, str | tuple | list)
    ]
    return [name for names in flat for name in names if isinstance(name, str)]


def _split(table: pd.DataFrame, names: tuple[str, ...]) -> dict[tuple[Any, ...], pd.DataFrame]:
    return dict(groups.split(table, names)) if names else {(): table}
