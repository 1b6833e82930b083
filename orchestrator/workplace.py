"""The executor that a command asks for, and where its workers leave checkpoints."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.cli.options import say
from orchestrator.scheduling.bundles import bundles
from orchestrator.store.engine import checkpoints_of
from trainer.host.urls import Remote, RemoteError, is_url, local
from trainer.spec import SpecError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from orchestrator.store.table import Table
    from orchestrator.workers.executor import Executor
    from orchestrator.workers.worker import Files
    from trainer.spec import Device, RunSpec


def checkpoints_at(said: str | None, store: str) -> Path | str | None:
    """Where checkpoints lie: as said, else beside a SQLite store; None: nowhere, as for "none".

    Raises SpecError for a URL at which one cannot write, read, list and delete.
    """
    if said is None:
        return checkpoints_of(store)
    if not is_url(said):
        return None if said == "none" else local(said)
    try:
        Remote(said).check()
    except RemoteError as error:
        raise SpecError("checkpoints", str(error)) from error
    return said


def executor_of(
    name: str,
    slots: int | None,
    said: str,
    address: str | None,
    files: Files,
    runs: Sequence[RunSpec],
    table: Table,
) -> Executor:
    """Start `ray` or `inline` on a device. How many slots pay on a GPU is measured once and kept with the table."""
    device: Device = said  # type: ignore[assignment]
    if name == "inline":
        from orchestrator.workers.executor import InlineExecutor

        return InlineExecutor(device, files)
    from orchestrator.workers.ray_executor import RayExecutor

    say(f"joining Ray at {address}" if address else "starting Ray")
    known = table.devices.get("per_gpu")
    made = RayExecutor(
        slots,
        device,
        files=files,
        address=address,
        data=sorted({path for run in runs for path in (run.path, run.start) if path}),
        probe=_probe(runs),
        per_gpu=None if slots else known,
    )
    if made.gpus and slots is None and known is None:
        say(f"{made.per_gpu} workers on a GPU pay, by a measurement with a stack of this sweep")
        table.devices = {**table.devices, "per_gpu": made.per_gpu}
    return made


def _probe(runs: Sequence[RunSpec]) -> list[RunSpec]:
    """A stack of medium price, to measure with."""
    made = bundles([run for run in runs if not run.parent])
    return made[len(made) // 2] if made else []
