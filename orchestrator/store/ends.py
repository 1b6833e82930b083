"""How attempts end: what a worker's last words come to in the rows of a run and of its attempt."""

from __future__ import annotations

import datetime as dt
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from orchestrator.store.schema import (
    DIVERGED,
    DONE,
    MOVES,
    PRUNED,
    QUEUED,
    RESULT_COLUMNS,
    RUNNING,
    records,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from trainer.result import RunResult

CANCELLED_BY_HAND = "cancelled by hand"

KEPT = (DONE, DIVERGED, PRUNED)
"""States whose runs are data: they keep metrics and records."""


@dataclass(frozen=True)
class End:
    """How an attempt ended (`outcome`), and the state of its run after it.

    What was spent is taken from `result` or, if the worker died before it had one, from the last record. `used`
    holds further columns of the attempt: peak_memory, energy, gpu_seconds.
    """

    run_id: str
    attempt: int
    state: str
    outcome: str
    reason: str | None = None
    exception: str | None = None
    traceback: str | None = None
    result: RunResult | None = None
    used: Mapping[str, Any] = field(default_factory=dict)


def last_records(connection: sa.Connection, run_ids: Sequence[str]) -> dict[str, tuple[Any, Any]]:
    """The last record of runs that have any, and the last with an error (else that with none), by run_id."""
    if not run_ids:
        return {}
    query = sa.select(records).where(records.c.run_id.in_(run_ids)).order_by(records.c.step)
    last: dict[str, tuple[Any, Any]] = {}
    for row in connection.execute(query):
        evaluated = row if row.error is not None or row.run_id not in last else last[row.run_id][1]
        last[row.run_id] = row, evaluated
    return last


def rows_of(end: End, begun: Any, last: Any, evaluated: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Rows of the run and of its attempt. What was spent is counted from the attempt's first step."""
    step, flops, seconds = (0, 0, 0.0) if last is None else (last.step, last.flops, last.seconds)
    if end.result is not None:
        step, flops, seconds = end.result.steps, end.result.flops, end.result.seconds
    own = step >= begun.resumed_step
    spent = {
        "flops": flops - begun.resumed_flops if own else 0,
        "seconds": seconds - begun.resumed_seconds if own else 0.0,
    }
    assert end.state in MOVES[RUNNING]
    run: dict[str, Any] = {"run_id": end.run_id, "state": end.state, "reason": end.reason, "asked": None}
    if end.state == QUEUED and begun.asked:
        run |= {"state": begun.asked, "reason": CANCELLED_BY_HAND}
    if end.result is not None and end.state in KEPT:
        run |= {name: _finite(getattr(end.result, name)) for name in RESULT_COLUMNS}
        run["epochs"] = end.result.examples / begun.dataset_size if begun.dataset_size else None
    elif end.state == PRUNED and last is not None:  # stopped from outside: its last records are what there is
        kept = {"val_error": evaluated.error, "val_loss": evaluated.loss, "steps": last.step}
        run |= kept | {name: getattr(last, name) for name in ("examples", "flops", "seconds", "train_loss")}
        run["epochs"] = last.examples / begun.dataset_size if begun.dataset_size else None
    run["charged_flops"] = (begun.charged_flops or 0) + spent["flops"]
    how = {"run_id": end.run_id, "attempt": end.attempt, "ended": now(), "outcome": end.outcome}
    return run, {
        **how,
        "reason": end.reason,
        "exception": end.exception,
        "traceback": end.traceback,
        **spent,
        **end.used,
    }


def _finite(value: Any) -> Any:
    """The value, or None for NaN, which SQLite cannot store."""
    return None if isinstance(value, float) and math.isnan(value) else value


def now() -> str:
    """The time, as tables have it."""
    return dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds")
