"""The contract of a place for checkpoints, and a folder of a file system.

In a folder the checkpoints of a run are `<run_id>/<step>.safetensors`, the tensors, and `<step>.json`, the rest and
both checksums, never pickle. They are written aside, synced and renamed, the JSON last: where it stands, the
checkpoint is whole. The one before is kept beside it, for a disk that lies. The final parameters of a run that is
to be built upon are `<run_id>.safetensors` and `.json`.
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

from trainer.host.fsync import make_folder, sync

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from pathlib import Path

    import torch

FORMAT = 1
"""Version of the files. Another one is refused, and the run starts again."""

log = logging.getLogger("isoflop")


class Save(NamedTuple):
    """A run after a step: what its JSON says, and its tensors."""

    run_id: str
    step: int
    said: dict[str, Any]
    tensors: dict[str, torch.Tensor]


class Storage(Protocol):
    """A place for checkpoints."""

    @property
    def busy(self) -> bool:
        """Whether it still writes what it was last given."""

    def steps(self, run_id: str) -> list[int]:
        """Steps at which checkpoints of a run stand, newest first; none of them has been read yet."""

    def name(self, run_id: str, step: int) -> str:
        """A checkpoint as it is said to a user."""

    def read(self, run_id: str, step: int) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
        """A checkpoint, checked; OSError, ValueError or SafetensorError where anything is amiss."""

    def write(self, saves: Sequence[Save]) -> None:
        """Write checkpoints of one stack; of each run the newest and the one before stay. OSError if that fails."""

    def keep(self, run_id: str, said: dict[str, Any], weights: dict[str, torch.Tensor]) -> None:
        """Keep a run's final parameters. OSError or SafetensorError where that fails."""

    def kept(self, run_id: str) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
        """What `keep` was given, checked; raises as `read` does."""

    def remove(self, run_ids: Collection[str]) -> None:
        """Remove the checkpoints of runs; kept parameters stay."""

    def settle(self, alive: Callable[[], None] = lambda: None) -> None:
        """Wait until all is written, calling `alive` as time goes by."""

    def begun(self) -> dict[str, int]:
        """The newest step of every run that has checkpoints."""

    def all_kept(self) -> set[str]:
        """The runs whose final parameters are kept; they have not been read yet."""


class Folder:
    """Checkpoints in a folder of a file system."""

    busy = False

    def __init__(self, path: Path) -> None:
        self._path = path
        self._last: dict[str, int] = {}

    def __str__(self) -> str:
        return str(self._path)

    def steps(self, run_id: str) -> list[int]:
        """As Storage has it."""
        return _steps(self._path / run_id)

    def name(self, run_id: str, step: int) -> str:
        """The path of the JSON."""
        return str(self._path / run_id / f"{step}.json")

    def read(self, run_id: str, step: int) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
        """As Storage has it."""
        found = _read(self._path / run_id / f"{step}.json", run_id)
        self._last[run_id] = step
        return found

    def write(self, saves: Sequence[Save]) -> None:
        """As Storage has it. All are written before the first is renamed, so that they stay at one step."""
        try:
            for run_id, step, said, tensors in saves:
                _write_aside(self._path / run_id / str(step), said, tensors)
            for run_id, step, _, _ in saves:
                _publish(self._path / run_id / str(step))
                _prune(self._path / run_id, {step, self._last.get(run_id, step)})
                self._last[run_id] = step
        except (OSError, SafetensorError):
            with contextlib.suppress(OSError):
                for save in saves:
                    _prune(self._path / save.run_id, None)
            raise

    def keep(self, run_id: str, said: dict[str, Any], weights: dict[str, torch.Tensor]) -> None:
        """As Storage has it."""
        _write_aside(self._path / run_id, said, weights)
        _publish(self._path / run_id)

    def kept(self, run_id: str) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
        """As Storage has it."""
        return _read(self._path / f"{run_id}.json", run_id)

    def remove(self, run_ids: Collection[str]) -> None:
        """As Storage has it."""
        for run_id in run_ids:
            shutil.rmtree(self._path / run_id, ignore_errors=True)

    def settle(self, alive: Callable[[], None] = lambda: None) -> None:
        """All is written already."""

    def begun(self) -> dict[str, int]:
        """As Storage has it."""
        with contextlib.suppress(FileNotFoundError), os.scandir(self._path) as entries:
            folders = [self._path / entry.name for entry in entries if entry.is_dir()]
            return {folder.name: steps[0] for folder in folders if (steps := _steps(folder))}
        return {}

    def all_kept(self) -> set[str]:
        """As Storage has it."""
        with contextlib.suppress(FileNotFoundError), os.scandir(self._path) as entries:
            return {entry.name.removesuffix(".json") for entry in entries if entry.name.endswith(".json")}
        return set()


def seal(said: dict[str, Any], digest: str) -> str:
    """The JSON of a checkpoint, on one line: what it says, the checksum of its tensors, and its own."""
    said = {**said, "format": FORMAT, "sha256": digest}
    text = json.dumps(said, allow_nan=False)
    return json.dumps({"said": said, "sha256": hashlib.sha256(text.encode()).hexdigest()})


def unseal(text: bytes, run_id: str) -> dict[str, Any]:
    """What such a JSON says; ValueError where it is damaged, or of another run or format."""
    whole = json.loads(text)
    said = whole.get("said") if isinstance(whole, dict) else None
    if said is None or hashlib.sha256(json.dumps(said).encode()).hexdigest() != whole.get("sha256"):
        raise ValueError("its checksum is wrong")
    if said["format"] != FORMAT:
        raise ValueError(f"its format is {said['format']}, this isoflop reads {FORMAT}")
    if said["run_id"] != run_id:
        raise ValueError(f"it belongs to run {said['run_id']}")
    checked: dict[str, Any] = said
    return checked


def _steps(folder: Path) -> list[int]:
    names = (path.stem for path in folder.glob("*.json"))
    return sorted((int(name) for name in names if name.isdecimal()), reverse=True)


def _write_aside(base: Path, said: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
    """Write `base`.safetensors and .json under names of this process, and wait until the disk has them."""
    from safetensors.torch import save_file

    make_folder(base.parent)
    data, sidecar = _aside(base, ".safetensors"), _aside(base, ".json")
    save_file(tensors, data)
    sync(data)
    sidecar.write_text(seal(said, _sha256(data)))
    sync(sidecar)


def _publish(base: Path) -> None:
    for suffix in (".safetensors", ".json"):
        _aside(base, suffix).replace(base.with_name(base.name + suffix))
    sync(base.parent)


def _aside(base: Path, suffix: str) -> Path:
    return base.with_name(f"{base.name}{suffix}.{os.getpid()}.part")


def _prune(folder: Path, steps: set[int] | None) -> None:
    """Delete what is not of the given steps (None: of all), and what was left half-written."""
    keep = None if steps is None else {str(step) for step in steps}
    for path in folder.glob("*"):
        if path.suffix == ".part" or (keep is not None and path.name.partition(".")[0] not in keep):
            path.unlink(missing_ok=True)


def _read(sidecar: Path, run_id: str) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """A JSON and its tensors, checked; ValueError (or what reading raises) where anything is amiss."""
    from safetensors.torch import load_file

    said = unseal(sidecar.read_bytes(), run_id)
    data = sidecar.with_suffix(".safetensors")
    if _sha256(data) != said["sha256"]:
        raise ValueError(f"the checksum of {data.name} is wrong")
    return said, load_file(data)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
