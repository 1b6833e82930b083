"""Requests of other terminals: files in a folder beside the table, executed by the holder of its lock.

A command takes the lock where nobody has it and acts itself. Where a coordinator has it, the command leaves its
request in `<table>.requests/`, written aside, synced and renamed, and waits for the answer beside it; should the
coordinator be gone meanwhile, the command takes the lock and obeys what lies there, its own request included. So a
request is obeyed once and by one process, whoever dies when (docs/decisions/0010-requests.md).

Where several write, in a PostgreSQL database, the command always acts itself and numbers its change. Coordinators
look whether the number has grown, and then which of their runs are to leave.
"""

from __future__ import annotations

import json
import os
import secrets
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import sqlalchemy as sa

from orchestrator.store.engine import (
    CROSSED,
    TableBusyError,
    TableError,
    name_of,
    path_of,
    serialise,
    temporary_failure,
)
from orchestrator.store.schema import spec_of
from orchestrator.store.table import Table
from orchestrator.sweep.planner import Plan
from orchestrator.sweep.sweep import Limits
from orchestrator.text import count
from trainer.spec import RunSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from orchestrator.store.table import Standing

BY_HAND = "by hand"
"""The reason of a pause by the user: a coordinator waits until the sweep is resumed."""

LOOK, LOCK = 0.05, 0.5
"""Seconds between two checks for the answer, and between two tries to take the lock."""

CHANGES = 0.1
"""Seconds between two checks for changes on a shared store: a query of less than a millisecond."""

_SHORTEST = 4


@dataclass(frozen=True)
class Request:
    """A verb and its objects: sweeps by name, runs by the beginning of their run_id. `add` has a `plan`."""

    verb: str
    what: tuple[str, ...] = ()
    priority: int = 0
    plan: Plan | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data, for a file."""
        fields = {"verb": self.verb, "what": self.what, "priority": self.priority}
        if (planned := self.plan) is None:
            return fields
        plan = {
            "sweep": planned.sweep,
            "text": planned.text,
            "limits": planned.limits.model_dump(exclude_none=True),
        }
        return {**fields, "plan": {**plan, "runs": [spec_of(run) for run in planned.runs]}}


def request_of(fields: Mapping[str, Any]) -> Request:
    """Return the request that `to_dict` has written; raises ValueError, TypeError or KeyError for anything else."""
    verb, what, priority = fields["verb"], tuple(fields["what"]), fields["priority"]
    if (plan := fields.get("plan")) is None:
        return Request(verb, what, priority)
    runs, limits = tuple(RunSpec(**run) for run in plan["runs"]), Limits(**plan["limits"])
    return Request(verb, what, priority, Plan(plan["sweep"], runs, limits, plan["text"]))


class Done(NamedTuple):
    """The outcome: a line for the user, the sweeps concerned, and those that are now to be trained."""

    said: str
    sweeps: tuple[str, ...] = ()
    wanted: tuple[str, ...] = ()


def add(planned: Plan) -> Request:
    """The request to enqueue a plan."""
    return Request("add", plan=planned)


def obey(table: Table, request: Request) -> Done:
    """Carry out a request, in one transaction. Running runs that are to be cancelled are asked to leave.

    Raises TableError if the request names a sweep or run that does not exist.
    """
    standing = {} if request.verb == "add" else table.standing()
    with table.transaction() as connection:
        serialise(connection)
        done = _act(table, request, standing)
        table.queue.changed(done.sweeps, added=request.verb == "add")
    return done


def _act(table: Table, request: Request, standing: Mapping[str, Standing]) -> Done:
    if request.verb == "add":
        assert request.plan is not None
        name, new = request.plan.sweep, table.queue.enqueue(request.plan)
        table.queue.tell(name, paused=None)
        return Done(f"{name}: {count(len(request.plan.runs), 'run')}, {new} new", (name,), (name,))
    sweeps = {name for row in standing.values() for name in row.sweeps}
    if request.verb in ("pause", "resume"):
        names = tuple(request.what) or tuple(sorted(sweeps))
        if unknown := [name for name in names if name not in sweeps]:
            raise TableError(
                f"no sweep {unknown[0]!r} in {name_of(table.store)}; it holds {', '.join(sorted(sweeps)) or 'none'}"
            )
        for name in names:
            table.queue.tell(name, paused=BY_HAND if request.verb == "pause" else None)
        return Done(f"{request.verb}d: {', '.join(names)}", names, names if request.verb == "resume" else ())
    ids = [run_id for what in request.what for run_id in _named(what, standing, sweeps, table.store)]
    touched = tuple(sorted({name for run_id in ids for name in standing[run_id].sweeps}))
    if request.verb == "prioritise":
        changed = table.queue.prioritise(ids, request.priority)
        return Done(f"priority {request.priority} for {count(changed, 'run')}", touched)
    if request.verb == "cancel":
        moved, leaving = table.queue.cancel(ids)
        stopping = f"; {leaving} in training will stop" if leaving else ""
        return Done(f"{moved} of {count(len(ids), 'run')} now cancelled{stopping}", touched)
    if request.verb != "retry":
        raise ValueError(f"no such request: {request.verb!r}")
    moved = table.queue.move(ids, "queued", of=("failed", "cancelled", "blocked"))
    return Done(f"{moved} of {count(len(ids), 'run')} now queued", touched, touched)


def _named(what: str, standing: Mapping[str, Standing], sweeps: set[str], store: str) -> list[str]:
    if what in sweeps:
        return [run_id for run_id, row in standing.items() if what in row.sweeps]
    ids = [run_id for run_id in standing if run_id.startswith(what)] if len(what) >= _SHORTEST else []
    if len(ids) != 1:
        many = f"more than one run begins with {what!r}" if ids else f"no sweep and no run {what!r}"
        raise TableError(
            f"{many} in {name_of(store)}; write a sweep's name, or {_SHORTEST} letters or more of a run_id"
        )
    return ids


class Inbox:
    """The requests that lie beside a table, oldest first."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._done: list[Done] = []

    def pending(self, _: Table) -> bool:
        """Whether there is any."""
        return bool(self._files())

    def _files(self) -> list[Path]:
        return sorted(self._folder.glob("*.json"))

    def obey(self, table: Table) -> list[Done]:
        """Carry out and answer all requests. One that cannot be read is answered as well, so that it goes away.

        Raises if the disk is full or the table is locked; call it again then.
        """
        for file in self._files():
            answer: dict[str, Any]
            try:
                done = obey(table, request_of(json.loads(file.read_bytes())))
                answer = {"said": done.said}
                self._done.append(done)
            except (TableError, ValueError, TypeError, KeyError) as error:
                answer = {"wrong": str(error)}
            _write(file.with_suffix(".answer"), answer)
            file.unlink()
        outcomes, self._done = self._done, []
        return outcomes

    def ask(self, request: Request) -> Path:
        """Leave a request; returns the path of its answer."""
        self._folder.mkdir(exist_ok=True)
        file = self._folder / f"{time.time_ns()}-{secrets.token_hex(4)}.json"
        _write(file, request.to_dict())
        return file.with_suffix(".answer")


class Changes:
    """Notices what other terminals change in a shared table.

    Sweeps that are added are trained by every coordinator. Other sweeps that change are left to the coordinators
    that train them: their data may not be on this machine.
    """

    def __init__(self, table: Table, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._looked = clock, clock()
        self._seen, _ = table.changes(0)
        self._done = Done("")

    def pending(self, table: Table) -> bool:
        """Whether anything has changed since the last check."""
        if self._clock() - self._looked < CHANGES:
            return False
        self._looked = self._clock()
        since = self._seen
        self._seen, changed = table.changes(since)
        self._done = Done("", tuple(changed), tuple(name for name, added in changed.items() if added > since))
        return bool(changed)

    def obey(self, _: Table) -> list[Done]:
        """The sweeps that have changed; those that were added are wanted."""
        return [self._done]


def inbox_of(store: str) -> Inbox | None:
    """The inbox beside a SQLite table; None for another database, which has `Changes`."""
    path = path_of(store)
    return None if path is None else Inbox(path.with_name(path.name + ".requests"))


def ask(store: str, request: Request, wait: Callable[[float], None] = time.sleep) -> str:
    """Have a request carried out, by the coordinator that holds the table or else here; returns its line.

    Raises TableError if the request is invalid.
    """
    inbox = inbox_of(store)
    answer: Path | None = None
    while True:
        try:
            with Table(store, writable=True) as table:
                table.queue.recover()
                if inbox is not None:
                    inbox.obey(table)
                if answer is None:
                    return obey(table, request).said
        except TableBusyError:
            assert inbox is not None
            answer = answer or inbox.ask(request)
        except sa.exc.OperationalError as error:
            if temporary_failure(error) != CROSSED:
                raise
        for _ in range(round(LOCK / LOOK)):
            if (line := _answered(answer)) is not None:
                return line
            wait(LOOK)


def _answered(answer: Path | None) -> str | None:
    if answer is None or not answer.exists():
        return None
    fields: dict[str, str] = json.loads(answer.read_bytes())
    answer.unlink()
    if "wrong" in fields:
        raise TableError(fields["wrong"])
    return fields["said"]


def _write(path: Path, fields: dict[str, Any]) -> None:
    """Write a file as a whole or not at all: aside, synced, then renamed."""
    aside = path.with_suffix(".part")
    with aside.open("w") as file:
        json.dump(fields, file)
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)
