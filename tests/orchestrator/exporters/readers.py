"""What the real tools read of an export: by run_id the settings, the points (step, error) and the state."""

import functools
import struct
from typing import Any, NamedTuple

import pytest

from tests.polling import until


class Read(NamedTuple):
    """A run as a tool has it. `state` is "" for a tool without states."""

    settings: dict[str, Any]
    errors: list[tuple[int, float]]
    state: str


def tensorboard(folder, runs):
    """Event files: length (8 bytes), its checksum (4), the event, its checksum (4)."""
    from tensorboardX.proto.event_pb2 import Event
    from tensorboardX.proto.plugin_hparams_pb2 import HParamsPluginData

    read = {}
    for run in runs:
        (file,) = folder.glob(f"tb/small/*_{run.run_id[:8]}/events.out.tfevents.*")
        data, place, errors, settings = file.read_bytes(), 0, [], {}
        while place < len(data):
            (length,) = struct.unpack_from("<Q", data, place)
            event = Event.FromString(data[place + 12 : place + 12 + length])
            place += 16 + length
            for value in event.summary.value:
                if value.tag == "error":
                    errors.append((event.step, round(value.simple_value, 6)))
                if value.tag.endswith("session_start_info"):
                    said = HParamsPluginData.FromString(value.metadata.plugin_data.content).session_start_info
                    settings = {name: getattr(v, v.WhichOneof("kind")) for name, v in said.hparams.items()}
        read[run.run_id] = Read(settings, errors, "")
    return read


def mlflow(folder, runs):
    """Through MLflow's client."""
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    experiment = client.get_experiment_by_name("small")
    found = client.search_runs([experiment.experiment_id])
    assert len(found) == len(runs)
    return {
        one.data.tags["isoflop.run_id"]: Read(
            one.data.params,
            [(point.step, round(point.value, 6)) for point in client.get_metric_history(one.info.run_id, "error")],
            one.data.tags["isoflop.state"],
        )
        for one in found
    }


def logged(data):
    """The records of LevelDB's log format: blocks of 32 KiB, parts with checksum (4), length (2), kind (1)."""
    place, parts = 7, b""  # after the file's own header, which is part of the first block
    while place < len(data):
        if (left := -place % 32768) < 7 and left:
            place += left
        length, kind = struct.unpack_from("<HB", data, place + 4)
        parts += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield parts
            parts = b""


def wandb(folder, runs):
    """The files that `wandb sync` sends."""
    from google.protobuf.message import DecodeError
    from wandb.proto.wandb_internal_pb2 import Record

    def complete(file):
        """The records of a run that has ended; None while W&B's service still writes them, after `finish`."""
        try:
            records = [Record.FromString(data) for data in logged(file.read_bytes())]
        except (DecodeError, struct.error):
            return None
        return records if records and records[-1].HasField("exit") else None

    read = {}
    for run in runs:
        (file,) = folder.glob(f"wandb/offline-run-*-{run.run_id}/run-*.wandb")
        settings, errors, state = {}, [], ""
        for record in until(functools.partial(complete, file), seconds=60):
            settings |= {item.key: item.value_json for item in record.run.config.update}
            values = {(item.key or item.nested_key[0]): item.value_json for item in record.history.item}
            if "error" in values:
                errors.append((record.history.step.num, round(float(values["error"]), 6)))
            for item in record.summary.update:
                state = item.value_json.strip('"') if (item.key or item.nested_key[0]) == "state" else state
        read[run.run_id] = Read(settings, errors, state)
    return read


READERS = {
    "tensorboard:tb": (tensorboard, "tensorboardX"),
    "mlflow": (mlflow, "mlflow"),
    "wandb": (wandb, "wandb"),
}


def reader_of(target):
    """The reader of a target; the test is skipped where its package is missing."""
    read, package = READERS[target]
    pytest.importorskip(package, reason=f"{package} is missing: ./run add {target.partition(':')[0]}")
    return read
