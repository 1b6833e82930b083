"""Looks at a table again and again, and keeps the newest parts of its page for everybody who watches."""

from __future__ import annotations

import json
import threading
import time
from typing import TYPE_CHECKING, Any

from sqlalchemy.exc import SQLAlchemyError

from orchestrator.live import view
from orchestrator.live.laws import Laws
from orchestrator.store.engine import TableError
from orchestrator.store.schema import STATES
from orchestrator.store.table import Table

if TYPE_CHECKING:
    from orchestrator.live.view import Part

LOOK, SHARE, WATCHED = 1.0, 0.1, 30.0
"""Seconds between two looks, the share of the time that looking may take, and the seconds after the last question
in which the page counts as watched."""


class Watcher:
    """Reads a table in a thread of its own while anybody watches. `changes` waits for what is new."""

    def __init__(self, store: str) -> None:
        self._store, self._laws = store, Laws(store)
        self._parts: dict[str, tuple[int, str]] = {}
        self._version, self._signs, self._asked, self._ended = 0, "", -WATCHED, False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def changes(self, since: int, seconds: float) -> tuple[int, list[str]]:
        """The parts newer than version `since`, as JSON, and their version; waits for at most `seconds`."""
        with self._changed:
            self._asked = time.monotonic()
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._version > since or self._ended, seconds)
            new = [(version, data) for version, data in self._parts.values() if version > since]
            return self._version, [data for _, data in sorted(new)]

    @property
    def ended(self) -> bool:
        """Whether it was closed."""
        return self._ended

    def close(self) -> None:
        """Stop looking."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()
        self._thread.join()
        self._laws.close()

    def _watch(self) -> None:
        while self._is_watched():
            began = time.monotonic()
            self._publish(self._look())
            took = time.monotonic() - began
            with self._changed:
                self._changed.wait_for(lambda: self._ended, max(LOOK, took / SHARE))

    def _is_watched(self) -> bool:
        """Wait until somebody watches; returns whether that is so, false at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._ended or time.monotonic() - self._asked < WATCHED)
            return not self._ended

    def _look(self) -> dict[str, Part]:
        """The parts as the table is now; where it cannot be read, only why."""
        try:
            with Table(self._store) as table:
                made, rows = view.progress(table)
                signs = json.dumps([[row[state] for state in (*STATES, "runs")] for row in rows])
                if signs != self._signs:
                    made |= view.listed(table)
                self._signs = signs
            return made | self._laws.poll(rows)
        except TableError as error:  # no table yet, or one of another version
            return {"state": view.waiting(f"waiting: {error}")}
        except (SQLAlchemyError, OSError) as error:
            why = str(getattr(error, "orig", error)).splitlines()[0]
            return {"state": view.waiting(f"the table does not answer ({why}); below is what was read last")}

    def _publish(self, made: dict[str, Part]) -> None:
        with self._changed:
            for name, part in made.items():
                data = json.dumps(_message(name, part), separators=(",", ":"), allow_nan=False)
                if self._parts.get(name, (0, ""))[1] != data:
                    self._version += 1
                    self._parts[name] = self._version, data
            self._changed.notify_all()


def _message(name: str, part: Part) -> dict[str, Any]:
    return {"name": name, "html": part.html, "charts": part.charts}
