"""What training a stack takes of the machine beside time: the peak of its memory, and energy by NVML."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any, NamedTuple


class Used(NamedTuple):
    """Of one stack: its worker's peak of bytes (on a GPU: torch's), and the GPU's joules where known."""

    peak_memory: int | None = None
    energy: float | None = None


class Meter:
    """Reads what was used since it was made. Energy is of the whole GPU, whoever shares it."""

    def __init__(self) -> None:
        import torch

        self._torch: Any = torch
        self._gpu = torch.cuda.is_available()
        if self._gpu:
            self._torch.cuda.reset_peak_memory_stats()
        else:
            with contextlib.suppress(OSError):  # since Linux 4.0: resets VmHWM
                Path("/proc/self/clear_refs").write_text("5")
        self._began = self._joules()

    def read(self) -> Used:
        """What was used so far."""
        now = self._joules()
        energy = None if now is None or self._began is None else now - self._began
        return Used(self._torch.cuda.max_memory_allocated() if self._gpu else peak_resident(), energy)

    def _joules(self) -> float | None:
        if not self._gpu:
            return None
        try:
            import pynvml  # type: ignore[import-not-found,unused-ignore]

            pynvml.nvmlInit()
            uuid = f"GPU-{self._torch.cuda.get_device_properties(self._torch.cuda.current_device()).uuid}"
            return float(pynvml.nvmlDeviceGetTotalEnergyConsumption(pynvml.nvmlDeviceGetHandleByUUID(uuid))) / 1e3
        except Exception:  # noqa: BLE001 - no NVML, an older card, a container without it: not known
            return None


def peak_resident() -> int | None:
    """The largest resident set of this process, bytes."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return None
    found = [line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(found[0]) * 1024 if found else None
