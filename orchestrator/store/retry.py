"""Retries operations that cannot succeed now: the disk is full, the table is locked, the server does not answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from orchestrator.store.engine import temporary_failure
from trainer.host.urls import RemoteError

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

AGAIN = 1.0
"""Seconds between two tries."""


class Retry:
    """Calls a write until it succeeds, and reports why it waits. Once `hurry` returns True, it gives up."""

    def __init__(
        self, say: Callable[[str], None], sleep: Callable[[float], None], hurry: Callable[[], bool]
    ) -> None:
        self._say, self._sleep, self._hurry = say, sleep, hurry

    def __call__(self, write: Callable[[], T]) -> T:
        """The result of `write`, which is one transaction: if it raises, nothing was written."""
        waited = ""
        while True:
            try:
                done = write()
            except Exception as error:
                remote = isinstance(error, RemoteError)
                why = str(error) if remote else temporary_failure(error)
                if why is None or self._hurry():
                    raise
                waited = "it answers again" if remote else "the table can be written again"
                self._say(f"{why}: waiting, nothing is lost")
                self._sleep(AGAIN)
            else:
                if waited:
                    self._say(waited)
                return done
