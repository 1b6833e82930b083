"""An open results table: its file or database, its lock, its schema version."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Any, Self

import sqlalchemy as sa

from orchestrator.store.engine import (
    NoTableError,
    TableError,
    add_missing_columns,
    engine_of,
    is_held,
    locked,
    name_of,
    path_of,
    serialise,
)
from orchestrator.store.schema import VERSION, meta, metadata
from trainer.host import installation
from trainer.host.fsync import make_folder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


UNDEFINED = "42P01"
"""PostgreSQL's code for a table that is not there."""


class StoreConnection:
    """An open store, at a path or postgresql:// URL. `writable` takes a file's lock: one coordinator at a time.

    On PostgreSQL (`shared`) several coordinators write: claims skip rows that others have locked. Raises TableError
    if it is not a results table, or one of another version; TableBusyError if another coordinator holds the lock.
    """

    def __init__(self, store: str | Path, *, writable: bool = False) -> None:
        self.name = str(store)
        self._lock = None
        self._open: sa.Connection | None = None
        path = path_of(self.name)
        if path is not None:
            if not writable and not path.exists():
                make = installation.command(f"run FILE --store {path}")
                raise NoTableError(f"no results table at {path}; `{make}` makes one")
            if writable:
                make_folder(path.parent)
                self._lock = locked(path)
        self._engine = engine_of(self.name, path, writable=writable)
        try:
            self._check(writable=writable)
        except sa.exc.DatabaseError as error:
            self.close()
            why = " ".join(str(error.orig).split())
            unmade = is_held(self.name) if path else getattr(error.orig, "sqlstate", "") == UNDEFINED
            raise (NoTableError if unmade and not writable else TableError)(
                f"{name_of(self.name)} is not a results table: {why}"
            ) from error

    def _check(self, *, writable: bool) -> None:
        if writable:
            with self._engine.begin() as connection:
                serialise(connection)
                metadata.create_all(connection)
                version = connection.execute(sa.select(meta.c.version)).scalar()
                if version is None:
                    connection.execute(meta.insert().values(version=VERSION))
                elif version < VERSION:
                    add_missing_columns(connection, metadata)
                    connection.execute(meta.update().values(version=VERSION))
        with self.reading() as connection:
            version = connection.execute(sa.select(meta.c.version)).scalar()
        if version != VERSION:
            self.close()
            older = version is not None and version < VERSION
            upgrade = installation.command(f"run FILE --store {name_of(self.name)}")
            remedy = f"; `{upgrade}` upgrades it" if older else ""
            raise TableError(
                f"{name_of(self.name)} has schema version {version}, this isoflop reads {VERSION}{remedy}"
            )

    @property
    def shared(self) -> bool:
        """Whether several coordinators may write at once."""
        return self._engine.dialect.name == "postgresql"

    def close(self) -> None:
        """Close the connections and release the lock."""
        self._engine.dispose()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextlib.contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """A connection for reading; use `transaction` to write."""
        with self._engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            yield connection

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sa.Connection]:
        """One transaction. Inside another, it is part of that one: all of it is written, or nothing."""
        if self._open is not None:
            yield self._open
            return
        with self._engine.begin() as connection:
            self._open = connection
            try:
                yield connection
            finally:
                self._open = None

    @property
    def engine(self) -> sa.Engine:
        """SQLAlchemy's engine."""
        return self._engine

    def meta(self, column: sa.Column[Any]) -> Any:
        """A value that belongs to the store as a whole."""
        with self.reading() as connection:
            return connection.execute(sa.select(column)).scalar()

    def set_meta(self, **values: Any) -> None:
        """Replace values that belong to the store as a whole."""
        with self.transaction() as connection:
            connection.execute(meta.update().values(**values))
