"""Waiting for another process: it has no event to wait for, so its table, files and signals are looked at again."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

from orchestrator.store.engine import TableError
from orchestrator.store.table import Table

if TYPE_CHECKING:
    from collections.abc import Callable
    from subprocess import Popen

    from tests.commands import Started

T = TypeVar("T")


def until(condition: Callable[[], T], process: Popen[Any] | Started | None = None, seconds: float = 600) -> T:
    """The first true value of a condition; fails when the process ends before, or after so many seconds."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if value := condition():
            return value
        if process is not None and process.poll() is not None:
            pytest.fail(f"the process ended: {process.stdout.read() if process.stdout else process.returncode}")
        time.sleep(0.02)
    pytest.fail(f"nothing after {seconds:g} s")


def table_shows(
    store: Path,
    condition: Callable[[Table], Any],
    process: Popen[Any] | Started | None = None,
    seconds: float = 600,
) -> Any:
    """The first true value of a condition on a table that another process creates and writes."""

    def look() -> Any:
        try:
            with Table(store) as table:
                return condition(table)
        except TableError:
            return None

    return until(look, process, seconds)


def line_with(process: Popen[Any], words: str) -> str:
    """The first line of a process's output that contains these words; fails when the output ends."""
    assert process.stdout
    for line in process.stdout:
        if words in line:
            return line
    pytest.fail(f"the process ended without saying {words!r}")


def says(process: Started, words: str) -> None:
    """Returns when a process has printed these words; fails when it ends without."""
    said = [""]

    def heard() -> bool:
        said.append(said.pop() + process.stdout.read())
        return words in said[0]

    until(heard, process)


def delivered(process: Popen[Any], number: int) -> None:
    """Returns when a signal sent to a process is no longer pending, so that the next one counts separately."""

    def pending() -> bool:
        status = Path(f"/proc/{process.pid}/status").read_text()
        masks = [line.split()[1] for line in status.splitlines() if line.startswith(("SigPnd", "ShdPnd"))]
        return any(int(mask, 16) >> (number - 1) & 1 for mask in masks)

    until(lambda: not pending())
