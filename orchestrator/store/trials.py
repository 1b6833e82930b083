"""The trials of searches in the results table: cell, number and runs of each."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import sqlalchemy as sa

from orchestrator.store.queue import in_parts
from orchestrator.store.schema import members, records, row_of, runs
from trainer.spec import RunSpec

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from orchestrator.store.connection import StoreConnection
    from orchestrator.store.queue import Queue
    from orchestrator.sweep.planner import Plan

ENDED = {"done", "diverged", "pruned", "failed", "cancelled"}
WORST = {"val_error": 1.0, "val_loss": math.inf}
"""The value of a trial that diverged, which is a result, unlike a failure."""
FINITE_WORST = {metric: min(worth, 1e300) for metric, worth in WORST.items()}
"""The same for Ray Tune, which interpolates percentiles and cannot between infinities."""


class Trial(NamedTuple):
    """Hyper-parameters that are tried in a cell: one run per seed."""

    search_cell: str
    number: int
    runs: list[RunSpec]


class RunState(NamedTuple):
    """The state of a run and its final metrics."""

    state: str
    val_error: float | None
    val_loss: float | None
    error: float | None


class Task(NamedTuple):
    """A trial for an actor of Ray Tune: its runs or, if they are over, the curve to replay: (step, mean value)."""

    number: int
    runs: list[RunSpec]
    curve: list[tuple[int, float]]

    @property
    def over(self) -> bool:
        """Whether there is nothing to train."""
        return bool(self.curve)


class Trials:
    """The trials of the searches in a store."""

    def __init__(self, store: StoreConnection, queue: Queue) -> None:
        self._store, self._queue = store, queue

    def of(self, sweep: str, search_cell: str | None = None) -> list[Trial]:
        """The trials of a sweep, or of one of its cells, sorted by cell and number."""
        query = (
            sa.select(members.c.search_cell, members.c.trial, runs.c.spec)
            .join(runs, runs.c.run_id == members.c.run_id)
            .where(members.c.sweep == sweep, members.c.trial.is_not(None))
            .order_by(members.c.position)
        )
        if search_cell is not None:
            query = query.where(members.c.search_cell == search_cell)
        trials: dict[tuple[str, int], Trial] = {}
        with self._store.reading() as connection:
            for cell, number, spec in connection.execute(query):
                trials.setdefault((cell, number), Trial(cell, number, [])).runs.append(RunSpec(**spec))
        return sorted(trials.values(), key=lambda trial: trial[:2])

    def propose(self, sweep: str, trials: Sequence[Trial]) -> None:
        """Add trials, all or none: their runs become members of the sweep, and are queued if they are new.

        A run that an earlier search of this sweep tried in another cell belongs to this cell from now on.
        """
        rows = {run.run_id: row_of(run) for trial in trials for run in trial.runs}
        with self._store.transaction() as connection:
            present = set(connection.execute(sa.select(runs.c.run_id).where(runs.c.run_id.in_(rows))).scalars())
            if new := [row for run_id, row in rows.items() if run_id not in present]:
                connection.execute(runs.insert(), new)
            last = sa.select(sa.func.max(members.c.position)).where(members.c.sweep == sweep)
            place = (connection.execute(last).scalar() or 0) + 1
            places = [
                {"sweep": sweep, "run_id": run.run_id, "search_cell": trial.search_cell, "trial": trial.number}
                for trial in trials
                for run in trial.runs
            ]
            connection.execute(members.delete().where(members.c.sweep == sweep, members.c.run_id.in_(rows)))
            connection.execute(members.insert(), [{**row, "position": place + i} for i, row in enumerate(places)])

    def declare(self, planned: Plan) -> None:
        """Add the sweep of a search to the table, with its limits.

        Runs that are no trial leave the sweep: those of an earlier file of this name without a search.
        """
        mine = members.c.sweep == planned.sweep
        kept = sa.select(runs.c.spec).join(members, members.c.run_id == runs.c.run_id).where(mine)
        with self._store.transaction() as connection:
            connection.execute(members.delete().where(mine, members.c.trial.is_(None)))
            specs = connection.execute(kept.order_by(members.c.position)).scalars().all()
        self._queue.enqueue(replace(planned, runs=tuple(RunSpec(**spec) for spec in specs)))

    def run_states(self, run_ids: Iterable[str]) -> dict[str, RunState]:
        """States and final metrics of runs, by run_id."""
        query = sa.select(*(runs.c[name] for name in ("run_id", *RunState._fields)))
        with self._store.reading() as connection:
            rows = [
                row
                for some in in_parts(run_ids)
                for row in connection.execute(query.where(runs.c.run_id.in_(some)))
            ]
        return {run_id: RunState(*rest) for run_id, *rest in rows}

    def curves(self, run_ids: Iterable[str], metric: str) -> dict[str, dict[int, float]]:
        """The metric of each run on its validation split, by run_id and step."""
        value = {"val_error": records.c.error, "val_loss": records.c.loss}[metric]
        query = (
            sa.select(records.c.run_id, records.c.step, value).where(value.is_not(None)).order_by(records.c.step)
        )
        curves: dict[str, dict[int, float]] = {}
        with self._store.reading() as connection:
            for some in in_parts(run_ids):
                for run_id, step, measured in connection.execute(query.where(records.c.run_id.in_(some))):
                    curves.setdefault(run_id, {})[step] = measured
        return curves
