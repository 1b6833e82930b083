"""From the results table to an exporter: what is new since the last call, while a sweep trains or afterwards."""

from __future__ import annotations

import contextlib
import datetime as dt
import math
import threading
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from orchestrator.exporters.exporter import ExportedRecord, ExportedRun, Exporter, exporter_of
from orchestrator.store.engine import TableError, name_of
from orchestrator.store.schema import (
    BLOCKED,
    PLANNED,
    QUEUED,
    RESULT_COLUMNS,
    RUNNING,
    attempts,
    members,
    records,
    runs,
)
from orchestrator.store.table import Table
from trainer.host import installation

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

PERIOD = 2.0
"""Seconds between two looks at the table of a sweep in training."""

AT_ONCE = 100
"""Runs of a finished sweep that are open at once."""

_GOING = (QUEUED, BLOCKED, RUNNING)
_PATHS = ("path", "start")
_SETTINGS = ["cell_id", "model", *PLANNED, "params", "planned_flops"]
_METRICS = ("train_loss", "loss", "error", "examples", "flops", "seconds")


class TableExport:
    """Exports the runs of some sweeps of a table (default: of all) that have begun to train.

    `update` writes what is new since the last call. Runs in `without` are left out.
    """

    def __init__(
        self, table: Table, exporter: Exporter, sweeps: Sequence[str] | None = None, without: Collection[str] = ()
    ) -> None:
        self._table, self._exporter, self._sweeps = table, exporter, sweeps
        self._over = set(without)
        self._open: dict[str, tuple[ExportedRun, int]] = {}
        self.count = 0

    def update(self, only: Collection[str] | None = None) -> None:
        """Write new runs, records and ends; with `only`, of these runs."""
        states = {
            run_id: state
            for run_id, state in started(self._table, self._sweeps).items()
            if run_id not in self._over and (only is None or run_id in only)
        }
        ids = list(states)
        for first in range(0, len(ids), AT_ONCE):
            some = ids[first : first + AT_ONCE]
            for run in self._described([run_id for run_id in some if run_id not in self._open]):
                self._exporter.begin(run)
                self._open[run.run_id] = run, -1
                self.count += 1
            self._record(some)
            self._end([run_id for run_id in some if states[run_id] not in _GOING])

    def finish(self) -> None:
        """End the runs that are still open as they stand, and close the exporter."""
        self._end(list(self._open))
        self._exporter.close()

    def _described(self, run_ids: Sequence[str]) -> Iterator[ExportedRun]:
        columns = [runs.c[name] for name in ("run_id", *_SETTINGS)]
        query = (
            sa.select(*columns, members.c.sweep, attempts.c.started)
            .join(members, members.c.run_id == runs.c.run_id)
            .join(attempts, (attempts.c.run_id == runs.c.run_id) & (attempts.c.attempt == 1))
            .where(runs.c.run_id.in_(run_ids), *self._inside)
            .order_by(members.c.sweep.desc(), members.c.position)
        )
        rows = {row["run_id"]: row for row in self._table.rows(query)}  # of several sweeps the first by name
        for run_id, row in rows.items():
            settings = {name: row[name] for name in _SETTINGS if row[name] not in (None, "")}
            settings |= {name: name_of(settings[name]) for name in _PATHS if name in settings}
            name = f"{row['model']} lr {row['lr']:g} seed {row['seed']} {run_id[:8]}"
            started = dt.datetime.fromisoformat(row["started"]).timestamp()
            yield ExportedRun(run_id, row["sweep"], name, settings, started)

    def _record(self, run_ids: Sequence[str]) -> None:
        query = sa.select(records).where(records.c.run_id.in_(run_ids)).order_by(records.c.run_id, records.c.step)
        new: dict[str, list[ExportedRecord]] = {}
        for row in self._table.rows(query):
            run, last = self._open[row["run_id"]]
            if row["step"] > last:
                record = ExportedRecord(row["step"], run.started + row["seconds"], _numbers(row, _METRICS))
                new.setdefault(run.run_id, []).append(record)
        for run_id, some in new.items():
            self._exporter.record(run_id, some)
            self._open[run_id] = self._open[run_id][0], some[-1].step

    def _end(self, run_ids: Sequence[str]) -> None:
        names = [name for name in RESULT_COLUMNS if not isinstance(runs.c[name].type, sa.Text)]
        query = sa.select(*(runs.c[name] for name in ("run_id", "state", *names)))
        for row in self._table.rows(query.where(runs.c.run_id.in_(run_ids))):
            self._exporter.end(row["run_id"], row["state"], _numbers(row, names))
            del self._open[row["run_id"]]
            self._over.add(row["run_id"])

    @property
    def _inside(self) -> list[sa.ColumnElement[bool]]:
        return [] if self._sweeps is None else [members.c.sweep.in_(self._sweeps)]


def _numbers(row: Mapping[str, Any], names: Sequence[str]) -> dict[str, float]:
    """The finite numbers of a row: what was not measured is not exported."""
    return {name: row[name] for name in names if row[name] is not None and math.isfinite(row[name])}


def started(table: Table, sweeps: Sequence[str] | None) -> dict[str, str]:
    """The states of the runs of some sweeps (default: of all) that were ever begun, in the order of the plan."""
    query = sa.select(runs.c.run_id, runs.c.state).join(members, members.c.run_id == runs.c.run_id)
    query = query.where(runs.c.attempt > 0).order_by(members.c.sweep, members.c.position)
    if sweeps is not None:
        query = query.where(members.c.sweep.in_(sweeps))
    return {row["run_id"]: row["state"] for row in table.rows(query)}


def export(store: str, target: str, sweep: str | None = None, *, only: Collection[str] | None = None) -> int:
    """Write the runs of a table, or of one sweep, to `NAME[:WHERE]`; returns how many were written.

    `only` names the runs to write. Raises ExporterError for an unknown target, and what its library raises.
    """
    exporter, where = exporter_of(target)
    with Table(store) as table:
        whole = TableExport(table, exporter(where), None if sweep is None else [sweep])
        try:
            whole.update(only)
        finally:
            whole.finish()
    return whole.count


@contextlib.contextmanager
def exporting(
    targets: Sequence[str], store: str, sweeps: Sequence[str] | None, say: Callable[[str], None]
) -> Iterator[None]:
    """Export the runs that train while the block runs, to each target in a thread of its own.

    Where one fails, `say` gets one line.
    """
    over: set[str] = set()
    if targets:
        with contextlib.suppress(TableError), Table(store) as table:
            ended = started(table, sweeps)
            over = {run_id for run_id, state in ended.items() if state not in _GOING}
    exports = [_LiveExport(target, store, sweeps, over, say) for target in targets]
    for live in exports:
        live.start()
    try:
        yield
    finally:
        for live in exports:
            live.finish()


class _LiveExport(threading.Thread):
    """Looks at a table every PERIOD seconds, and exports what is new."""

    def __init__(
        self,
        target: str,
        store: str,
        sweeps: Sequence[str] | None,
        without: Collection[str],
        say: Callable[[str], None],
    ) -> None:
        super().__init__(name=f"export to {target}", daemon=True)
        self._target, self._store, self._sweeps = target, store, sweeps
        self._without, self._say = without, say
        self._asked = threading.Event()

    def finish(self) -> None:
        """Have what is left exported, and wait for it."""
        self._asked.set()
        self.join(PERIOD)
        if self.is_alive():
            self._say(f"finishing the export to {self._target}; Ctrl-C leaves it")
            self.join()

    def run(self) -> None:
        """Export until asked to finish; whatever goes wrong is said once."""
        try:
            self._export()
        except Exception as error:  # noqa: BLE001 - a library's, of any kind: the sweep goes on
            why = next(iter(str(error).splitlines()), "") or "no reason given"
            of = "" if self._sweeps is None else f"{' '.join(self._sweeps)} "
            again = installation.command(f"export {of}--store {name_of(self._store)} --to {self._target}")
            self._say(
                f"the export to {self._target} has ended: {type(error).__name__}: {why}; the sweep goes on, its "
                f"results are in the table, and `{again}` exports them again"
            )

    def _export(self) -> None:
        exporter, where = exporter_of(self._target)
        table = self._opened()
        if table is None:
            return
        with table:
            export = TableExport(table, exporter(where), self._sweeps, self._without)
            while not self._asked.wait(PERIOD):
                export.update()
            export.update()
            export.finish()

    def _opened(self) -> Table | None:
        """The table, as soon as it is there; None if it never was."""
        over = False
        while not over:
            over = self._asked.wait(PERIOD / 10)  # looks once more: a short sweep is over by now
            with contextlib.suppress(TableError):
                return Table(self._store)
        return None
