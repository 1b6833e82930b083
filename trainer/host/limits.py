"""Cores and memory that this process may use: those of the machine, or of its container.

Linux keeps the limits of containers in control groups, of version 2 or 1, a folder each. A limit may stand at any
level above the process; the tightest counts.
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

_ROOT = Path("/")
_MEMORY = (
    ("memory.max", "memory.current", "inactive_file"),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)
"""Of each version: the file of the limit, that of what is used, and the cache in it that goes when asked to."""


class Memory(NamedTuple):
    """Bytes that there are, and bytes that are to be had."""

    total: int
    available: int


def memory(root: Path = _ROOT) -> list[Memory]:
    """The machine's memory, and that of every container around this process; [] where Linux does not tell."""
    try:
        lines = (root / "proc/meminfo").read_text().splitlines()
    except OSError:
        return []
    said = {name: int(value.split()[0]) * 1024 for name, _, value in (line.partition(":") for line in lines)}
    here = Memory(said["MemTotal"], said["MemAvailable"])
    limits = [limit for level in _levels("memory", root) for names in _MEMORY if (limit := _limit(level, *names))]
    return [here, *(limit for limit in limits if limit.total < here.total)]


def _limit(level: Path, limit: str, current: str, cache: str) -> Memory | None:
    """What a control group allows; None where it sets no limit, or is of the other version."""
    try:
        most, used = int((level / limit).read_text()), int((level / current).read_text())
        stat = dict(line.split() for line in (level / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):  # "max"
        return None
    return Memory(most, min(most, max(0, most - used + int(stat.get(cache, 0)))))


def cores(root: Path = _ROOT) -> int:
    """CPU cores that this process may use: at most those it is bound to, and the time that containers give it."""
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min([bound, *(max(1, math.ceil(share)) for level in _levels("cpu", root) for share in _shares(level))])


def _shares(level: Path) -> Iterator[float]:
    """Cores' worth of time that a control group allows."""
    for names in (("cpu.max",), ("cpu.cfs_quota_us", "cpu.cfs_period_us")):
        try:
            quota, period = map(int, " ".join((level / name).read_text() for name in names).split())
        except (OSError, ValueError):  # "max"
            continue
        if quota > 0:  # version 1 says -1
            yield quota / period


def _levels(controller: str, root: Path) -> Iterator[Path]:
    """The control groups that this process is in, from its own up to the outermost that is to be seen."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    base = root / "sys/fs/cgroup"
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        mount = base / (controller if controllers else "unified")
        top = mount if mount.is_dir() else base
        own = top / path.lstrip("/")  # as the machine names it: a container may see it as the top
        yield from (level for level in (own, *own.parents) if level == top or top in level.parents)
