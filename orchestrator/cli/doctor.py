"""`isoflop doctor`: checks of the installation, each with its result and, if it failed, a remedy."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from orchestrator import text
from orchestrator.host.calibration import measure
from orchestrator.host.speed import keep
from orchestrator.host.usage import joules
from orchestrator.text import number
from trainer.data.cache_entries import cache_root
from trainer.host import installation
from trainer.host.limits import cores, memory

if TYPE_CHECKING:
    from collections.abc import Callable

State = Literal["ok", "note", "wrong"]


class Check(NamedTuple):
    """The outcome of one check."""

    state: State
    what: str
    found: str
    remedy: str = ""


def examine() -> list[Check]:
    """Run every check; one that raises has failed."""
    checks: list[Callable[[], Check]] = [_python, _memory, _torch, energy, _ray, _ffcv, _cache, _speed]
    return [_safely(check) for check in checks]


def _safely(check: Callable[[], Check]) -> Check:
    try:
        return check()
    except Exception as error:  # noqa: BLE001 - the doctor must survive what it finds
        name = check.__name__.lstrip("_")
        return Check(
            "wrong",
            name,
            f"{type(error).__name__}: {error}",
            f"install again: {installation.command('doctor')}",
        )


def _python() -> Check:
    version = platform.python_version()
    if not (3, 11) <= sys.version_info[:2] <= (3, 13):
        return Check("wrong", "Python", version, "isoflop is tested on 3.11 to 3.13")
    return Check("ok", "Python", f"{version}, {text.count(cores(), 'core')}")


def _memory() -> Check:
    levels = memory()
    if not levels:
        return Check("note", "memory", "unknown", "only the number of workers limits their memory")
    machine, least = levels[0], min(levels)
    whole = "" if least == machine else f", in a container; the machine has {text.size(machine.total)}"
    found = f"{text.size(least.available)} of {text.size(least.total)} available{whole}"
    return Check("ok", "memory", found)


def _torch() -> Check:
    import torch

    if torch.cuda.is_available():
        free, total = torch.cuda.mem_get_info()
        where = f"{torch.cuda.get_device_name()}, {text.size(free)} of {text.size(total)} free"
    else:
        where = "MPS" if torch.backends.mps.is_available() else "CPU only"
        kind = torch.backends.cpu.get_cpu_capability()
        where += f" ({kind}{': bf16 is slow here' if kind in ('DEFAULT', 'AVX2') else ''})"
    return Check("ok", "torch", f"{torch.__version__}, {where}")


def energy() -> Check:
    """Return whether the column `energy` of attempts will be filled."""
    import torch

    if not torch.cuda.is_available():
        return Check("ok", "energy", "not measured: no NVIDIA GPU here")
    try:
        joules()
    except ModuleNotFoundError:
        return Check("note", "energy", "not measured", installation.install_extra("energy"))
    except Exception as error:  # noqa: BLE001 - whatever NVML says
        return Check(
            "note", "energy", f"not measured: {error}", "nvidia-smi -q -d POWER shows what the driver reports"
        )
    return Check("ok", "energy", "measured by NVML")


def _ray() -> Check:
    version = importlib.metadata.version("ray")
    if tuple(map(int, version.split(".")[:2])) < (2, 59):
        return Check(
            "wrong", "Ray", version, f"2.59 is the first with tokens: {installation.install('ray[tune]>=2.59')}"
        )
    return Check("ok", "Ray", version)


def _ffcv() -> Check:
    if importlib.util.find_spec("ffcv") is None:
        return Check("note", "FFCV", "not installed", f"only .beton files need it: {installation.verb('ffcv')}")
    return Check("ok", "FFCV", importlib.metadata.version("ffcv"))


def _cache() -> Check:
    root = cache_root()
    root.mkdir(parents=True, exist_ok=True)
    if not os.access(root, os.W_OK):
        return Check("wrong", "cache", f"{root} cannot be written", "set ISOFLOP_CACHE to a writable folder")
    size = sum(file.stat().st_size for file in Path(root).rglob("*") if file.is_file())
    return Check("ok", "cache", f"{root}, {text.size(size)} of decoded data")


def _speed() -> Check:
    speed = measure()
    keep(speed)
    small = f"{number(speed.layer * 1e3, 2)} ms per layer and step at least"
    found = f"{speed.device}: {text.flops(speed.flops_per_second)} FLOP/s per worker on wide models, {small}"
    plan = installation.command("plan")
    return Check("ok", "speed", f"{found} (fit within {speed.spread:.0%}); `{plan}` predicts times from it")
