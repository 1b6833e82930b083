"""Resources that training a stack uses: peak memory, seconds of a worker, and energy by NVML.

Energy needs `pynvml` (`isoflop[energy]`) and a card that counts it, of Volta or later. On an H100 it was within
10 % of what `nvidia-smi` said (benchmarks/bench_gpu.py energy).
"""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import Any, NamedTuple


class Usage(NamedTuple):
    """Of one stack: its worker's peak memory in bytes (on a GPU: what torch held), the GPU's joules where known.

    `seconds` are those that it takes a worker on a machine without other work: of the CPU where these are fewer
    than those that have passed, because the worker had to share its core.
    """

    peak_memory: int | None = None
    energy: float | None = None
    seconds: float | None = None


class UsageMeter:
    """Measures usage from its construction on. Energy is that of the whole GPU, whoever shares it."""

    def __init__(self) -> None:
        import torch

        self._torch: Any = torch
        self._gpu = torch.cuda.is_available()
        if self._gpu:
            self._torch.cuda.reset_peak_memory_stats()
        else:
            with contextlib.suppress(OSError):  # since Linux 4.0: resets VmHWM
                Path("/proc/self/clear_refs").write_text("5")
        self._began, self._clocks = self._joules(), self._times()

    def read(self) -> Usage:
        """Return the usage so far."""
        now = self._joules()
        energy = None if now is None or self._began is None else now - self._began
        passed = min(now - then for now, then in zip(self._times(), self._clocks, strict=True))
        return Usage(self._torch.cuda.max_memory_reserved() if self._gpu else peak_resident(), energy, passed)

    def _times(self) -> list[float]:
        """What the clocks say that measure this worker: on a GPU, for which the CPU waits, that on the wall."""
        wall = time.perf_counter()
        return [wall] if self._gpu else [wall, time.process_time()]

    def _joules(self) -> float | None:
        if not self._gpu:
            return None
        with contextlib.suppress(Exception):  # no NVML, an older card, a container without it: not known
            return joules()
        return None


def joules() -> float:
    """Return the joules that this process's GPU has used since its driver was loaded; raises where unavailable."""
    import pynvml
    import torch

    pynvml.nvmlInit()
    uuid = f"GPU-{torch.cuda.get_device_properties(torch.cuda.current_device()).uuid}"
    return float(pynvml.nvmlDeviceGetTotalEnergyConsumption(pynvml.nvmlDeviceGetHandleByUUID(uuid))) / 1e3


def peak_resident() -> int | None:
    """Return the largest resident set of this process in bytes, None where Linux does not tell."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return None
    peaks = [line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(peaks[0]) * 1024 if peaks else None
