"""An optimiser that trains as AdamW does, and no faster than it is told: nowhere a sweep ends before its signal.

A process with UNPACED in its environment is not told.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

ADAMW = "paced_optimizer:ADAMW"
MODULE = """
import contextlib, dataclasses, os, pathlib, time
from trainer.optimizers import OPTIMIZERS

RULE, PACE = OPTIMIZERS.get("adamw"), pathlib.Path(__file__).with_name("pace")

def least_seconds(parameters):
    if "UNPACED" in os.environ:
        return 0
    with contextlib.suppress(FileNotFoundError):
        least, seconds = PACE.read_text().split()
        return float(seconds) if parameters >= int(least) else 0
    return 0

def update(params, *others):
    RULE.update(params, *others)
    began = time.monotonic()
    while time.monotonic() - began < (seconds := least_seconds(params[0].numel())):
        time.sleep(min(seconds, 0.01))

ADAMW = dataclasses.replace(RULE, update=update)
"""


def write_optimizer(folder: Path) -> None:
    """Write the module that ADAMW names into a folder."""
    (folder / "paced_optimizer.py").write_text(MODULE)


def slow_down(folder: Path, seconds: float = 0.25, parameters: int = 0) -> None:
    """Before a sweep starts: have steps of runs with at least so many parameters take so long."""
    (folder / "pace").write_text(f"{parameters} {seconds}")


def speed_up(folder: Path) -> None:
    """From now on every run trains as fast as the machine does."""
    (folder / "pace").unlink(missing_ok=True)
