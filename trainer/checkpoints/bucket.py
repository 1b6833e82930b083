"""Checkpoints behind a URL: one object each, uploaded in the background.

The object `<run_id>.<step>.<bytes>.<sha256>` holds the checkpoint's JSON on one line, then its tensors as
safetensors; the final parameters of a run are such an object in `kept/`. Its name gives its length and checksum, so
a listing shows that an upload was cut short, and an upload never overwrites a checkpoint. The two newest of each
run are kept; older ones are deleted when a newer one is complete.
"""

from __future__ import annotations

import hashlib
import logging
from typing import TYPE_CHECKING, Any, NamedTuple

from trainer.checkpoints.background import Background
from trainer.checkpoints.folder import seal, unseal
from trainer.host.urls import Remote, RemoteError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    import torch

    from trainer.checkpoints.folder import Save

KEPT = "kept"
DIGITS = 16
"""Hexadecimal digits of the checksum in an object's name."""

log = logging.getLogger("isoflop")


class _Object(NamedTuple):
    """An object's name and what it says; `whole` is whether the object has that length."""

    name: str
    run_id: str
    step: int
    sha256: str
    whole: bool


class Bucket:
    """Checkpoints behind a URL, for one attempt: listed once, afterwards it knows what it wrote itself.

    Uploads run in the background, one after the other. One that fails logs a warning; the next checkpoint is the
    next try, and until then the previous one remains.
    """

    eager = False  # requests are paid for, and slow

    def __init__(self, url: str) -> None:
        self._reader, self._writer = Remote(url), Remote(url)  # for the caller, and for the background
        self._objects: dict[str, list[_Object]] | None = None
        self._kept: dict[str, _Object] = {}
        self._last: dict[str, str] = {}
        self._background = Background("isoflop-upload")

    def __str__(self) -> str:
        return str(self._reader)

    @property
    def busy(self) -> bool:
        """Whether an upload is under way."""
        return self._background.busy

    @property
    def seconds(self) -> float:
        """See Storage."""
        return self._background.seconds

    def steps(self, run_id: str) -> list[int]:
        """See Storage; includes those that were cut short."""
        return sorted({item.step for item in self._objects_of(run_id)}, reverse=True)

    def name(self, run_id: str, step: int) -> str:
        """The URL of the object."""
        return f"{self}/{self._at(run_id, step).name}"

    def read(self, run_id: str, step: int) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
        """See Storage."""
        item = self._at(run_id, step)
        checkpoint = self._read(item)
        self._last[run_id] = item.name
        return checkpoint

    def write(self, saves: Sequence[Save]) -> None:
        """See Storage; in the background, so the tensors may change afterwards."""
        copies = [(save._replace(tensors={}), _copied(save.tensors)) for save in saves]
        self._background.later(lambda: self._upload(copies))

    def keep(self, run_id: str, metadata: dict[str, Any], weights: dict[str, torch.Tensor]) -> None:
        """See Storage; in the background, with a warning if it fails."""
        data = _copied(weights)

        def upload() -> None:
            content = _packed(metadata, data)
            name = f"{KEPT}/{_name(run_id, metadata['spec']['steps'], content)}"
            try:
                self._writer.write({name: content}, patient=True)  # other runs need it
            except RemoteError as error:
                log.warning("the parameters of run %s cannot be kept: %s", run_id[:8], error)

        self._background.later(upload)

    def kept(self, run_id: str) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
        """See Storage; listed once."""
        self._kept = self._kept or {item.run_id: item for item in self._listed(KEPT, patient=True) if item.whole}
        if run_id not in self._kept:
            raise FileNotFoundError(f"{self}/{KEPT} holds none that is whole")
        return self._read(self._kept[run_id], KEPT)

    def remove(self, run_ids: Collection[str]) -> None:
        """See Storage; in the background, including what a worker uploaded that was thought dead."""

        def remove() -> None:
            runs = {run_id for run_id in run_ids if self._objects is None or self._objects.get(run_id)}
            if runs:
                self._delete(lambda name: name.partition(".")[0] in runs)

        self._background.later(remove)

    def settle(self, alive: Callable[[], None] = lambda: None) -> None:
        """See Storage."""
        self._background.settle(alive)

    def begun(self) -> dict[str, int]:
        """See Storage; one listing, without those that were cut short."""
        newest: dict[str, int] = {}
        for item in self._listed():
            if item.whole:
                newest[item.run_id] = max(item.step, newest.get(item.run_id, 0))
        return newest

    def all_kept(self) -> set[str]:
        """See Storage; one listing."""
        return {item.run_id for item in self._listed(KEPT) if item.whole}

    # in the background

    def _objects_of(self, run_id: str) -> list[_Object]:
        """A run's checkpoints, those that were cut short first; none if they cannot be listed."""
        if self._objects is None:
            self._objects = {}
            try:
                for item in sorted(self._listed(patient=True), key=lambda item: item.whole):
                    self._objects.setdefault(item.run_id, []).append(item)
            except RemoteError as error:
                log.warning("checkpoints cannot be listed: %s; runs start again from step 0", error)
        return self._objects.get(run_id, [])

    def _at(self, run_id: str, step: int) -> _Object:
        return [item for item in self._objects_of(run_id) if item.step == step][-1]

    def _upload(self, copies: list[tuple[Save, bytes]]) -> None:
        files: dict[str, bytes] = {}
        while copies:  # freed one by one as they are packed, so that only one is in memory twice
            save, data = copies.pop()
            content = _packed(save.metadata, data)
            files[_name(save.run_id, save.step, content)] = content
        new = {item.run_id: item for item in map(_parsed, files) if item is not None}
        old = {run_id: self._objects_of(run_id) for run_id in new}
        assert self._objects is not None
        for run_id, item in new.items():  # before the upload: part of a stack may arrive
            self._objects[run_id] = [*(one for one in old[run_id] if one.name != item.name), item]
        try:
            self._writer.write(files)
        except RemoteError as error:
            log.warning("no checkpoint: %s; training goes on", error)
            return
        outdated = []
        for run_id, item in new.items():
            newest = {item.name, self._last.get(run_id, item.name)}
            outdated += [one for one in old[run_id] if one.name not in newest]
            self._last[run_id] = item.name
        names = {item.name for item in outdated}
        if names and self._delete(lambda name: name in names):
            for run_id in new:
                self._objects[run_id] = [item for item in self._objects[run_id] if item not in outdated]

    def _delete(self, doomed: Callable[[str], bool]) -> bool:
        try:
            self._writer.delete(doomed)
        except RemoteError as error:
            log.warning("an old checkpoint cannot be deleted: %s", error)
            return False
        return True

    def _listed(self, folder: str = "", *, patient: bool = False) -> list[_Object]:
        sizes = self._reader.sizes(folder, patient=patient)
        return [item for name, size in sizes.items() if (item := _parsed(name, size))]

    def _read(self, item: _Object, folder: str = "") -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
        from safetensors.torch import load

        if not item.whole:
            raise ValueError("it was cut short")
        content = self._reader.read(f"{folder}/{item.name}".lstrip("/"), patient=True)
        if hashlib.sha256(content).hexdigest()[:DIGITS] != item.sha256:
            raise ValueError("its checksum is wrong")
        text, _, tensors = content.partition(b"\n")
        return unseal(text, item.run_id), load(tensors)


def _copied(tensors: dict[str, torch.Tensor]) -> bytes:
    from safetensors.torch import save

    return save(tensors)


def _packed(metadata: dict[str, Any], data: bytes) -> bytes:
    return seal(metadata, hashlib.sha256(data).hexdigest()).encode() + b"\n" + data


def _name(run_id: str, step: int, content: bytes) -> str:
    return f"{run_id}.{step}.{len(content)}.{hashlib.sha256(content).hexdigest()[:DIGITS]}"


def _parsed(name: str, size: int | None = None) -> _Object | None:
    """The object of a name, None if it is not a checkpoint's; without a size it is whole."""
    run_id, _, rest = name.partition(".")
    step, _, rest = rest.partition(".")
    length, _, sha256 = rest.partition(".")
    if not step.isdecimal() or not length.isdecimal() or len(sha256) != DIGITS:
        return None
    return _Object(name, run_id, int(step), sha256, size in (None, int(length)))
