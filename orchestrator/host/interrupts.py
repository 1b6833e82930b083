"""Ctrl-C and SIGTERM: the first is a request to stop, the second raises KeyboardInterrupt."""

from __future__ import annotations

import os
import signal
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


_WATCHED = (signal.SIGINT, signal.SIGTERM)


class Interrupts:
    """Counts SIGINT and SIGTERM while it watches, and knows when the last came; calls `first` at the first."""

    def __init__(self, clock: Callable[[], float], first: Callable[[], None]) -> None:
        self._clock, self._first = clock, first
        self._calls, self._bytes, self.at = 0, 0, 0.0

    @property
    def count(self) -> int:
        """Signals so far."""
        return max(self._calls, self._bytes)

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Watch for signals; the second raises KeyboardInterrupt.

        Python runs a handler between two of its own instructions, once for all signals that came during a long
        call. Hence they are also counted in a pipe that Python's own C handler writes to. Where another thread runs
        that, the byte may come after the call: either count may be short, neither is ever too high.
        """
        arrivals, written = os.pipe()
        os.set_blocking(arrivals, False)
        os.set_blocking(written, False)
        came = partial(self._came, arrivals)
        try:
            before = signal.set_wakeup_fd(written, warn_on_full_buffer=False)
        except ValueError:  # not the main thread: signals are somebody else's
            before = None
        handlers = {} if before is None else {number: signal.signal(number, came) for number in _WATCHED}
        try:
            yield
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
            if before is not None:
                signal.set_wakeup_fd(before)
            os.close(written)
            os.close(arrivals)

    def _came(self, arrivals: int, *_: Any) -> None:
        arrived = b""
        with suppress(BlockingIOError):  # counted when the one before was handled
            arrived = os.read(arrivals, 1024)
        before = self.count
        self._calls += 1
        self._bytes += sum(number in _WATCHED for number in arrived)
        if self.count == before:
            return
        self.at = self._clock()
        if self.count > 1:
            raise KeyboardInterrupt
        self._first()

    @property
    def seconds(self) -> float:
        """Seconds since the last signal."""
        return self._clock() - self.at
