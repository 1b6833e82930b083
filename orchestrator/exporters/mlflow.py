"""MLflow: an experiment per sweep, a run per run, in a tracking store or on a server."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

from orchestrator.exporters.exporter import Exporter

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from orchestrator.exporters.exporter import ExportedRecord, ExportedRun

URI = "sqlite:///mlflow.db"
"""The tracking store by default, where MLFLOW_TRACKING_URI names none."""

AT_ONCE = 1000
"""Metrics in one request: MLflow takes no more."""

TAG = "isoflop.run_id"
_STATUS = {"done": "FINISHED", "pruned": "FINISHED", "failed": "FAILED", "diverged": "FAILED"}


class MLflow(Exporter):
    """Writes runs through MLflow's client. Runs of an earlier export are deleted when they are exported again."""

    package = "mlflow"

    def __init__(self, where: str) -> None:
        from mlflow.tracking import MlflowClient

        for name in ("mlflow", "alembic"):  # which report every table that they make
            logging.getLogger(name).setLevel(logging.WARNING)

        self._client = MlflowClient(where or os.environ.get("MLFLOW_TRACKING_URI") or URI)
        self._experiments: dict[str, str] = {}
        self._runs: dict[str, str] = {}

    def begin(self, run: ExportedRun) -> None:
        """Make the run, with its settings as parameters."""
        from mlflow.entities import Param

        experiment = self._experiment(run.sweep)
        for earlier in self._client.search_runs([experiment], f"tags.`{TAG}` = '{run.run_id}'"):
            self._client.delete_run(earlier.info.run_id)
        tags = {TAG: run.run_id, "isoflop.sweep": run.sweep}
        made = self._client.create_run(experiment, round(1e3 * run.started), tags, run.name)
        self._runs[run.run_id] = made.info.run_id
        params = [Param(name, str(value)) for name, value in run.settings.items()]
        self._client.log_batch(made.info.run_id, params=params)

    def _experiment(self, sweep: str) -> str:
        if sweep not in self._experiments:
            known = self._client.get_experiment_by_name(sweep)
            self._experiments[sweep] = known.experiment_id if known else self._client.create_experiment(sweep)
        return self._experiments[sweep]

    def record(self, run_id: str, records: Sequence[ExportedRecord]) -> None:
        """Log the metrics, as many at once as MLflow takes."""
        from mlflow.entities import Metric

        metrics = [
            Metric(name, value, round(1e3 * time), step)
            for step, time, values in records
            for name, value in values.items()
        ]
        for first in range(0, len(metrics), AT_ONCE):
            self._client.log_batch(self._runs[run_id], metrics=metrics[first : first + AT_ONCE])

    def end(self, run_id: str, state: str, results: Mapping[str, float]) -> None:
        """Log final metrics as `final_...`, the state as a tag, and end the run."""
        from mlflow.entities import Metric, RunTag

        run = self._runs.pop(run_id)
        metrics = [Metric(f"final_{name}", value, 0, 0) for name, value in results.items()]
        self._client.log_batch(run, metrics=metrics, tags=[RunTag("isoflop.state", state)])
        self._client.set_terminated(run, _STATUS.get(state, "KILLED"))

    def close(self) -> None:
        """Do nothing: MLflow keeps nothing back."""
