"""Writing to a table that cannot be written for now: a full disk, a lock of another program's."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from orchestrator.database import waits

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

AGAIN = 1.0
"""Seconds after which it is tried again."""


class Patience:
    """Does what is to be written however long that takes, and says so; not once `hurry` says True."""

    def __init__(
        self, say: Callable[[str], None], sleep: Callable[[float], None], hurry: Callable[[], bool]
    ) -> None:
        self._say, self._sleep, self._hurry = say, sleep, hurry

    def __call__(self, write: Callable[[], T]) -> T:
        """What `write` returns in the end. It is one transaction: where it raises, nothing of it was done."""
        waited = False
        while True:
            try:
                done = write()
            except Exception as error:
                why = waits(error)
                if why is None or self._hurry():
                    raise
                waited = True
                self._say(f"{why}: waiting, nothing is lost")
                self._sleep(AGAIN)
            else:
                if waited:
                    self._say("the table can be written again")
                return done
