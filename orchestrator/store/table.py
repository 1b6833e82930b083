"""The results table, which is also the queue: runs, their states, records and attempts.

Three tables (docs/columns.md): `runs`, one row a run, with its spec, its state and its last metrics;
`history`, one row a record; `attempts`, who ran what, when, and how it ended. `members` says which sweeps a
run belongs to, so that two sweeps share what both declare.

SQLite in WAL mode with `synchronous=FULL`: what was committed survives a power cut. Every write is one short
`BEGIN IMMEDIATE` transaction of the one coordinator that holds the table's lock file; readers open their own
connection and never wait. In a PostgreSQL database several coordinators write.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Self
from weakref import WeakValueDictionary

import sqlalchemy as sa

from orchestrator.store.connection import StoreConnection
from orchestrator.store.ends import End
from orchestrator.store.engine import TableError, is_held, name_of
from orchestrator.store.queue import LEASE, Queue, in_parts
from orchestrator.store.schema import (
    BLOCKED,
    DONE,
    FAILED,
    PLANNED,
    QUEUED,
    RUNNING,
    STATES,
    attempts,
    members,
    meta,
    records,
    runs,
    sweeps,
)
from orchestrator.store.trials import Trials
from orchestrator.sweep.sweep import Limits
from trainer.host import installation
from trainer.spec import RunSpec

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    import pandas as pd

__all__ = ["LEASE", "End", "Table", "TableError", "history", "results"]

_PLACES = ("path", "start")
"""Columns that may be URLs with a password: `queued` keeps it, for workers; everything that is shown does not."""


class Standing(NamedTuple):
    """The state of a run, its priority and its parent, and the sweeps that it belongs to."""

    state: str
    priority: int
    parent: str | None
    sweeps: tuple[str, ...]


class Table:
    """A results table, open for reading: its runs, sweeps, records and attempts.

    `queue` changes the states of runs, `trials` holds what searches have tried.

    Args:
        store: Path of a SQLite file, or a postgresql:// URL.
        writable: Whether to open it for writing as well, and make it where it is missing. This takes a file's lock:
            one coordinator at a time. On PostgreSQL several may write at once.

    Raises:
        TableError: Not a results table, one of another version, or none at this path.
        TableBusyError: Another coordinator holds the lock.
    """

    def __init__(self, store: str | Path, *, writable: bool = False) -> None:
        self._connection = StoreConnection(store, writable=writable)
        self.store = self._connection.name
        self.queue = Queue(self._connection)
        self.trials = Trials(self._connection, self.queue)
        self._specs: WeakValueDictionary[str, RunSpec] = WeakValueDictionary()

    @property
    def shared(self) -> bool:
        """Whether several coordinators may write at once."""
        return self._connection.shared

    @property
    def engine(self) -> sa.Engine:
        """SQLAlchemy's engine of the store."""
        return self._connection.engine

    def transaction(self) -> AbstractContextManager[sa.Connection]:
        """One transaction for all writes made inside it: all are committed, or none."""
        return self._connection.transaction()

    def close(self) -> None:
        """Close the connections and release the lock."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def rows(self, query: sa.Select[Any]) -> list[dict[str, Any]]:
        """The rows of a query of the schema's tables (`orchestrator.store.schema`)."""
        with self._connection.reading() as connection:
            return [dict(row) for row in connection.execute(query).mappings()]

    @property
    def speed(self) -> dict[str, Any] | None:
        """Speed of the machine that trained here first, the fields of `orchestrator.host.speed.Speed`, or None."""
        speed: dict[str, Any] | None = self._connection.meta(meta.c.speed)
        return speed

    @speed.setter
    def speed(self, fields: dict[str, Any]) -> None:
        self._connection.set_meta(speed=fields)

    @property
    def devices(self) -> dict[str, Any]:
        """What was measured of devices: `memory` (orchestrator.scheduling.memory)."""
        return self._connection.meta(meta.c.devices) or {}

    @devices.setter
    def devices(self, fields: dict[str, Any]) -> None:
        if fields != self.devices:
            self._connection.set_meta(devices=fields)

    def queued(self, sweep: str) -> list[RunSpec]:
        """Specs of a sweep's queued runs, in the order of the plan. One that is still in use is not built again."""
        query = (
            sa.select(runs.c.run_id)
            .join(members, members.c.run_id == runs.c.run_id)
            .where(members.c.sweep == sweep, runs.c.state == QUEUED)
            .order_by(members.c.position)
        )
        with self._connection.reading() as connection:
            ids = connection.execute(query).scalars().all()
            specs = {run_id: spec for run_id in ids if (spec := self._specs.get(run_id)) is not None}
            shared: dict[Any, Any] = {}  # most values are those of another run: one object for all
            for some in in_parts(run_id for run_id in ids if run_id not in specs):
                found = sa.select(runs.c.run_id, runs.c.spec).where(runs.c.run_id.in_(some))
                for run_id, spec in connection.execute(found):
                    values = {name: shared.setdefault((type(v), v), v) for name, v in spec.items()}
                    specs[run_id] = self._specs[run_id] = RunSpec(**values)
        return [specs[run_id] for run_id in ids]

    def standing(self, names: Sequence[str] | None = None) -> dict[str, Standing]:
        """The runs of some sweeps (default all), by run_id."""
        columns = [runs.c[name] for name in ("run_id", "state", "priority", "parent")]
        query = sa.select(*columns, members.c.sweep).join(members, members.c.run_id == runs.c.run_id)
        if names is not None:
            query = query.where(members.c.sweep.in_(names))
        rows: dict[str, Standing] = {}
        shared: dict[Any, Any] = {}
        with self._connection.reading() as connection:
            for run_id, *fields, sweep in connection.execute(query):
                owners = (*rows[run_id].sweeps, sweep) if run_id in rows else (sweep,)
                rows[run_id] = Standing(*(shared.setdefault(value, value) for value in (*fields, owners)))
        return rows

    def states(self, sweep: str) -> dict[str, str]:
        """The state of every run of a sweep, by run_id."""
        query = sa.select(runs.c.run_id, runs.c.state).where(runs.c.run_id.in_(_inside(sweep)))
        with self._connection.reading() as connection:
            return {run_id: state for run_id, state in connection.execute(query)}  # noqa: C416 - rows, not pairs

    def counts(self, sweep: str | None = None) -> dict[str, int]:
        """Number of runs by state."""
        query = sa.select(runs.c.state, sa.func.count()).group_by(runs.c.state)
        if sweep is not None:
            query = query.where(runs.c.run_id.in_(_inside(sweep)))
        with self._connection.reading() as connection:
            return {state: count for state, count in connection.execute(query)}  # noqa: C416 - rows, not pairs

    def sweeps(self) -> list[dict[str, Any]]:
        """Every sweep with its number of runs by state and what it spent, in the order declared.

        `planned_flops` and `flops` belong to runs, `charged_flops` to everything that was processed for them,
        `reserved_flops` to running attempts, `wasted_flops` to what was processed and lost. `trained_seconds` is
        the sum over runs, `seconds` the time in which any of them was running.
        """
        blocked = sa.case((runs.c.state == BLOCKED, runs.c.planned_flops), else_=0)
        query = (
            sa.select(
                sweeps.c.sweep,
                sa.func.count().label("runs"),
                *(sa.func.sum(sa.case((runs.c.state == s, 1), else_=0)).label(s) for s in STATES),
                _total(runs.c.planned_flops).label("planned_flops"),
                _total(runs.c.flops).label("flops"),
                sa.func.coalesce(_total(runs.c.charged_flops), 0.0).label("charged_flops"),
                _total(blocked).label("blocked_flops"),
                sa.func.coalesce(sa.func.sum(runs.c.seconds), 0.0).label("trained_seconds"),
                sa.func.min(sa.case((runs.c.state == DONE, runs.c.error))).label("best_error"),
                *(sweeps.c[name] for name in ("paused", "seconds", "seconds_left", "message")),
            )
            .join(members, members.c.sweep == sweeps.c.sweep)
            .join(runs, runs.c.run_id == members.c.run_id)
            .group_by(sweeps.c.sweep)
            .order_by(sweeps.c.declared)
        )
        with self._connection.reading() as connection:
            rows = [dict(row) for row in connection.execute(query).mappings()]
            tried = {row["sweep"]: dict(row) for row in connection.execute(_tried()).mappings()}
            query = sa.select(sweeps.c.sweep, sweeps.c.limits)
            limits = {row.sweep: row.limits for row in connection.execute(query)}
        none = {"reserved_flops": 0, "wasted_flops": 0, "gpu_seconds": 0.0}
        for row in rows:
            row |= {**none, **tried.get(row["sweep"], {}), "limits": limits[row["sweep"]] or {}}
        return [{k: int(v) if k.endswith("flops") and v is not None else v for k, v in row.items()} for row in rows]

    def declaration(self, sweep: str) -> tuple[str, str]:
        """When a sweep was declared, and the text of its file."""
        query = sa.select(sweeps.c.declared, sweeps.c.file).where(sweeps.c.sweep == sweep)
        with self._connection.reading() as connection:
            declared, file = connection.execute(query).one()
        return declared, file

    def changes(self, since: int) -> tuple[int, dict[str, int]]:
        """The number of the last change by another terminal, and the sweeps changed since number `since`.

        Each changed sweep has the number of the change that last added it.
        """
        query = sa.select(sweeps.c.sweep, sweeps.c.changed, sweeps.c.added).where(sweeps.c.changed > since)
        with self._connection.reading() as connection:
            rows = connection.execute(query.order_by(sweeps.c.declared)).all()
        return max((row.changed for row in rows), default=since), {row.sweep: row.added for row in rows}

    def leaving(self) -> list[str]:
        """Ids of running runs that are asked to leave, whoever trains them."""
        query = sa.select(runs.c.run_id).where(runs.c.state == RUNNING, runs.c.asked.is_not(None))
        with self._connection.reading() as connection:
            return list(connection.execute(query).scalars())

    def limits(self, sweep: str) -> Limits:
        """What the sweep may spend."""
        with self._connection.reading() as connection:
            limits = connection.execute(sa.select(sweeps.c.limits).where(sweeps.c.sweep == sweep)).scalar()
        return Limits(**(limits or {}))

    def listed(self, sweep: str | None, states: Sequence[str]) -> list[dict[str, Any]]:
        """Runs of a sweep (default all) in some states, in the order of the plan: settings, results."""
        of_run = _settings("state", "priority", "attempt")
        of_result = [runs.c[name] for name in ("error", "loss", "params", "flops", "seconds", "reason")]
        query = (
            sa.select(runs.c.run_id, members.c.sweep, *of_run, *of_result)
            .join(members, members.c.run_id == runs.c.run_id)
            .where(runs.c.state.in_(states))
            .order_by(members.c.sweep, members.c.position)
        )
        if sweep is not None:
            query = query.where(members.c.sweep == sweep)
        with self._connection.reading() as connection:
            return [dict(row) for row in connection.execute(query).mappings()]

    def running(self) -> list[dict[str, Any]]:
        """Running runs: settings, process, begin, last record, and whether nobody trains them (`abandoned`).

        Those are queued again as soon as a process works on the table.
        """
        last = sa.select(records.c.run_id, sa.func.max(records.c.step).label("step")).group_by(records.c.run_id)
        newest = last.where(
            records.c.run_id.in_(sa.select(runs.c.run_id).where(runs.c.state == RUNNING))
        ).subquery()
        of_run = _settings("run_id", "attempt", "planned_flops")
        of_attempt = [attempts.c[name] for name in ("stack", "started", "host", "pid", "coordinator", "lease")]
        of_record = [records.c[name] for name in ("step", "flops", "error")]
        query = (
            sa.select(*of_run, *of_attempt, *of_record)
            .join(attempts, (attempts.c.run_id == runs.c.run_id) & (attempts.c.attempt == runs.c.attempt))
            .outerjoin(newest, newest.c.run_id == runs.c.run_id)
            .outerjoin(records, (records.c.run_id == newest.c.run_id) & (records.c.step == newest.c.step))
            .where(runs.c.state == RUNNING)
            .order_by(attempts.c.started, runs.c.run_id)
        )
        held = is_held(self.store)  # before the look: what it wrote at its end is seen
        with self._connection.reading() as connection:
            found = [dict(row) for row in connection.execute(query).mappings()]
        for row in found:
            row["abandoned"] = self.queue.abandoned(row["coordinator"] or "", row["lease"], held=held)
        return found

    def records(self, run_ids: Sequence[str]) -> pd.DataFrame:
        """The records of some runs, in order of their steps."""
        import pandas as pd

        query = sa.select(records).where(records.c.run_id.in_(run_ids)).order_by(records.c.run_id, records.c.step)
        with self._connection.reading() as connection:
            return pd.read_sql(query, connection)

    def shown(self, beginning: str) -> dict[str, Any]:
        """All of the one run whose run_id has this beginning; TableError if there is none, or more than one.

        With its `sweeps`, its `attempts`, its `records`, and in `plan` the steps, examples and epochs of its end.
        """
        with self._connection.reading() as connection:
            one = runs.c.run_id.startswith(beginning, autoescape=True)
            rows = connection.execute(sa.select(runs).where(one).limit(2)).mappings().all()
            if len(rows) != 1:
                many = f"more than one run begins with {beginning!r}" if rows else f"no run {beginning!r}"
                raise TableError(f"{many} in {name_of(self.store)}; `{installation.command('results')}` lists them")
            (row,) = rows
            inside = sa.select(members.c.sweep).where(members.c.run_id == row["run_id"])
            tries = sa.select(attempts).where(attempts.c.run_id == row["run_id"]).order_by(attempts.c.attempt)
            curve = sa.select(records).where(records.c.run_id == row["run_id"]).order_by(records.c.step)
            return {
                **{name: value for name, value in row.items() if name != "spec"},
                **{name: row[name] and name_of(row[name]) for name in _PLACES},
                "sweeps": list(connection.execute(inside).scalars()),
                "plan": {name: row["spec"].get(name) for name in ("steps", "examples", "epochs")},
                "attempts": [dict(one) for one in connection.execute(tries).mappings()],
                "records": [dict(one) for one in connection.execute(curve).mappings()],
            }

    def failures(self, sweep: str) -> list[dict[str, Any]]:
        """Failed runs of a sweep: run_id, model, reason and the last attempt's traceback."""
        query = (
            sa.select(runs.c.run_id, runs.c.model, runs.c.seed, runs.c.reason, attempts.c.traceback)
            .join(members, members.c.run_id == runs.c.run_id)
            .outerjoin(
                attempts,
                (attempts.c.run_id == runs.c.run_id) & (attempts.c.attempt == runs.c.attempt),
            )
            .where(members.c.sweep == sweep, runs.c.state == FAILED)
            .order_by(members.c.position)
        )
        with self._connection.reading() as connection:
            return [dict(row) for row in connection.execute(query).mappings()]

    def frame(self, what: str = "runs", sweep: str | None = None) -> pd.DataFrame:
        """`runs`, `history` or `attempts` as a DataFrame, each row once, in the order of the plan.

        Runs have the columns `sweep` (the one asked for, else the first that declares the run) and `sweeps` (a list
        of all that do). With `sweep` only the rows of runs that belong to it.
        """
        import pandas as pd

        table = {"runs": runs, "history": records, "attempts": attempts}[what]
        columns: list[Any] = [column for column in table.c if column.name != "spec"]
        place = _places(sweep)
        if what == "runs":
            columns[1:1] = [place.c.sweep, place.c.search_cell, place.c.trial]
        query = sa.select(*columns).join(place, place.c.run_id == table.c.run_id, isouter=sweep is None)
        order = {"history": [records.c.step], "attempts": [attempts.c.attempt]}.get(what, [])
        query = query.order_by(place.c.sweep, place.c.position, *order)
        with self._connection.reading() as connection:
            compiled = str(query.compile(self._connection.engine, compile_kwargs={"literal_binds": True}))
            rows = connection.exec_driver_sql(compiled).cursor.fetchall()  # plain rows: a million take seconds
            shared = connection.execute(_shared()).all() if what == "runs" else []
        frame = pd.DataFrame(rows, columns=[column.name for column in columns])
        if what != "runs":
            return frame
        for name in _PLACES:
            if frame[name].notna().any():
                frame[name] = frame[name].map(name_of, na_action="ignore")
        pairs = zip(frame["run_id"], frame["sweep"], strict=True)
        of_run = {run: [] if pd.isna(name) else [name] for run, name in pairs} | {run: [] for run, _ in shared}
        for run, name in shared:
            of_run[run].append(name)
        frame.insert(2, "sweeps", frame["run_id"].map(of_run))
        return frame


def _settings(*more: str) -> list[sa.ColumnElement[Any]]:
    """More columns of a run, its settings but the URLs, and its planned length in every unit."""
    names = [name for name in PLANNED if name not in _PLACES]
    length = [
        runs.c.spec["epochs"].as_float().label("epochs"),
        runs.c.spec["examples"].as_integer().label("examples"),
    ]
    return [*(runs.c[name] for name in (*more, "model", *names)), *length]


def _total(flops: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
    """A sum of FLOPs as a float: that of a sweep may exceed 2^63, where integers of databases end."""
    return sa.func.sum(sa.cast(flops, sa.Float(53)))


def _inside(sweep: str) -> sa.Select[Any]:
    return sa.select(members.c.run_id).where(members.c.sweep == sweep)


def _places(sweep: str | None) -> Any:
    """The membership of each run in a sweep, or its first one, so that a run of two sweeps is read once."""
    if sweep is not None:
        return sa.select(members).where(members.c.sweep == sweep).subquery()
    number = sa.func.row_number().over(
        partition_by=members.c.run_id, order_by=(members.c.sweep, members.c.position)
    )
    ranked = sa.select(members, number.label("number")).subquery()
    return sa.select(ranked).where(ranked.c.number == 1).subquery()


def _shared() -> sa.Select[Any]:
    """The runs of several sweeps with each of their sweeps, in order of their names."""
    several = sa.select(members.c.run_id).group_by(members.c.run_id).having(sa.func.count() > 1)
    return (
        sa.select(members.c.run_id, members.c.sweep)
        .where(members.c.run_id.in_(several))
        .order_by(members.c.run_id, members.c.sweep)
    )


def _tried() -> sa.Select[Any]:
    """By sweep: FLOPs reserved by running attempts, FLOPs lost, and seconds of GPUs.

    Lost is what an attempt did beyond the point where the next one began, and everything that the last attempt of a
    failed run did (docs/explanation/budget.md).
    """
    begin = attempts.c.resumed_flops
    next_begin = sa.func.lead(begin).over(partition_by=attempts.c.run_id, order_by=attempts.c.attempt)
    of = sa.select(
        attempts.c.run_id,
        attempts.c.gpu_seconds,
        sa.case((attempts.c.ended.is_(None), attempts.c.reserved), else_=0).label("reserved"),
        (begin + sa.func.coalesce(attempts.c.flops, 0)).label("reached"),
        next_begin.label("next_begin"),
    ).subquery()
    last = sa.case((runs.c.state == FAILED, of.c.reached), else_=0)
    lost = sa.case(
        (of.c.next_begin.is_(None), last), (of.c.reached > of.c.next_begin, of.c.reached - of.c.next_begin), else_=0
    )
    return (
        sa.select(
            members.c.sweep,
            sa.func.coalesce(_total(of.c.reserved), 0.0).label("reserved_flops"),
            _total(lost).label("wasted_flops"),
            sa.func.coalesce(sa.func.sum(of.c.gpu_seconds), 0.0).label("gpu_seconds"),
        )
        .join(runs, runs.c.run_id == members.c.run_id)
        .join(of, of.c.run_id == members.c.run_id)
        .group_by(members.c.sweep)
    )


def results(store: str | Path = "isoflop.db", sweep: str | None = None) -> pd.DataFrame:
    """A DataFrame with one row per run (docs/columns.md), ready for `analysis`: all runs, or those of one sweep.

    A run of several sweeps has one row; its column `sweeps` lists them.
    """
    with Table(store) as table:
        return table.frame("runs", sweep)


def history(store: str | Path = "isoflop.db", sweep: str | None = None) -> pd.DataFrame:
    """A DataFrame with one row per record: the metrics of every run at its log-spaced evaluations."""
    with Table(store) as table:
        return table.frame("history", sweep)
