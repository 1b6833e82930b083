"""The progress of long work: a bar on stderr in a terminal, elsewhere lines of the log."""

from __future__ import annotations

import logging
import shutil
import sys
import time
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable

PERIOD, LINES = 0.1, 2.0
"""Seconds between two updates of a bar, and between two lines."""
BAR = 20

log = logging.getLogger("isoflop")


class Progress:
    """Counts items up to `total`, as a context manager. Shown where the log shows INFO, and up to 100 %.

    Work that takes less than the period of an update is not shown. `doing` and `noun` say what is counted, as
    "decoding" and "images".
    """

    def __init__(self, doing: str, noun: str, total: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._doing, self._noun, self._total, self._clock = doing, noun, total, clock
        self._done, self._told = 0, False
        self._began = self._shown = clock()
        self._bar = sys.stderr.isatty() and log.isEnabledFor(logging.INFO)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the last bar shown."""
        if self._bar and self._told:
            print(file=sys.stderr)  # noqa: T201 - a display

    def advance(self, count: int) -> None:
        """Count items that are done."""
        self._done += count
        now, period = self._clock(), PERIOD if self._bar else LINES
        if now - self._shown < period and not (self._told and self._done == self._total):
            return
        self._shown, self._told = now, True
        counted = f"{self._done:,} of {self._total:,} {self._noun}"
        share = self._done / self._total
        if not self._bar:
            log.info("%s: %s (%.0f %%)", self._doing, counted, 100 * share)
            return
        left = (now - self._began) * (1 / share - 1)
        full = int(BAR * share)
        line = f"{self._doing}  {'#' * full}{'.' * (BAR - full)}  {100 * share:.0f} %  {counted}, {left:.0f} s left"
        print(f"\r\x1b[K{line[: shutil.get_terminal_size().columns - 1]}", end="", file=sys.stderr, flush=True)  # noqa: T201
