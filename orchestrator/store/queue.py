"""The transitions of runs between states, each in one short transaction.

A claim counts the attempts of a run; the number is its fencing token. Every write for a running run carries its
token; writes with an outdated token, or for a run that no longer runs, are ignored.
"""

from __future__ import annotations

import datetime as dt
import functools
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from orchestrator.host.process import Process, this_process
from orchestrator.store.ends import CANCELLED_BY_HAND, KEPT, End, last_records, now, rows_of
from orchestrator.store.engine import TableError, serialise
from orchestrator.store.schema import (
    BLOCKED,
    CANCELLED,
    FAILED,
    MOVES,
    QUEUED,
    RUNNING,
    STATES,
    attempts,
    members,
    records,
    row_of,
    runs,
    sweeps,
)
from trainer.data.datasets import UNSEEN

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from orchestrator.store.connection import StoreConnection
    from orchestrator.sweep.planner import Plan
    from trainer.result import Record, Resumed, RunResult

LEASE = 60.0
"""Seconds after which another host may take over a running run whose coordinator has not renewed its lease."""

IDS_AT_ONCE = 10_000
"""Run ids in one statement: databases take no more parameters."""


class Queue:
    """All changes of the states of runs in a store."""

    def __init__(self, store: StoreConnection) -> None:
        self._store = store

    def enqueue(self, planned: Plan) -> int:
        """Add the runs of a plan that are missing, as queued; returns how many. Others stay as they are.

        Members and limits of the sweep become those of the plan: a run that the file no longer declares leaves the
        sweep and stays in the table; runs that an older limit blocked are queued again. Raises TableError if a data
        set was absent when the plan was made.
        """
        if unseen := sorted({run.dataset for run in planned.runs if run.fingerprint == UNSEEN}):
            raise TableError(f"{unseen[0]} was not available when this was planned; plan again with decode=True")
        sweep, ids = planned.sweep, [run.run_id for run in planned.runs]
        limits = planned.limits.model_dump(exclude_none=True)
        declared = {"file": planned.text, "limits": limits}
        with self._store.transaction() as connection:
            serialise(connection)
            present = set(connection.execute(sa.select(runs.c.run_id)).scalars())
            if new := [row_of(run) for run in planned.runs if run.run_id not in present]:
                connection.execute(runs.insert(), new)
            inside = sa.select(members.c.run_id).where(members.c.sweep == sweep).order_by(members.c.position)
            if ids != list(connection.execute(inside).scalars()):
                connection.execute(members.delete().where(members.c.sweep == sweep))
                rows = [{"sweep": sweep, "run_id": run_id, "position": i} for i, run_id in enumerate(ids)]
                connection.execute(members.insert(), rows)
            before = connection.execute(sa.select(sweeps.c.limits).where(sweeps.c.sweep == sweep)).first()
            if before is None:
                connection.execute(sweeps.insert().values(sweep=sweep, declared=now(), **declared))
            else:
                connection.execute(sweeps.update().where(sweeps.c.sweep == sweep).values(**declared))
            if before is not None and before.limits != limits:
                _move(connection, ids, QUEUED, (BLOCKED,), None)
        return len(new)

    def recover(self) -> int:
        """Queue again the runs that a dead coordinator left running, and kill its workers; returns how many runs.

        The lock of a file proves that no other coordinator of this host is alive; on a shared store its process is
        looked up. Runs of another host are taken over when their lease has run out.
        """
        now = dt.datetime.now(dt.UTC).timestamp()
        of = sa.func.coalesce(attempts.c.coordinator, attempts.c.host + "/")
        worker = [attempts.c[name] for name in ("host", "boot_id", "pid", "pid_started")]
        running = (
            sa.select(runs.c.run_id, runs.c.attempt, *worker, attempts.c.lease, of.label("coordinator"))
            .join(attempts, _current())
            .where(runs.c.state == RUNNING)
        )
        with self._store.reading() as connection:
            rows = connection.execute(running).all()
        orphans = [row for row in rows if row.lease < now or self._is_over(row.coordinator)]
        for process in {Process(*row[2:6]) for row in orphans if row.pid_started is not None}:
            process.kill()  # its checkpoints would mix with those of the next attempt
        ends = [End(row.run_id, row.attempt, QUEUED, "lost", "its coordinator ended") for row in orphans]
        return len(self.settle(ends))

    def _is_over(self, coordinator: str) -> bool:
        """Whether a coordinator (`host/boot/pid/start`) of this host has ended."""
        here = this_process()
        host, boot, pid, started = [*coordinator.rsplit("/", 3), "", "", ""][:4]
        if host != here.host:
            return False
        return not (self._store.shared and started and Process(host, boot, int(pid), int(started)).alive())

    def abandoned(self, coordinator: str, lease: float | None, *, held: bool) -> bool:
        """Whether nobody trains a running run any more: its coordinator has ended, or has not renewed its lease.

        `held` is whether a process holds the lock of a table that is a file.
        """
        if self._store.shared:
            held = not self._is_over(coordinator)
        return not held or (lease or 0.0) < dt.datetime.now(dt.UTC).timestamp()

    def claim(
        self,
        run_ids: Sequence[str],
        reserved: Mapping[str, int] | None = None,
        stacks: Mapping[str, int] | None = None,
    ) -> dict[str, int]:
        """Claim queued runs for this coordinator; returns run_id -> attempt, the fencing token.

        Runs that are not queued are left out. `reserved` holds the FLOPs that the budget sets aside for each run,
        `stacks` the number of runs in its stack. Records of earlier attempts are deleted: the run begins again, or
        brings them along from its checkpoint.
        """
        who = {"coordinator": "/".join(map(str, this_process())), "started": now(), "lease": _lease()}
        claiming = _claiming(shared=self._store.shared)
        with self._store.transaction() as connection:
            rows = connection.execute(claiming, {"run_ids": list(run_ids)})
            claimed = {run_id: attempt for run_id, attempt in rows}  # noqa: C416 - rows, not pairs
            if again := [run_id for run_id, attempt in claimed.items() if attempt > 1]:
                connection.execute(_FORGET, {"run_ids": again})
            if claimed:
                price, stack, alike = reserved or {}, stacks or {}, len(claimed)
                begun = [
                    {**who, "run_id": run, "attempt": n, "reserved": price.get(run), "stack": stack.get(run, alike)}
                    for run, n in claimed.items()
                ]
                connection.execute(_BEGIN, begun)
        return claimed

    def renew(self, claimed: dict[str, int]) -> None:
        """Extend the leases of claimed runs."""
        self._note(claimed, {"lease": _lease()})

    def began(self, claimed: dict[str, int], worker: Process) -> None:
        """Note the process that trains claimed runs."""
        host, boot_id, pid, started = worker
        self._note(claimed, {"host": host, "boot_id": boot_id, "pid": pid, "pid_started": started})

    def _note(self, claimed: dict[str, int], values: dict[str, Any]) -> None:
        rows = [{"run_id": run_id, "attempt": attempt, **values} for run_id, attempt in claimed.items()]
        with self._store.transaction() as connection:
            _update_all(connection, attempts, rows)

    def resume(self, resumed: Resumed, attempt: int) -> None:
        """Note that a claimed run continues from a checkpoint, with the records made before it."""
        begun = {
            "resumed_step": resumed.step,
            "resumed_flops": resumed.flops,
            "resumed_seconds": resumed.seconds,
        }
        with self._store.transaction() as connection:
            if resumed.run_id not in _standing(connection, {resumed.run_id: attempt}):
                return
            this = (attempts.c.run_id == resumed.run_id) & (attempts.c.attempt == attempt)
            connection.execute(attempts.update().where(this).values(**begun))
            if resumed.history:
                _append(connection, [record.to_dict() for record in resumed.history])

    def record(self, records: Sequence[Record], claimed: dict[str, int]) -> None:
        """Append records of claimed runs, in one transaction; those of attempts that are over are ignored."""
        if not records:
            return
        tokens = {record.run_id: claimed[record.run_id] for record in records}
        with self._store.transaction() as connection:
            mine = _standing(connection, tokens)
            if rows := [record.to_dict() for record in records if record.run_id in mine]:
                _append(connection, rows)

    def settle(self, ends: Sequence[End]) -> set[str]:
        """End attempts in one transaction and charge what they spent; returns the ids of their runs."""
        if not ends:
            return set()
        with self._store.transaction() as connection:
            standing = _standing(connection, {end.run_id: end.attempt for end in ends})
            mine = [end for end in ends if end.run_id in standing]
            last = last_records(connection, [end.run_id for end in mine if end.result is None])
            changes = [rows_of(end, standing[end.run_id], *last.get(end.run_id, (None, None))) for end in mine]
            _update_all(connection, runs, [run for run, _ in changes])
            _update_all(connection, attempts, [attempt for _, attempt in changes])
            whole = [end.result for end in mine if end.result is not None and end.state in KEPT]
            if whole:
                connection.execute(_FORGET, {"run_ids": [result.run_id for result in whole]})
                if rows := [record.to_dict() for result in whole for record in result.history]:
                    connection.execute(_RECORD, rows)
        return {end.run_id for end in mine}

    def finish(self, results: Sequence[RunResult], claimed: dict[str, int]) -> None:
        """End runs as done or diverged, with their results and all records."""
        self.settle([End(r.run_id, claimed[r.run_id], r.state, r.state, result=r) for r in results])

    def release(self, claimed: dict[str, int], outcome: str, reason: str, exception: str | None = None) -> None:
        """Queue claimed runs again: interrupted, or with a lost worker, or to be tried in another way."""
        self.settle(
            [End(run_id, attempt, QUEUED, outcome, reason, exception) for run_id, attempt in claimed.items()]
        )

    def fail(self, claimed: dict[str, int], reason: str, traceback: str, exception: str | None = None) -> None:
        """End claimed runs as failed, with a one-line reason and a traceback."""
        why = (reason, exception, traceback)
        self.settle([End(run_id, attempt, FAILED, "failed", *why) for run_id, attempt in claimed.items()])

    def move(self, run_ids: Iterable[str], state: str, *, of: Sequence[str], reason: str | None = None) -> int:
        """Move runs that are in one of the states `of` (not running) to another; returns how many moved."""
        assert all(state in MOVES[before] and before != RUNNING for before in of)
        with self._store.transaction() as connection:
            return _move(connection, list(run_ids), state, of, reason)

    def cancel(self, run_ids: Iterable[str]) -> tuple[int, int]:
        """Cancel queued and blocked runs, and ask running ones to leave; returns how many of each.

        One statement under the row's lock decides each run, so that none is missed that is claimed or released
        meanwhile. The request outlives the coordinator: an attempt that ends as queued is then cancelled.
        """
        waiting, states = runs.c.state.in_((QUEUED, BLOCKED)), list[str]()
        values = {
            "state": sa.case((waiting, CANCELLED), else_=runs.c.state),
            "asked": sa.case((waiting, sa.null()), else_=CANCELLED),
            "reason": sa.case((waiting, CANCELLED_BY_HAND), else_=runs.c.reason),
        }
        with self._store.transaction() as connection:
            for there in _locked(connection, run_ids, (QUEUED, BLOCKED, RUNNING)):
                states += connection.execute(
                    runs.update().where(there).values(values).returning(runs.c.state)
                ).scalars()
        return states.count(CANCELLED), states.count(RUNNING)

    def changed(self, names: Iterable[str], *, added: bool) -> None:
        """Announce changed sweeps to the coordinators that share this table (`Table.changes`)."""
        with self._store.transaction() as connection:
            serialise(connection)  # numbers become visible in their order
            number = 1 + sa.select(sa.func.max(sweeps.c.changed)).scalar_subquery()
            values = {"changed": number, **({"added": number} if added else {})}
            connection.execute(sweeps.update().where(sweeps.c.sweep.in_(names)).values(values))

    def prioritise(self, run_ids: Iterable[str], priority: int) -> int:
        """Set the priority of runs (higher trains first, default 0); returns how many there are."""
        with self._store.transaction() as connection:
            return sum(
                connection.execute(runs.update().where(there).values(priority=priority)).rowcount
                for there in _locked(connection, run_ids, STATES)
            )

    def tell(self, sweep: str, **values: Any) -> None:
        """Write columns of a sweep: `paused`, `seconds`, `seconds_left`, `message`."""
        with self._store.transaction() as connection:
            connection.execute(sweeps.update().where(sweeps.c.sweep == sweep).values(**values))


def _move(
    connection: sa.Connection, run_ids: Sequence[str], state: str, of: Sequence[str], reason: str | None
) -> int:
    return sum(
        connection.execute(runs.update().where(there).values(state=state, reason=reason)).rowcount
        for there in _locked(connection, run_ids, of)
    )


def _locked(
    connection: sa.Connection, run_ids: Iterable[str], states: Sequence[str]
) -> Iterator[sa.ColumnElement[bool]]:
    """Lock the rows of runs in some states, and yield conditions that select them, IDS_AT_ONCE at a time.

    All writers lock rows in the order of their ids, so that two never wait for each other.
    """
    for some in in_parts(sorted(run_ids)):
        there = runs.c.run_id.in_(some) & runs.c.state.in_(states)
        if connection.dialect.name == "postgresql":
            connection.execute(sa.select(runs.c.run_id).where(there).order_by(runs.c.run_id).with_for_update())
        yield there


def _update_all(connection: sa.Connection, table: sa.Table, rows: Iterable[Mapping[str, Any]]) -> None:
    """Update rows by their primary key and new values, those with the same columns in one statement."""
    key, alike = table.primary_key.columns.keys(), dict[tuple[str, ...], list[dict[str, Any]]]()
    for row in rows:
        alike.setdefault(tuple(row), []).append({f"_{name}" if name in key else name: row[name] for name in row})
    for some in alike.values():
        connection.execute(_updating(table), some)


@functools.cache
def _updating(table: sa.Table) -> sa.Update:
    """The statement, since building it takes as long as a row."""
    return table.update().where(
        sa.and_(*(column == sa.bindparam(f"_{column.name}") for column in table.primary_key))
    )


def _append(connection: sa.Connection, rows: list[dict[str, Any]]) -> None:
    """Insert records. Those that are present are skipped: a commit may have succeeded and its answer been lost."""
    insert: Any = _RECORD
    if connection.dialect.name == "postgresql":
        from sqlalchemy.dialects import postgresql

        insert = postgresql.insert(records).on_conflict_do_nothing()
    connection.execute(insert, rows)


def in_parts(run_ids: Iterable[str]) -> Iterator[list[str]]:
    """Run ids in lists of at most IDS_AT_ONCE."""
    ids = list(run_ids)
    return (ids[i : i + IDS_AT_ONCE] for i in range(0, len(ids), IDS_AT_ONCE))


def _standing(connection: sa.Connection, claimed: Mapping[str, int]) -> dict[str, sa.Row[Any]]:
    """Rows of the runs, by run_id, whose current attempt has the given token; their rows are locked."""
    rows = connection.execute(_STANDING, {"run_ids": list(claimed)})
    return {row.run_id: row for row in rows if row.attempt == claimed[row.run_id]}


def _current() -> sa.ColumnElement[bool]:
    return (attempts.c.run_id == runs.c.run_id) & (attempts.c.attempt == runs.c.attempt)


def _lease() -> float:
    return dt.datetime.now(dt.UTC).timestamp() + LEASE


# Statements of every end and claim. Building one takes longer than executing it.

_IDS: sa.BindParameter[Any] = sa.bindparam("run_ids", expanding=True)
_STATE = sa.cast(runs.c.state, sa.Text)
"""The state of runs that are named by their ids, hidden from SQLite, which else reads all runs in that state."""
_FORGET = records.delete().where(records.c.run_id.in_(_IDS))
_RECORD = records.insert()
_BEGIN = attempts.insert()
_STANDING = (
    sa.select(
        *(runs.c[name] for name in ("run_id", "attempt", "dataset_size", "charged_flops", "asked")),
        *(attempts.c[name] for name in ("resumed_step", "resumed_flops", "resumed_seconds")),
    )
    .join(attempts, _current())
    .where(runs.c.run_id.in_(_IDS), _STATE == RUNNING)
    .order_by(runs.c.run_id)
    .with_for_update(of=runs)  # with several writers, the second finds that the attempt is over
)


@functools.cache
def _claiming(*, shared: bool) -> Any:
    there = runs.c.run_id.in_(_IDS) & (_STATE == QUEUED)
    if shared:
        there &= runs.c.run_id.in_(sa.select(runs.c.run_id).where(there).with_for_update(skip_locked=True))
    taken = {"state": RUNNING, "attempt": runs.c.attempt + 1, "reason": None, "asked": None}
    return runs.update().where(there).values(taken).returning(runs.c.run_id, runs.c.attempt)
