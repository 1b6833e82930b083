"""What differs between databases: opening, locking, transactions, errors that pass by themselves."""

from __future__ import annotations

import errno
import fcntl
import os
import re
from pathlib import Path
from typing import Any
from urllib.parse import quote

import sqlalchemy as sa

from trainer.errors import UserError
from trainer.host import installation
from trainer.host.urls import shown


class TableError(UserError, RuntimeError):
    """A table that cannot be used: the message says which, why, and what to do."""


class NoTableError(TableError):
    """There is no results table yet: no such file, or another process is just making the table."""


def path_of(store: str) -> Path | None:
    """The file of a SQLite store; None for another database."""
    if "://" not in store:
        return Path(store).expanduser()
    try:
        url = sa.make_url(store)
    except (sa.exc.ArgumentError, ValueError):  # whose texts may hold the password
        message = f"{name_of(store)!r} is neither a path nor a URL like postgresql://user@host/name"
        raise TableError(message) from None
    if "@" in (url.host or ""):
        raise TableError(f"{name_of(store)!r} has one @ too many; write @ in a user name or password as %40")
    return Path(url.database) if url.get_backend_name() == "sqlite" and url.database else None


def name_of(store: str) -> str:
    """A store as it is shown: a URL without its password. Also for words of a command that may hold one."""
    return re.sub(r"(password=)[^&\s]*", r"\1***", shown(store)) if "://" in store else store


def checkpoints_of(store: str) -> Path | None:
    """The folder for checkpoints beside a SQLite file; None for another database."""
    path = path_of(store)
    return None if path is None else path.absolute().with_name(path.name + ".checkpoints")


def engine_of(store: str, path: Path | None, *, writable: bool) -> sa.Engine:
    """An engine whose transactions begin by taking the write lock; read only unless `writable`.

    On PostgreSQL, where several coordinators write, rows are locked instead; see `serialise`.
    """
    if path is None:
        return _server(store, writable=writable)
    url = sa.URL.create("sqlite", database=str(path.absolute()))
    if not writable:
        url = url.set(database=f"file:{quote(str(path.absolute()))}", query={"mode": "ro", "uri": "true"})
    engine = sa.create_engine(url, connect_args={"timeout": 30.0}, poolclass=sa.pool.StaticPool)

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


def _server(store: str, *, writable: bool) -> sa.Engine:
    url = sa.make_url(store)
    if url.drivername not in ("postgresql", "postgres", "postgresql+psycopg"):
        raise TableError(f"{url.drivername}: a results table is a SQLite file or a postgresql:// URL")
    options = {"postgresql_readonly": not writable}
    try:
        return sa.create_engine(
            url.set(drivername="postgresql+psycopg"), execution_options=options, pool_pre_ping=True
        )
    except ModuleNotFoundError as error:
        raise TableError(f"{error.name} is missing; run: {installation.install_extra('postgres')}") from error


def serialise(connection: sa.Connection) -> None:
    """Make a transaction wait for others that call this, until they end. On SQLite all transactions do."""
    if connection.dialect.name == "postgresql":
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_OURS)))


_OURS = 0x150F10B
"""The key of our advisory lock in a PostgreSQL database."""


def add_missing_columns(connection: sa.Connection, metadata: sa.MetaData) -> None:
    """Add the columns that an older table lacks; their values are NULL."""
    inspector = sa.inspect(connection)
    present = {name: {column["name"] for column in inspector.get_columns(name)} for name in metadata.tables}
    for table in metadata.sorted_tables:
        for column in table.c:
            if column.name not in present[table.name]:
                kind = column.type.compile(connection.dialect)
                if column.server_default is not None:
                    kind += f" NOT NULL DEFAULT {column.server_default.arg}"  # type: ignore[attr-defined]
                connection.exec_driver_sql(f"ALTER TABLE {table.name} ADD COLUMN {column.name} {kind}")


_FULL = "the disk is full"
_SILENT = "the database does not answer"
CROSSED = "another coordinator changed the same rows"
_PASSING = {
    "database or disk is full": _FULL,
    "database is locked": "the table is locked by another program",
    "disk I/O error": "the disk does not answer",
}
"""Errors of SQLite that pass by themselves, in words."""
_STATES = {"": _SILENT, "08": _SILENT, "57": _SILENT, "40": CROSSED, "53": "the database is out of resources"}
"""Classes of errors of PostgreSQL that pass by themselves ("": it was not reached). 57: the server stops or starts;
53: its disk is full, or it has too many connections."""


def temporary_failure(error: BaseException) -> str | None:
    """Why the table cannot be written at the moment, in words; None if the error does not pass by itself."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return _FULL
    if not isinstance(error, sa.exc.OperationalError):
        return None
    if (state := getattr(error.orig, "sqlstate", "none")) != "none":
        return _STATES.get((state or "")[:2])
    return next((words for text, words in _PASSING.items() if text in str(error.orig)), None)


class TableBusyError(TableError):
    """Another coordinator holds the table's lock."""


def is_held(store: str) -> bool:
    """Whether a coordinator holds a table's lock."""
    path = path_of(store)
    if path is None:
        return False
    try:
        file = os.open(path.with_name(path.name + ".lock"), os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(file)
    return False


def locked(path: Path) -> int:
    """Take a table's lock file and write our pid into it; returns its descriptor. TableBusyError where held."""
    lock = os.open(path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        owner = os.read(lock, 32).decode(errors="replace").strip()
        os.close(lock)
        raise TableBusyError(
            f"{path} is in use by another isoflop (pid {owner or 'unknown'}); wait for it"
        ) from error
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
    return lock
