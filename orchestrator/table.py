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
import fcntl
import os
import platform
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import sqlalchemy as sa

from orchestrator.planner import run_flops
from trainer import cost
from trainer.spec import RunSpec, model_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pandas as pd

    from orchestrator.planner import Plan
    from trainer.result import Record, RunResult

VERSION = 1
"""Version of the schema, kept in the table `meta`."""

QUEUED, RUNNING, DONE, FAILED, DIVERGED = "queued", "running", "done", "failed", "diverged"
LEASE = 60.0
"""Seconds after which another host may take a running run whose coordinator has not renewed it."""

_KIND: dict[str, Any] = {"int": sa.Integer, "float": sa.Float, "str": sa.Text}
_SPENT = ("steps", "examples", "epochs")  # a spec's plan of them stands in planned_flops and the spec itself
_metadata = sa.MetaData()


def _kind(annotation: str) -> Any:
    return _KIND.get(annotation.partition(" | ")[0], sa.Text)


_meta = sa.Table("meta", _metadata, sa.Column("version", sa.Integer, nullable=False))
_runs = sa.Table(
    "runs",
    _metadata,
    sa.Column("run_id", sa.Text, primary_key=True),
    sa.Column("cell_id", sa.Text, nullable=False, index=True),
    sa.Column("state", sa.Text, nullable=False, index=True),
    sa.Column("attempt", sa.Integer, nullable=False, default=0),
    sa.Column("model", sa.Text),
    *(sa.Column(f.name, _kind(str(f.type))) for f in fields(RunSpec) if f.name not in _SPENT),
    *(sa.Column(name, sa.Integer) for name in ("params", "params_embed", "params_body", "params_head")),
    sa.Column("planned_flops", sa.BigInteger),
    *(sa.Column(name, sa.BigInteger) for name in ("steps", "examples", "flops", "flops_paper", "flops_6nd")),
    sa.Column("flops_rule", sa.Text),
    *(sa.Column(name, sa.Float) for name in ("epochs", "error", "loss", "train_loss", "seconds")),
    sa.Column("device", sa.Text),
    *(sa.Column(name, sa.Integer) for name in ("threads", "stack")),
    sa.Column("reason", sa.Text),
    sa.Column("spec", sa.JSON, nullable=False),
)
_members = sa.Table(
    "members",
    _metadata,
    sa.Column("sweep", sa.Text, primary_key=True),
    sa.Column("run_id", sa.Text, sa.ForeignKey("runs.run_id"), primary_key=True),
    sa.Column("position", sa.Integer, nullable=False),
)
_sweeps = sa.Table(
    "sweeps",
    _metadata,
    sa.Column("sweep", sa.Text, primary_key=True),
    sa.Column("declared", sa.Text, nullable=False),
    sa.Column("file", sa.Text, nullable=False),
)
_history = sa.Table(
    "history",
    _metadata,
    sa.Column("run_id", sa.Text, sa.ForeignKey("runs.run_id"), primary_key=True),
    sa.Column("step", sa.BigInteger, primary_key=True),
    *(sa.Column(name, sa.BigInteger) for name in ("examples", "flops")),
    *(sa.Column(name, sa.Float) for name in ("seconds", "train_loss", "loss", "error")),
)
_attempts = sa.Table(
    "attempts",
    _metadata,
    sa.Column("run_id", sa.Text, sa.ForeignKey("runs.run_id"), primary_key=True),
    sa.Column("attempt", sa.Integer, primary_key=True),
    sa.Column("host", sa.Text),
    sa.Column("pid", sa.Integer),
    sa.Column("stack", sa.Integer),
    sa.Column("started", sa.Text),
    sa.Column("lease", sa.Float),
    sa.Column("ended", sa.Text),
    sa.Column("outcome", sa.Text),
    sa.Column("reason", sa.Text),
    sa.Column("traceback", sa.Text),
    sa.Column("flops", sa.BigInteger),
    sa.Column("seconds", sa.Float),
)


class TableError(RuntimeError):
    """A table that cannot be used: the message says which, why, and what to do."""


class Table:
    """The results table at a path or SQLAlchemy URL. `writable` takes its lock: one coordinator at a time.

    Raises TableError where it is no table of ours, of another version, or another coordinator holds it.
    """

    def __init__(self, store: str | Path, *, writable: bool = False) -> None:
        self.store = str(store)
        self._lock = None
        path = _path_of(self.store)
        if path is not None:
            if not writable and not path.exists():
                raise TableError(f"no results table at {path}; `isoflop run FILE --store {path}` makes one")
            if writable:
                path.parent.mkdir(parents=True, exist_ok=True)
                self._lock = _locked(path)
        self._engine = _engine(self.store, path, writable=writable)
        try:
            self._check(writable=writable)
        except sa.exc.DatabaseError as error:
            self.close()
            raise TableError(f"{self.store} is no results table: {error.orig}") from error

    def _check(self, *, writable: bool) -> None:
        if writable:
            _metadata.create_all(self._engine)
        with self._reading() as connection:
            version = connection.execute(sa.select(_meta.c.version)).scalar()
        if version is None and writable:
            with self._engine.begin() as connection:
                connection.execute(_meta.insert().values(version=VERSION))
        elif version != VERSION:
            self.close()
            raise TableError(f"{self.store} has schema version {version}, this isoflop reads {VERSION}")

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

    # the queue

    def enqueue(self, planned: Plan) -> int:
        """Add what is missing of a plan, queued; runs that are here stay as they are. Returns how many are new.

        The sweep's membership becomes the plan's: a run that the file no longer declares leaves the sweep and
        stays in the table.
        """
        rows = [_row(run) for run in planned.runs]
        with self._engine.begin() as connection:
            known = set(connection.execute(sa.select(_runs.c.run_id)).scalars())
            new = [row for row in rows if row["run_id"] not in known]
            if new:
                connection.execute(_runs.insert(), new)
            connection.execute(_members.delete().where(_members.c.sweep == planned.sweep))
            connection.execute(
                _members.insert(),
                [{"sweep": planned.sweep, "run_id": r["run_id"], "position": i} for i, r in enumerate(rows)],
            )
            connection.execute(_sweeps.delete().where(_sweeps.c.sweep == planned.sweep))
            declared = {"sweep": planned.sweep, "declared": _now(), "file": planned.text}
            connection.execute(_sweeps.insert().values(declared))
        return len(new)

    def recover(self) -> int:
        """Queue again what a dead coordinator left running; returns how many.

        Whoever holds the lock knows that no other coordinator of this host is alive; runs of another host are
        taken when their lease has run out.
        """
        now = dt.datetime.now(dt.UTC).timestamp()
        with self._engine.begin() as connection:
            orphans = connection.execute(
                sa.select(_runs.c.run_id, _runs.c.attempt)
                .join(
                    _attempts,
                    (_attempts.c.run_id == _runs.c.run_id) & (_attempts.c.attempt == _runs.c.attempt),
                )
                .where(
                    _runs.c.state == RUNNING,
                    (_attempts.c.host == platform.node()) | (_attempts.c.lease < now),
                )
            ).all()
            for run_id, attempt in orphans:
                self._end(connection, run_id, attempt, QUEUED, "lost", "its coordinator ended")
        return len(orphans)

    def queued(self, sweep: str) -> list[RunSpec]:
        """Specs of a sweep's queued runs, in the order of the plan."""
        query = (
            sa.select(_runs.c.spec)
            .join(_members, _members.c.run_id == _runs.c.run_id)
            .where(_members.c.sweep == sweep, _runs.c.state == QUEUED)
            .order_by(_members.c.position)
        )
        with self._reading() as connection:
            return [RunSpec(**spec) for spec in connection.execute(query).scalars()]

    def claim(self, run_ids: Sequence[str]) -> dict[str, int]:
        """Take queued runs for this coordinator: run_id -> attempt, its fencing token. Others are left out.

        What an earlier attempt recorded is dropped, since the run starts again.
        """
        lease = dt.datetime.now(dt.UTC).timestamp() + LEASE
        taking = (
            _runs.update()
            .where(_runs.c.run_id.in_(run_ids), _runs.c.state == QUEUED)
            .values(state=RUNNING, attempt=_runs.c.attempt + 1, reason=None)
            .returning(_runs.c.run_id, _runs.c.attempt)
        )
        with self._engine.begin() as connection:
            claimed = {run_id: attempt for run_id, attempt in connection.execute(taking)}  # noqa: C416
            if claimed:
                connection.execute(_history.delete().where(_history.c.run_id.in_(claimed)))
                who = {"host": platform.node(), "pid": os.getpid(), "started": _now(), "lease": lease}
                connection.execute(
                    _attempts.insert(),
                    [{"run_id": r, "attempt": a, "stack": len(claimed), **who} for r, a in claimed.items()],
                )
        return claimed

    def renew(self, claimed: dict[str, int]) -> None:
        """Extend the leases of runs in flight."""
        lease = dt.datetime.now(dt.UTC).timestamp() + LEASE
        with self._engine.begin() as connection:
            for run_id, attempt in claimed.items():
                connection.execute(_attempts.update().where(_this(run_id, attempt)).values(lease=lease))

    def record(self, records: Sequence[Record]) -> None:
        """Append records of runs in flight, in one transaction."""
        if records:
            with self._engine.begin() as connection:
                connection.execute(_history.insert(), [asdict(record) for record in records])

    def finish(self, results: Sequence[RunResult], claimed: dict[str, int]) -> None:
        """Write the ends of runs, done or diverged, and everything they recorded, in one transaction."""
        with self._engine.begin() as connection:
            for result in results:
                attempt = claimed[result.run_id]
                kept = {name: getattr(result, name) for name in _RESULT_COLUMNS}
                if not self._end(connection, result.run_id, attempt, result.state, result.state, None, kept):
                    continue
                connection.execute(_history.delete().where(_history.c.run_id == result.run_id))
                if result.history:
                    connection.execute(_history.insert(), [asdict(record) for record in result.history])

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

    def retry(self, sweep: str) -> int:
        """Queue a sweep's failed runs again; returns how many."""
        inside = sa.select(_members.c.run_id).where(_members.c.sweep == sweep)
        failed = _runs.update().where(_runs.c.state == FAILED, _runs.c.run_id.in_(inside))
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
        mine = (_runs.c.run_id == run_id) & (_runs.c.attempt == attempt) & (_runs.c.state == RUNNING)
        moved = connection.execute(
            _runs.update().where(mine).values(state=state, reason=reason, **_with_epochs(kept))
        ).rowcount
        if moved:
            ended = {"ended": _now(), "outcome": outcome, "reason": reason, "traceback": traceback}
            spent = {name: kept.get(name) for name in ("flops", "seconds")}
            connection.execute(_attempts.update().where(_this(run_id, attempt)).values(**ended, **spent))
        return bool(moved)

    # reading

    def counts(self, sweep: str | None = None) -> dict[str, int]:
        """Number of runs by state."""
        query = sa.select(_runs.c.state, sa.func.count()).group_by(_runs.c.state)
        if sweep is not None:
            query = query.where(_runs.c.run_id.in_(sa.select(_members.c.run_id).where(_members.c.sweep == sweep)))
        with self._reading() as connection:
            return {state: count for state, count in connection.execute(query)}  # noqa: C416 - rows, not pairs

    def sweeps(self) -> list[dict[str, Any]]:
        """Every sweep with its runs by state and its FLOPs, planned and spent, in the order declared."""
        query = (
            sa.select(
                _sweeps.c.sweep,
                sa.func.count().label("runs"),
                *(sa.func.sum(sa.case((_runs.c.state == s, 1), else_=0)).label(s) for s in STATES),
                sa.func.sum(_runs.c.planned_flops).label("planned_flops"),
                sa.func.sum(_runs.c.flops).label("flops"),
                sa.func.min(_runs.c.error).label("best_error"),
            )
            .join(_members, _members.c.sweep == _sweeps.c.sweep)
            .join(_runs, _runs.c.run_id == _members.c.run_id)
            .group_by(_sweeps.c.sweep)
            .order_by(_sweeps.c.declared)
        )
        with self._reading() as connection:
            return [dict(row) for row in connection.execute(query).mappings()]

    def failures(self, sweep: str) -> list[dict[str, Any]]:
        """Failed runs of a sweep: run_id, model, reason and the last attempt's traceback."""
        query = (
            sa.select(_runs.c.run_id, _runs.c.model, _runs.c.seed, _runs.c.reason, _attempts.c.traceback)
            .join(_members, _members.c.run_id == _runs.c.run_id)
            .join(_attempts, (_attempts.c.run_id == _runs.c.run_id) & (_attempts.c.attempt == _runs.c.attempt))
            .where(_members.c.sweep == sweep, _runs.c.state == FAILED)
            .order_by(_members.c.position)
        )
        with self._reading() as connection:
            return [dict(row) for row in connection.execute(query).mappings()]

    def frame(self, what: str = "runs", sweep: str | None = None) -> pd.DataFrame:
        """`runs`, `history` or `attempts` as a DataFrame; runs with a `sweep` column, in the order of the plan."""
        import pandas as pd

        table = {"runs": _runs, "history": _history, "attempts": _attempts}[what]
        columns = [column for column in table.c if column.name != "spec"]
        if what == "runs":
            columns.insert(1, _members.c.sweep)
        query = sa.select(*columns).outerjoin(_members, _members.c.run_id == table.c.run_id)
        if sweep is not None:
            query = query.where(_members.c.sweep == sweep)
        order = {"history": [_history.c.step], "attempts": [_attempts.c.attempt]}.get(what, [])
        with self._reading() as connection:
            found = connection.execute(query.order_by(_members.c.sweep, _members.c.position, *order)).all()
        return pd.DataFrame(found, columns=[column.name for column in columns]).drop_duplicates(ignore_index=True)


STATES = (QUEUED, RUNNING, DONE, FAILED, DIVERGED)
_RESULT_COLUMNS = (
    *("error", "loss", "train_loss", "steps", "examples", "flops", "flops_paper", "flops_6nd"),
    *("seconds", "device", "threads", "stack"),
)


def results(store: str | Path = "isoflop.db", sweep: str | None = None) -> pd.DataFrame:
    """One row a run with plain columns (docs/columns.md), ready for pandas and `analysis`."""
    with Table(store) as table:
        return table.frame("runs", sweep)


def history(store: str | Path = "isoflop.db", sweep: str | None = None) -> pd.DataFrame:
    """One row a record: the metrics of every run at its log-spaced evaluations."""
    with Table(store) as table:
        return table.frame("history", sweep)


def _row(run: RunSpec) -> dict[str, Any]:
    shape = cost.shape_of(run)
    params = cost.params(shape)
    spec = asdict(run)
    return {
        **{name: value for name, value in spec.items() if name not in _SPENT},
        "run_id": run.run_id,
        "cell_id": run.cell_id,
        "state": QUEUED,
        "attempt": 0,
        "model": model_name(run),
        "params": params.total,
        "params_embed": params.embed,
        "params_body": params.body,
        "params_head": params.head,
        "planned_flops": run_flops(run),
        "flops_rule": cost.FLOPS_RULE,
        "spec": spec,
    }


def _with_epochs(kept: dict[str, Any]) -> dict[str, Any]:
    if not kept:
        return {}
    return {**kept, "epochs": sa.cast(kept["examples"], sa.Float) / _runs.c.dataset_size}


def _this(run_id: str, attempt: int) -> sa.ColumnElement[bool]:
    return (_attempts.c.run_id == run_id) & (_attempts.c.attempt == attempt)


def _now() -> str:
    return dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds")


def _path_of(store: str) -> Path | None:
    """The file of a SQLite store; None for another database."""
    if "://" not in store:
        return Path(store).expanduser()
    url = sa.make_url(store)
    return Path(url.database) if url.get_backend_name() == "sqlite" and url.database else None


def _engine(store: str, path: Path | None, *, writable: bool) -> sa.Engine:
    if path is None:
        return sa.create_engine(store)
    location = str(path.absolute()) if writable else f"file:{path.absolute()}?mode=ro&uri=true"
    engine = sa.create_engine(f"sqlite:///{location}", connect_args={"timeout": 30.0}, poolclass=sa.pool.StaticPool)

    @sa.event.listens_for(engine, "connect")
    def _configure(connection: Any, _: object) -> None:
        connection.isolation_level = None  # our BEGIN, not the driver's
        if writable:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")

    @sa.event.listens_for(engine, "begin")
    def _begin(connection: sa.Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


def _locked(path: Path) -> int:
    held = os.open(path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        owner = os.read(held, 32).decode(errors="replace").strip()
        os.close(held)
        raise TableError(f"{path} is in use by another isoflop (pid {owner or 'unknown'}); wait for it") from error
    os.ftruncate(held, 0)
    os.pwrite(held, f"{os.getpid()}\n".encode(), 0)
    return held
