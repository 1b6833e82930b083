"""TensorBoard: an event file per run, in `DIR/<sweep>/<run>`, with its settings as hyper-parameters."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.exporters.exporter import Exporter

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from orchestrator.exporters.exporter import ExportedRecord, ExportedRun

FOLDER = "runs"
"""Where event files lie by default: TensorBoard's own default."""

OURS = ".isoflop"
"""End of the names of our event files; those of an earlier export of a run are replaced."""


class TensorBoard(Exporter):
    """Writes event files by tensorboardX, which Ray Tune brings along; TensorBoard itself is needed to look."""

    package = "tensorboardX"

    def __init__(self, where: str) -> None:
        self._folder = Path(where or FOLDER)
        self._writers: dict[str, Any] = {}

    def begin(self, run: ExportedRun) -> None:
        """Open an event file and write the hyper-parameters."""
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.summary import hparams

        folder = self._folder / run.sweep / run.name.replace("/", "_").replace(" ", "_")
        folder.mkdir(parents=True, exist_ok=True)
        for earlier in folder.glob(f"events.out.tfevents.*{OURS}"):
            earlier.unlink()
        self._writers[run.run_id] = EventsWriter(str(folder / "events"), OURS)
        for summary in hparams(run.settings, {"error": 0.0, "loss": 0.0})[:2]:
            self._write(run.run_id, summary, 0, run.started)

    def record(self, run_id: str, records: Sequence[ExportedRecord]) -> None:
        """Write a scalar for each metric."""
        from tensorboardX.proto.summary_pb2 import Summary

        for step, time, metrics in records:
            values = [Summary.Value(tag=name, simple_value=value) for name, value in metrics.items()]
            self._write(run_id, Summary(value=values), step, time)
        self._writers[run_id].flush()

    def _write(self, run_id: str, summary: Any, step: int, time: float) -> None:
        from tensorboardX.proto.event_pb2 import Event

        self._writers[run_id].write_event(Event(wall_time=time, step=step, summary=summary))

    def end(self, run_id: str, state: str, results: Mapping[str, float]) -> None:  # noqa: ARG002 - a contract
        """Close the event file. The last record has the final error and loss."""
        self._writers.pop(run_id).close()

    def close(self) -> None:
        """Do nothing: every run has ended."""
