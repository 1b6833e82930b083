"""The clock of a scheduler: seconds and waiting. Tests use a clock of their own."""

from __future__ import annotations

import time


class Clock:
    """Monotonic seconds of this machine."""

    def __call__(self) -> float:
        """Return the seconds since some moment in the past."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Wait."""
        time.sleep(seconds)


CLOCK = Clock()
