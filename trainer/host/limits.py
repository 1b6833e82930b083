"""Cores and memory that this process may use: those of the machine, or of its container.

Linux keeps the limits of containers in control groups, of version 2 or 1, a folder each. A limit may stand at any
level above the process; the tightest counts.
"""

from __future__ import annotations

import math
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

_ROOT = Path("/")
_MEMORY = (
    ("memory.max", "memory.current", "inactive_file"),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)
"""Of each version: the files of limit and usage, and the entry of reclaimable cache in memory.stat."""


class Memory(NamedTuple):
    """Bytes in total, and bytes that are available."""

    total: int
    available: int


def memory(root: Path = _ROOT) -> list[Memory]:
    """Memory of the machine and of every container around this process; [] where there is no /proc."""
    try:
        lines = (root / "proc/meminfo").read_text().splitlines()
    except OSError:
        return []
    sizes = {name: int(value.split()[0]) * 1024 for name, _, value in (line.partition(":") for line in lines)}
    here = Memory(sizes["MemTotal"], sizes["MemAvailable"])
    limits = [limit for level in _levels("memory", root) for names in _MEMORY if (limit := _limit(level, *names))]
    return [here, *(limit for limit in limits if limit.total < here.total)]


def _limit(level: Path, limit: str, current: str, cache: str) -> Memory | None:
    """The limit of a control group; None if it sets none, or is of the other version."""
    try:
        most, used = int((level / limit).read_text()), int((level / current).read_text())
        stat = dict(line.split() for line in (level / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):  # "max"
        return None
    return Memory(most, min(most, max(0, most - used + int(stat.get(cache, 0)))))


def cores(root: Path = _ROOT) -> int:
    """CPU cores that this process may use: those it is bound to, at most the CPU time of its containers."""
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min([bound, *(max(1, math.ceil(share)) for level in _levels("cpu", root) for share in _shares(level))])


def _shares(level: Path) -> Iterator[float]:
    """CPU time that a control group allows, in cores."""
    for names in (("cpu.max",), ("cpu.cfs_quota_us", "cpu.cfs_period_us")):
        try:
            quota, period = map(int, " ".join((level / name).read_text() for name in names).split())
        except (OSError, ValueError):  # "max"
            continue
        if quota > 0:  # version 1 says -1
            yield quota / period


def _levels(controller: str, root: Path) -> Iterator[Path]:
    """The control groups of this process, from its own to the outermost visible one."""
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


def seconds_without_core() -> float:
    """Seconds that this thread has waited for a core while it had work, as Linux counts them; elsewhere 0."""
    try:
        return int(Path("/proc/thread-self/schedstat").read_text().split()[1]) / 1e9
    except (OSError, ValueError, IndexError):
        return 0.0


def has_accelerator() -> bool:
    """Whether this machine may have a GPU, without importing torch: where it says no, there is none."""
    devices = ("dev/nvidiactl", "dev/nvidia0", "dev/dxg", "dev/kfd")
    return sys.platform == "darwin" or any((_ROOT / device).exists() for device in devices)


def visible_gpus(root: Path = _ROOT) -> list[str]:
    """The NVIDIA GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them, without importing torch."""
    if (named := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return [name.strip() for name in named.split(",") if name.strip() not in ("", "-1")]
    return [str(number) for number, _ in enumerate(root.glob("dev/nvidia[0-9]*"))]
