"""The contract of a place for checkpoints, and a folder of a file system.

A checkpoint is two files, never pickle: `<run_id>/<step>.safetensors` holds the tensors, `<step>.json` the rest and
both checksums. They are written under other names, synced and renamed, the JSON last, so a checkpoint whose JSON
exists is complete. The previous one is kept in case the disk lost the newest. The final parameters of a run that
others begin with are `<run_id>.safetensors` and `.json`.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import shutil
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from safetensors import SafetensorError

from trainer.checkpoints.background import Background
from trainer.host.fsync import make_folder, sync

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from pathlib import Path

    import torch

FORMAT = 1
"""Version of the files. Files of another version are refused, and the run starts again."""

log = logging.getLogger("isoflop")


class Save(NamedTuple):
    """A checkpoint to write: the metadata in its JSON, and its tensors."""

    run_id: str
    step: int
    metadata: dict[str, Any]
    tensors: dict[str, torch.Tensor]


class Storage(Protocol):
    """A place for checkpoints. To add one, implement this and choose it in `checkpoints.storage_of`."""

    eager: bool
    """Whether short runs are saved more often than every so many seconds: each write costs time alone."""

    @property
    def busy(self) -> bool:
        """Whether to wait with the next write."""

    @property
    def seconds(self) -> float:
        """CPU seconds spent in the background so far."""

    def steps(self, run_id: str) -> list[int]:
        """Steps of a run's checkpoints, newest first. They have not been read or checked."""

    def name(self, run_id: str, step: int) -> str:
        """The path or URL of a checkpoint, for messages."""

    def read(self, run_id: str, step: int) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
        """The metadata and tensors of a checkpoint; OSError, ValueError or SafetensorError if it is damaged."""

    def write(self, saves: Sequence[Save]) -> None:
        """Write the checkpoints of a stack and delete all but the two newest of each run.

        In the background, so the tensors may change afterwards. A failure is logged: training goes on.
        """

    def keep(self, run_id: str, metadata: dict[str, Any], weights: dict[str, torch.Tensor]) -> None:
        """Keep a run's final parameters. OSError or SafetensorError if that fails."""

    def kept(self, run_id: str) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
        """The metadata and tensors that `keep` was given; raises as `read` does."""

    def remove(self, run_ids: Collection[str]) -> None:
        """Remove the checkpoints of runs; kept parameters stay."""

    def settle(self, alive: Callable[[], None] = lambda: None) -> None:
        """Wait until everything is written, calling `alive` every second."""

    def begun(self) -> dict[str, int]:
        """The newest step of every run with checkpoints, by run_id."""

    def all_kept(self) -> set[str]:
        """The run_ids whose final parameters are kept. They have not been read or checked."""


class Folder:
    """Checkpoints in a folder of a file system.

    Syncing them takes a disk several milliseconds a run, in which the caller trains on.
    """

    eager, busy = True, False

    def __init__(self, path: Path) -> None:
        self._path = path
        self._last: dict[str, int] = {}
        self._background = Background("isoflop-save")

    def __str__(self) -> str:
        return str(self._path)

    @property
    def seconds(self) -> float:
        """See Storage."""
        return self._background.seconds

    def steps(self, run_id: str) -> list[int]:
        """See Storage."""
        return _steps(self._path / run_id)

    def name(self, run_id: str, step: int) -> str:
        """The path of the JSON."""
        return str(self._path / run_id / f"{step}.json")

    def read(self, run_id: str, step: int) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
        """See Storage."""
        checkpoint = _read(self._path / run_id / f"{step}.json", run_id)
        self._last[run_id] = step
        return checkpoint

    def write(self, saves: Sequence[Save]) -> None:
        """See Storage. It waits for the write before."""
        copies = [save._replace(tensors={n: t.clone() for n, t in save.tensors.items()}) for save in saves]
        self._background.settle()
        self._background.later(lambda: self._write(copies))

    def _write(self, saves: Sequence[Save]) -> None:
        """Write all before the first is renamed, so that a stack stays at one step."""
        try:
            for run_id, step, metadata, tensors in saves:
                _write_aside(self._path / run_id / str(step), metadata, tensors)
            for run_id, step, _, _ in saves:
                _publish(self._path / run_id / str(step))
                _prune(self._path / run_id, {step, self._last.get(run_id, step)})
                self._last[run_id] = step
        except (OSError, SafetensorError) as error:
            log.warning("no checkpoint in %s: %s; training goes on", self, error)
            with contextlib.suppress(OSError):
                for save in saves:
                    _prune(self._path / save.run_id, None)

    def keep(self, run_id: str, metadata: dict[str, Any], weights: dict[str, torch.Tensor]) -> None:
        """See Storage."""
        _write_aside(self._path / run_id, metadata, weights)
        _publish(self._path / run_id)

    def kept(self, run_id: str) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
        """See Storage."""
        return _read(self._path / f"{run_id}.json", run_id)

    def remove(self, run_ids: Collection[str]) -> None:
        """See Storage."""
        self._background.settle()
        for run_id in run_ids:
            shutil.rmtree(self._path / run_id, ignore_errors=True)

    def settle(self, alive: Callable[[], None] = lambda: None) -> None:
        """See Storage."""
        self._background.settle(alive)

    def begun(self) -> dict[str, int]:
        """See Storage."""
        with contextlib.suppress(FileNotFoundError), os.scandir(self._path) as entries:
            folders = [self._path / entry.name for entry in entries if entry.is_dir()]
            return {folder.name: steps[0] for folder in folders if (steps := _steps(folder))}
        return {}

    def all_kept(self) -> set[str]:
        """See Storage."""
        with contextlib.suppress(FileNotFoundError), os.scandir(self._path) as entries:
            return {entry.name.removesuffix(".json") for entry in entries if entry.name.endswith(".json")}
        return set()


def seal(metadata: dict[str, Any], digest: str) -> str:
    """The JSON of a checkpoint, on one line: its metadata, the checksum of its tensors, and its own checksum."""
    metadata = {**metadata, "format": FORMAT, "sha256": digest}
    text = json.dumps(metadata, allow_nan=False)
    return json.dumps({"said": metadata, "sha256": hashlib.sha256(text.encode()).hexdigest()})


def unseal(text: bytes, run_id: str) -> dict[str, Any]:
    """The metadata in the JSON of a checkpoint; ValueError if it is damaged, or of another run or format."""
    whole = json.loads(text)
    metadata: dict[str, Any] | None = whole.get("said") if isinstance(whole, dict) else None
    if metadata is None or hashlib.sha256(json.dumps(metadata).encode()).hexdigest() != whole.get("sha256"):
        raise ValueError("its checksum is wrong")
    if metadata["format"] != FORMAT:
        raise ValueError(f"its format is {metadata['format']}, this isoflop reads {FORMAT}")
    if metadata["run_id"] != run_id:
        raise ValueError(f"it belongs to run {metadata['run_id']}")
    return metadata


def _steps(folder: Path) -> list[int]:
    names = (path.stem for path in folder.glob("*.json"))
    return sorted((int(name) for name in names if name.isdecimal()), reverse=True)


def _write_aside(base: Path, metadata: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
    """Write `base`.safetensors and .json under names of this process, and wait until the disk has them."""
    from safetensors.torch import save_file

    make_folder(base.parent)
    data, sidecar = _aside(base, ".safetensors"), _aside(base, ".json")
    save_file(tensors, data)
    sync(data)
    sidecar.write_text(seal(metadata, _sha256(data)))
    sync(sidecar)


def _publish(base: Path) -> None:
    for suffix in (".safetensors", ".json"):
        _aside(base, suffix).replace(base.with_name(base.name + suffix))
    sync(base.parent)


def _aside(base: Path, suffix: str) -> Path:
    return base.with_name(f"{base.name}{suffix}.{os.getpid()}.part")


def _prune(folder: Path, steps: set[int] | None) -> None:
    """Delete what was left half-written, and the checkpoints of all other steps; with None, of no step."""
    keep = None if steps is None else {str(step) for step in steps}
    for path in folder.glob("*"):
        if path.suffix == ".part" or (keep is not None and path.name.partition(".")[0] not in keep):
            path.unlink(missing_ok=True)


def _read(sidecar: Path, run_id: str) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """The metadata and tensors of a checkpoint; ValueError, or what reading raises, if it is damaged."""
    from safetensors.torch import load_file

    metadata = unseal(sidecar.read_bytes(), run_id)
    data = sidecar.with_suffix(".safetensors")
    if _sha256(data) != metadata["sha256"]:
        raise ValueError(f"the checksum of {data.name} is wrong")
    return metadata, load_file(data)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
