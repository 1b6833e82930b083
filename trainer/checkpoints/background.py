"""A thread that does one task after the other while the caller goes on."""

from __future__ import annotations

import time
from concurrent import futures
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Background:
    """Tasks in the order in which they come, in a thread. `seconds` of CPU time is what those that ended took."""

    def __init__(self, name: str) -> None:
        self.seconds = 0.0
        self._thread = futures.ThreadPoolExecutor(1, name)
        self._pending: list[futures.Future[None]] = []

    @property
    def busy(self) -> bool:
        """Whether a task has not ended."""
        return not all(task.done() for task in self._pending)

    def later(self, act: Callable[[], object]) -> None:
        """Do something after what was asked for before. Raises what an earlier task has raised."""
        self._reap()
        self._pending.append(self._thread.submit(self._timed, act))

    def settle(self, alive: Callable[[], None] = lambda: None) -> None:
        """Wait until all is done, calling `alive` every second. Raises what a task has raised."""
        while self._pending:
            futures.wait(self._pending, timeout=1)
            self._reap()
            alive()

    def _timed(self, act: Callable[[], object]) -> None:
        began = time.thread_time()
        try:
            act()
        finally:
            self.seconds += time.thread_time() - began

    def _reap(self) -> None:
        while self._pending and self._pending[0].done():
            self._pending.pop(0).result()
