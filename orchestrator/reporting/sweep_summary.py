"""Where a sweep stands, in a few lines: runs, failures, cost, best run, laws, and what to do next."""

from __future__ import annotations

import shlex
from collections import Counter
from textwrap import wrap
from typing import TYPE_CHECKING, Any

from orchestrator import text
from orchestrator.store.engine import name_of
from orchestrator.store.schema import DONE, FAILED, STATES
from trainer.host.installation import command

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from orchestrator.store.table import Table

_LEFT = 10
_REASONS, _GROUPS = 3, 2
"""Most reasons of failures, and most groups of runs, that are printed."""


def sweep_summary(table: Table, sweep: str, store: str, *, laws: bool, width: int = 80) -> str:
    """Return where a sweep stands, in lines of at most `width` characters.

    Its laws are fitted if asked, which takes a second or more. `store` is the table as a command names it.
    """
    (row,) = [row for row in table.sweeps() if row["sweep"] == sweep]
    entries = [*_state(table, row), *_laws(table, sweep, store, fit=laws), ("results", name_of(store))]
    entries += [("next", line) for line in _next(row, store)]
    heads = [name if i == 0 or entries[i - 1][0] != name else "" for i, (name, _) in enumerate(entries)]
    lines = [line for head, (_, value) in zip(heads, entries, strict=True) for line in _wrapped(head, value, width)]
    states = ", ".join(f"{row[state]} {state}" for state in STATES if row[state])
    return "\n".join([f"{sweep}: {states}", *lines])


def _wrapped(head: str, value: str, width: int) -> list[str]:
    indent = _LEFT + len(value) - len(value.lstrip())
    return wrap(value.strip(), width, initial_indent=f"{head:<{indent}}", subsequent_indent=" " * (indent + 2))


def _state(table: Table, row: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    failures = table.failures(row["sweep"])
    reasons = Counter(run["reason"] for run in failures).most_common()
    for reason, number in reasons[:_REASONS]:
        first = next(run for run in failures if run["reason"] == reason)
        yield "failed", f"{text.count(number, 'run')}, as {first['model']} ({first['run_id'][:8]}): {reason}"
    if len(reasons) > _REASONS:
        yield "failed", f"and for {text.count(len(reasons) - _REASONS, 'more reason')}"
    trained = f"{text.duration(row['trained_seconds'])} summed over runs"
    yield "cost", f"{text.flops(row['flops'] or 0)} FLOPs; {text.duration(row['seconds'])} elapsed, {trained}"
    if row["best_error"] is not None:
        best = min(
            (run for run in table.listed(row["sweep"], [DONE]) if run["error"] is not None),
            key=lambda run: run["error"],
        )
        which = f"{best['model']}, {best['dataset_size']} examples, lr {best['lr']:g}, seed {best['seed']}"
        yield "best", f"error {best['error']:.4g}: {which} ({best['run_id'][:8]})"


def _laws(table: Table, sweep: str, store: str, *, fit: bool) -> Iterator[tuple[str, str]]:
    """The law against each axis with its first objection, or the command that fits it."""
    if not table.counts(sweep).get(DONE):
        return
    if not fit:
        yield "laws", f"`{command(f'status {sweep}{_option(store)}')}` fits them"
        return
    from orchestrator.reporting.figures import Findings
    from orchestrator.reporting.laws import at_stage, calibration

    frame = table.frame("runs", sweep)
    groups = Findings(at_stage(frame, frame["stage"].iloc[0])).groups()
    for group in groups[:_GROUPS]:
        if group.label:
            yield "laws", f"{group.label}:"
        for law in group.laws:
            yield from (("laws", line) for line in _law(law.summary()))
        if (calibrated := calibration(group.frame, group.laws)) is not None:
            yield "laws", str(calibrated)
    if len(groups) > _GROUPS:
        more = text.count(len(groups) - _GROUPS, "more group")
        yield "laws", f"{more} of runs: `{command(f'fit {sweep}{_option(store)}')}`"


def _law(summary: str) -> Iterator[str]:
    """The lines of a fit's summary that say what it is, and the first thing that stands against it."""
    head, *lines = summary.splitlines()
    exponent = [line.strip() for line in lines if line.startswith("  exponent ")]
    yield f"{head}: {exponent[0]}" if exponent else head
    objections = [line.strip() for line in lines if line.strip().startswith(("because ", "caution: "))]
    if objections:
        more = f" (and {len(objections) - 1} more)" if len(objections) > 1 else ""
        yield f"  {objections[0].partition('; ')[0]}{more}"


def _next(row: Mapping[str, Any], store: str) -> Iterator[str]:
    option = _option(store)
    if row[FAILED]:
        yield f"`{command(f'show RUN{option}')}` shows a failure; `run FILE --retry-failed` tries again"
    if row[DONE]:
        report = command(f"report {row['sweep']}{option}")
        yield f"`{report}` writes the page report.html: figures, laws, cost"


def _option(store: str) -> str:
    if store == "isoflop.db":
        return ""
    return f" --store {'URL' if '://' in store else shlex.quote(store)}"
