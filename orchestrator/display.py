"""Shows the progress of a session while it runs: a line in a terminal, a bar in a notebook."""

from __future__ import annotations

import shutil
import sys
import time
from typing import TYPE_CHECKING, Any, Self

from orchestrator.text import escape

if TYPE_CHECKING:
    from collections.abc import Callable

    from orchestrator.scheduling.progress import Progress

MESSAGES = 5
"""The newest messages that a notebook shows below the bar."""


def default_display() -> Display:
    """Return a bar in a notebook, a line in a terminal, and nothing where stderr is neither."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    if shell is not None and type(shell).__name__ != "TerminalInteractiveShell":
        return NotebookBar(sys.modules["IPython"].display)
    return TerminalLine() if sys.stderr.isatty() else Display()


class Display:
    """Shows nothing. The base class: a context manager that is called with every Progress."""

    period = 0.1
    """Seconds between two updates, at least."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._shown, self._message = clock, -self.period, ""

    def __call__(self, progress: Progress) -> None:
        """Show a new message at once, and the progress where the last update is older than `period`."""
        if progress.message and progress.message != self._message:
            self._message = progress.message
            self.show_message(progress.message)
        if self._clock() - self._shown >= self.period:
            self._shown = self._clock()
            self.show(progress)

    def show_message(self, message: str) -> None:
        """Show a message, once."""

    def show(self, progress: Progress) -> None:
        """Show the progress in place of the last one."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Remove what is not to stay."""


class TerminalLine(Display):
    """One line on stderr, overwritten in place, and messages above it; messages alone without a terminal."""

    def show_message(self, message: str) -> None:
        """Print the message on a line of its own."""
        self.__exit__()
        print(message, file=sys.stderr)  # noqa: T201 - a display

    def show(self, progress: Progress) -> None:
        """Overwrite the line."""
        if sys.stderr.isatty() and progress.runs:
            width = shutil.get_terminal_size().columns - 1
            print(f"\r\x1b[K{str(progress)[:width]}", end="", file=sys.stderr, flush=True)  # noqa: T201

    def __exit__(self, *_: object) -> None:
        """Clear the line."""
        if sys.stderr.isatty():
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)  # noqa: T201


class NotebookBar(Display):
    """A bar below a notebook's cell, updated in place, with the newest messages. `ipython` is IPython.display."""

    period = 0.5

    def __init__(self, ipython: Any, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(clock)
        self._ipython, self._messages = ipython, list[str]()
        self._last: Progress | None = None
        self._handle: Any = None

    def show_message(self, message: str) -> None:
        """Have the message shown with the next update, which comes at once."""
        self._messages = [*self._messages, message][-MESSAGES:]
        self._shown = -self.period

    def show(self, progress: Progress) -> None:
        """Update the output of the cell."""
        self._last = progress
        bar = progress._repr_html_() if progress.runs else ""
        page = self._ipython.HTML(bar + "".join(f"<div>{escape(message)}</div>" for message in self._messages))
        if self._handle is None:
            self._handle = self._ipython.display(page, display_id=True)
        else:
            self._handle.update(page)

    def __exit__(self, *_: object) -> None:
        """Leave the last state shown."""
        if self._last is not None:
            self.show(self._last)
