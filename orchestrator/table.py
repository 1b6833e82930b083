"""The results table: the only place where runs, their states and their metrics are kept. It is the queue as well.

Three tables (docs/columns.md): `runs`, one row a run, with its spec, its state and its last metrics;
`history`, one row a record; `attempts`, who ran what, when, and how it ended. `members` says which sweeps a
run belongs to, so that two sweeps share what both declare.

SQLite in WAL mode with `synchronous=FULL`: what was committed survives a power cut. Every write is one short
`BEGIN IMMEDIATE` transaction of the one coordinator that holds the table's lock file; readers open their own
connection and never wait. Another database is a URL away, but none other is tested yet.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import platform
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Self

import sqlalchemy as sa

from orchestrator.database import TableError, add_missing_columns, engine_of, locked, path_of
from orchestrator.schema import (
    DONE,
    FAILED,
    QUEUED,
    RESULT_COLUMNS,
    RUNNING,
    STATES,
    VERSION,
    attempts,
    members,
    meta,
    metadata,
    row_of,
    runs,
    sweeps,
)
from orchestrator.schema import history as recorded
from trainer.datasets import UNSEEN
from trainer.spec import RunSpec

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import pandas as pd

    from orchestrator.planner import Plan
    from trainer.result import Record, Resumed, RunResult

LEASE = 60.0
"""Seconds after which another host may take a running run whose coordinator has not renewed it."""


class Table:
    """The results table at a path or SQLAlchemy URL. `writable` takes its lock: one coordinator at a time.

    Raises TableError where it is no table of ours, of another version, or another coordinator holds it.
    """

    def __init__(self, store: str | Path, *, writable: bool = False) -> None:
        self.store = str(store)
        self._lock = None
        path = path_of(self.store)
        if path is not None:
            if not writable and not path.exists():
                raise TableError(f"no results table at {path}; `isoflop run FILE --store {path}` makes one")
            if writable:
                path.parent.mkdir(parents=True, exist_ok=True)
                self._lock = locked(path)
        self._engine = engine_of(self.store, path, writable=writable)
        try:
            self._check(writable=writable)
        except sa.exc.DatabaseError as error:
            self.close()
            raise TableError(f"{self.store} is no results table: {error.orig}") from error

    def _check(self, *, writable: bool) -> None:
        if writable:
            metadata.create_all(self._engine)
        with self._reading() as connection:
            version = connection.execute(sa.select(meta.c.version)).scalar()
        if version is None and writable:
            with self._engine.begin() as connection:
                connection.execute(meta.insert().values(version=VERSION))
        elif version is not None and version < VERSION and writable:
            add_missing_columns(self._engine, metadata)
            with self._engine.begin() as connection:
                connection.execute(meta.update().values(version=VERSION))
        elif version != VERSION:
            self.close()
            older = version is not None and version < VERSION
            remedy = f"; `isoflop run FILE --store {self.store}` upgrades it" if older else ""
            raise TableError(f"{self.store} has schema version {version}, this isoflop reads {VERSION}{remedy}")

    def close(self) -> None:
        """Let go of the connections and the lock."""
        self._engine.dispose()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextlib.contextmanager
    def _reading(self) -> Iterator[sa.Connection]:
        with self._engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            yield connection

    @property
    def speed(self) -> dict[str, Any] | None:
        """The speed of the machine that trained here first, the fields of `orchestrator.device.Speed`, or None."""
        with self._reading() as connection:
            found: dict[str, Any] | None = connection.execute(sa.select(meta.c.speed)).scalar()
        return found

    @speed.setter
    def speed(self, measured: dict[str, Any]) -> None:
        with self._engine.begin() as connection:
            connection.execute(meta.update().values(speed=measured))

    # the queue

    def enqueue(self, planned: Plan) -> int:
        """Add what is missing of a plan, queued; runs that are here stay as they are. Returns how many are new.

        The sweep's membership becomes the plan's: a run that the file no longer declares leaves the sweep and
        stays in the table.
        """
        if unseen := sorted({run.dataset for run in planned.runs if run.fingerprint == UNSEEN}):
            raise TableError(f"{unseen[0]} was not here when this was planned; plan again with decode=True")
        rows = [row_of(run) for run in planned.runs]
        with self._engine.begin() as connection:
            known = set(connection.execute(sa.select(runs.c.run_id)).scalars())
            new = [row for row in rows if row["run_id"] not in known]
            if new:
                connection.execute(runs.insert(), new)
            connection.execute(members.delete().where(members.c.sweep == planned.sweep))
            connection.execute(
                members.insert(),
                [{"sweep": planned.sweep, "run_id": r["run_id"], "position": i} for i, r in enumerate(rows)],
            )
            connection.execute(sweeps.delete().where(sweeps.c.sweep == planned.sweep))
            declared = {"sweep": planned.sweep, "declared": _now(), "file": planned.text}
            connection.execute(sweeps.insert().values(declared))
        return len(new)

    def recover(self) -> int:
        """Queue again what a dead coordinator left running; returns how many.

        Whoever holds the lock knows that no other coordinator of this host is alive; runs of another host are
        taken when their lease has run out.
        """
        now = dt.datetime.now(dt.UTC).timestamp()
        with self._engine.begin() as connection:
            orphans = connection.execute(
                sa.select(runs.c.run_id, runs.c.attempt)
                .join(
                    attempts,
                    (attempts.c.run_id == runs.c.run_id) & (attempts.c.attempt == runs.c.attempt),
                )
                .where(
                    runs.c.state == RUNNING,
                    (attempts.c.host == platform.node()) | (attempts.c.lease < now),
                )
            ).all()
            for run_id, attempt in orphans:
                self._end(connection, run_id, attempt, QUEUED, "lost", "its coordinator ended")
        return len(orphans)

    def queued(self, sweep: str) -> list[RunSpec]:
        """Specs of a sweep's queued runs, in the order of the plan."""
        query = (
            sa.select(runs.c.spec)
            .join(members, members.c.run_id == runs.c.run_id)
            .where(members.c.sweep == sweep, runs.c.state == QUEUED)
            .order_by(members.c.position)
        )
        with self._reading() as connection:
            return [RunSpec(**spec) for spec in connection.execute(query).scalars()]

    def claim(self, run_ids: Sequence[str]) -> dict[str, int]:
        """Take queued runs for this coordinator: run_id -> attempt, its fencing token. Others are left out.

        What an earlier attempt recorded is dropped: the run starts again, or brings it along (`resume`).
        """
        lease = dt.datetime.now(dt.UTC).timestamp() + LEASE
        taking = (
            runs.update()
            .where(runs.c.run_id.in_(run_ids), runs.c.state == QUEUED)
            .values(state=RUNNING, attempt=runs.c.attempt + 1, reason=None)
            .returning(runs.c.run_id, runs.c.attempt)
        )
        with self._engine.begin() as connection:
            claimed = {run_id: attempt for run_id, attempt in connection.execute(taking)}  # noqa: C416
            if claimed:
                connection.execute(recorded.delete().where(recorded.c.run_id.in_(claimed)))
                who = {"host": platform.node(), "pid": os.getpid(), "started": _now(), "lease": lease}
                connection.execute(
                    attempts.insert(),
                    [{"run_id": r, "attempt": a, "stack": len(claimed), **who} for r, a in claimed.items()],
                )
        return claimed

    def renew(self, claimed: dict[str, int]) -> None:
        """Extend the leases of runs in flight."""
        lease = dt.datetime.now(dt.UTC).timestamp() + LEASE
        with self._engine.begin() as connection:
            for run_id, attempt in claimed.items():
                connection.execute(attempts.update().where(_this(run_id, attempt)).values(lease=lease))

    def resume(self, resumed: Resumed, attempt: int) -> None:
        """Note that a claimed run goes on from a checkpoint, with the records that it had made by then."""
        with self._engine.begin() as connection:
            mine = (runs.c.run_id == resumed.run_id) & (runs.c.attempt == attempt) & (runs.c.state == RUNNING)
            if connection.execute(sa.select(runs.c.run_id).where(mine)).first() is None:
                return
            said = {"resumed_step": resumed.step, "resumed_seconds": resumed.seconds}
            connection.execute(attempts.update().where(_this(resumed.run_id, attempt)).values(**said))
            if resumed.history:
                connection.execute(recorded.insert(), [asdict(record) for record in resumed.history])

    def record(self, records: Sequence[Record]) -> None:
        """Append records of runs in flight, in one transaction."""
        if records:
            with self._engine.begin() as connection:
                connection.execute(recorded.insert(), [asdict(record) for record in records])

    def finish(self, results: Sequence[RunResult], claimed: dict[str, int]) -> None:
        """Write the ends of runs, done or diverged, and everything they recorded, in one transaction."""
        with self._engine.begin() as connection:
            for result in results:
                attempt = claimed[result.run_id]
                kept = {name: getattr(result, name) for name in RESULT_COLUMNS}
                if not self._end(connection, result.run_id, attempt, result.state, result.state, None, kept):
                    continue
                connection.execute(recorded.delete().where(recorded.c.run_id == result.run_id))
                if result.history:
                    connection.execute(recorded.insert(), [asdict(record) for record in result.history])

    def release(self, claimed: dict[str, int], outcome: str, reason: str) -> None:
        """Queue runs in flight again: interrupted, or their worker lost."""
        with self._engine.begin() as connection:
            for run_id, attempt in claimed.items():
                self._end(connection, run_id, attempt, QUEUED, outcome, reason)

    def fail(self, claimed: dict[str, int], reason: str, traceback: str) -> None:
        """End runs in flight as failed, with a one-line reason and a traceback."""
        with self._engine.begin() as connection:
            for run_id, attempt in claimed.items():
                self._end(connection, run_id, attempt, FAILED, "failed", reason, traceback=traceback)

    def give_up(self, run_ids: Sequence[str], reason: str) -> None:
        """End queued runs as failed: what they wait for will not come."""
        waiting = runs.update().where(runs.c.run_id.in_(run_ids), runs.c.state == QUEUED)
        with self._engine.begin() as connection:
            connection.execute(waiting.values(state=FAILED, reason=reason))

    def again(self, run_ids: Sequence[str]) -> None:
        """Queue finished runs again, whose parameters are needed and were not kept."""
        done = runs.update().where(runs.c.run_id.in_(run_ids), runs.c.state == DONE)
        with self._engine.begin() as connection:
            connection.execute(done.values(state=QUEUED, reason="again, for its parameters"))

    def states(self, sweep: str) -> dict[str, str]:
        """The state of every run of a sweep, by run_id."""
        inside = sa.select(members.c.run_id).where(members.c.sweep == sweep)
        with self._reading() as connection:
            found = connection.execute(sa.select(runs.c.run_id, runs.c.state).where(runs.c.run_id.in_(inside)))
            return {run_id: state for run_id, state in found}  # noqa: C416 - rows, not pairs

    def retry(self, sweep: str) -> int:
        """Queue a sweep's failed runs again; returns how many."""
        inside = sa.select(members.c.run_id).where(members.c.sweep == sweep)
        failed = runs.update().where(runs.c.state == FAILED, runs.c.run_id.in_(inside))
        with self._engine.begin() as connection:
            return connection.execute(failed.values(state=QUEUED, reason=None)).rowcount

    def _end(
        self,
        connection: sa.Connection,
        run_id: str,
        attempt: int,
        state: str,
        outcome: str,
        reason: str | None,
        kept: dict[str, Any] | None = None,
        traceback: str | None = None,
    ) -> bool:
        """Leave `running`; False, and nothing written, where the attempt is no longer the run's."""
        kept = kept or {}
        mine = (runs.c.run_id == run_id) & (runs.c.attempt == attempt) & (runs.c.state == RUNNING)
        moved = connection.execute(
            runs.update().where(mine).values(state=state, reason=reason, **_with_epochs(kept))
        ).rowcount
        if moved:
            ended = {"ended": _now(), "outcome": outcome, "reason": reason, "traceback": traceback}
            spent = self._spent(connection, run_id, attempt, kept)
            connection.execute(attempts.update().where(_this(run_id, attempt)).values(**ended, **spent))
            charged = sa.select(sa.func.sum(attempts.c.flops)).where(attempts.c.run_id == run_id)
            connection.execute(
                runs.update().where(runs.c.run_id == run_id).values(charged_flops=charged.scalar_subquery())
            )
        return bool(moved)

    def _spent(self, connection: sa.Connection, run_id: str, attempt: int, kept: dict[str, Any]) -> dict[str, Any]:
        """FLOPs and seconds of an attempt alone: to its end, or else to its last record, since its first step."""
        last = recorded.c.step.label("steps"), recorded.c.flops, recorded.c.seconds
        query = sa.select(*last).where(recorded.c.run_id == run_id).order_by(recorded.c.step.desc())
        end = kept or connection.execute(query.limit(1)).mappings().first()
        begin = connection.execute(
            sa.select(attempts.c.resumed_step, attempts.c.resumed_seconds).where(_this(run_id, attempt))
        ).one()
        if end is None or end["steps"] < begin.resumed_step:
            return {"flops": 0, "seconds": 0.0}
        before = end["flops"] // max(1, end["steps"]) * begin.resumed_step
        return {"flops": end["flops"] - before, "seconds": end["seconds"] - begin.resumed_seconds}

    # reading

    def counts(self, sweep: str | None = None) -> dict[str, int]:
        """Number of runs by state."""
        query = sa.select(runs.c.state, sa.func.count()).group_by(runs.c.state)
        if sweep is not None:
            query = query.where(runs.c.run_id.in_(sa.select(members.c.run_id).where(members.c.sweep == sweep)))
        with self._reading() as connection:
            return {state: count for state, count in connection.execute(query)}  # noqa: C416 - rows, not pairs

    def sweeps(self) -> list[dict[str, Any]]:
        """Every sweep with its runs by state and its FLOPs, planned and spent, in the order declared."""
        query = (
            sa.select(
                sweeps.c.sweep,
                sa.func.count().label("runs"),
                *(sa.func.sum(sa.case((runs.c.state == s, 1), else_=0)).label(s) for s in STATES),
                sa.func.sum(runs.c.planned_flops).label("planned_flops"),
                sa.func.sum(runs.c.flops).label("flops"),
                sa.func.min(runs.c.error).label("best_error"),
            )
            .join(members, members.c.sweep == sweeps.c.sweep)
            .join(runs, runs.c.run_id == members.c.run_id)
            .group_by(sweeps.c.sweep)
            .order_by(sweeps.c.declared)
        )
        with self._reading() as connection:
            return [dict(row) for row in connection.execute(query).mappings()]

    def failures(self, sweep: str) -> list[dict[str, Any]]:
        """Failed runs of a sweep: run_id, model, reason and the last attempt's traceback."""
        query = (
            sa.select(
                runs.c.run_id,
                runs.c.model,
                runs.c.seed,
                runs.c.reason,
                attempts.c.traceback,
            )
            .join(members, members.c.run_id == runs.c.run_id)
            .outerjoin(
                attempts,
                (attempts.c.run_id == runs.c.run_id) & (attempts.c.attempt == runs.c.attempt),
            )
            .where(members.c.sweep == sweep, runs.c.state == FAILED)
            .order_by(members.c.position)
        )
        with self._reading() as connection:
            return [dict(row) for row in connection.execute(query).mappings()]

    def frame(self, what: str = "runs", sweep: str | None = None) -> pd.DataFrame:
        """`runs`, `history` or `attempts` as a DataFrame; runs with a `sweep` column, in the order of the plan."""
        import pandas as pd

        table = {"runs": runs, "history": recorded, "attempts": attempts}[what]
        columns = [column for column in table.c if column.name != "spec"]
        if what == "runs":
            columns.insert(1, members.c.sweep)
        query = sa.select(*columns).outerjoin(members, members.c.run_id == table.c.run_id)
        if sweep is not None:
            query = query.where(members.c.sweep == sweep)
        order = {"history": [recorded.c.step], "attempts": [attempts.c.attempt]}.get(what, [])
        with self._reading() as connection:
            found = connection.execute(query.order_by(members.c.sweep, members.c.position, *order)).all()
        return pd.DataFrame(found, columns=[column.name for column in columns]).drop_duplicates(ignore_index=True)


def results(store: str | Path = "isoflop.db", sweep: str | None = None) -> pd.DataFrame:
    """One row a run with plain columns (docs/columns.md), ready for pandas and `analysis`."""
    with Table(store) as table:
        return table.frame("runs", sweep)


def history(store: str | Path = "isoflop.db", sweep: str | None = None) -> pd.DataFrame:
    """One row a record: the metrics of every run at its log-spaced evaluations."""
    with Table(store) as table:
        return table.frame("history", sweep)


def _with_epochs(kept: dict[str, Any]) -> dict[str, Any]:
    if not kept:
        return {}
    return {**kept, "epochs": sa.cast(kept["examples"], sa.Float) / runs.c.dataset_size}


def _this(run_id: str, attempt: int) -> sa.ColumnElement[bool]:
    return (attempts.c.run_id == run_id) & (attempts.c.attempt == attempt)


def _now() -> str:
    return dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds")
