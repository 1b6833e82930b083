"""Ctrl-C, and what a batch system sends: the first time it is a request, the second time an exception."""

from __future__ import annotations

import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Interrupts:
    """How often SIGINT or SIGTERM came while it watched, and when last; at the first it calls `first`."""

    def __init__(self, clock: Callable[[], float], first: Callable[[], None]) -> None:
        self._clock, self._first = clock, first
        self.count, self.at = 0, 0.0

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Watch. The second signal raises KeyboardInterrupt."""
        try:
            held = {number: signal.signal(number, self._came) for number in (signal.SIGINT, signal.SIGTERM)}
        except ValueError:  # not the main thread: signals are somebody else's
            yield
            return
        try:
            yield
        finally:
            for number, handler in held.items():
                signal.signal(number, handler)

    def _came(self, *_: Any) -> None:
        self.count, self.at = self.count + 1, self._clock()
        if self.count > 1:
            raise KeyboardInterrupt
        self._first()

    @property
    def seconds(self) -> float:
        """Seconds since the last."""
        return self._clock() - self.at
