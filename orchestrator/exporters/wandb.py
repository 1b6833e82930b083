"""Weights & Biases: a run per run, grouped by sweep; offline unless WANDB_MODE says otherwise."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.exporters.exporter import Exporter

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from orchestrator.exporters.exporter import ExportedRecord, ExportedRun

_SETTINGS = {
    "silent": True,
    "console": "off",
    "save_code": False,
    "disable_git": True,
    "x_disable_stats": True,
    "x_disable_meta": True,
}
"""Nothing is printed, and nothing of this machine or this process is recorded: it is not what trains."""


class WeightsAndBiases(Exporter):
    """Writes runs by `wandb`; the project is named as the sweep by default.

    Runs are written to `./wandb` (or WANDB_DIR), and `wandb sync` sends them. With WANDB_MODE=online they are sent
    as they train; a run that is exported again is then continued.
    """

    package = "wandb"

    def __init__(self, where: str) -> None:
        import wandb

        self._wandb, self._project = wandb, where
        self._mode = os.environ.get("WANDB_MODE") or "offline"
        self._folder = Path(os.environ.get("WANDB_DIR") or ".")
        self._runs: dict[str, Any] = {}

    def begin(self, run: ExportedRun) -> None:
        """Begin a run of this id; one that an earlier export has left on this disk is deleted."""
        for earlier in self._folder.glob(f"wandb/offline-run-*-{run.run_id}"):
            shutil.rmtree(earlier)
        self._runs[run.run_id] = self._wandb.init(
            project=self._project or run.sweep,
            group=run.sweep,
            id=run.run_id,
            name=run.name,
            config=dict(run.settings),
            dir=self._folder,
            mode=self._mode,
            resume=None if self._mode == "offline" else "allow",
            reinit="create_new",
            settings=self._wandb.Settings(**_SETTINGS),
        )

    def record(self, run_id: str, records: Sequence[ExportedRecord]) -> None:
        """Log the metrics, with the time of each record."""
        for step, time, metrics in records:
            self._runs[run_id].log({**metrics, "_timestamp": time}, step=step)

    def end(self, run_id: str, state: str, results: Mapping[str, float]) -> None:
        """Write the summary and end the run."""
        run = self._runs.pop(run_id)
        run.summary.update({**results, "state": state})
        run.finish(exit_code=int(state in ("failed", "diverged")))

    def close(self) -> None:
        """Do nothing: a run's end waits until it is written."""
