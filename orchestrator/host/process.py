"""The identity of a process: host, boot of that host, process number and start time."""

from __future__ import annotations

import functools
import os
import platform
import signal
import time
from pathlib import Path
from typing import NamedTuple

_STATE, _STARTED = 0, 19  # fields of /proc/<pid>/stat after the name


class Process(NamedTuple):
    """A process of some machine. Its number may be reused, but not with `started` (clock ticks since boot)."""

    host: str
    boot_id: str
    pid: int
    started: int

    def alive(self) -> bool:
        """Return whether it runs on this machine."""
        return self[:2] == _here() and _started(self.pid) == self.started

    def kill(self, timeout: float = 1.0) -> bool:
        """Kill it, if it runs here and is not this process; returns whether it is gone within `timeout` seconds."""
        if self.pid == os.getpid() or not self.alive():
            return False
        try:
            os.kill(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            return True
        except PermissionError:
            return False
        deadline = time.monotonic() + timeout
        while self.alive() and time.monotonic() < deadline:
            time.sleep(0.005)
        return not self.alive()


def this_process() -> Process:
    """Return the calling process."""
    return _own(os.getpid())


@functools.cache
def _own(pid: int) -> Process:
    return Process(*_here(), pid, _started(pid) or 0)


def _here() -> tuple[str, str]:
    try:
        boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        boot_id = ""
    return platform.node(), boot_id


def _started(pid: int) -> int | None:
    """Clock ticks between the boot and a process's start; None where there is none, or only its remains."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[_STATE] in "ZX" else int(fields[_STARTED])
