"""Checkpoints behind a URL: one object each, uploaded in the background.

`<run_id>.<step>.<bytes>.<sha256>` is a run's JSON on a line and then its tensors, as safetensors; the final
parameters of a run are an object of that kind in `kept/`. The name says what the object must be, so an upload that
was cut short is known by a listing and refused, and one that is under way never touches a checkpoint that stands.
Of each run the newest and the one before stay; older ones go when a newer one is up.
"""

from __future__ import annotations

import hashlib
import logging
from concurrent import futures
from typing import TYPE_CHECKING, Any, NamedTuple

from trainer.checkpoints.folder import seal, unseal
from trainer.host.urls import Remote, RemoteError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    import torch

    from trainer.checkpoints.folder import Save

KEPT = "kept"
DIGITS = 16
"""Of an object's checksum, in its name."""

log = logging.getLogger("isoflop")


class _Object(NamedTuple):
    """What the name of an object says; `whole` is whether its length agrees."""

    name: str
    run_id: str
    step: int
    sha256: str
    whole: bool


class Bucket:
    """Checkpoints behind a URL, for one attempt: what lies there is looked at once, then it knows what it does.

    Uploads are made in the background, one after the other. One that fails costs a warning; the next
    checkpoint is the next try, and until then the one before serves.
    """

    def __init__(self, url: str) -> None:
        self._reader, self._writer = Remote(url), Remote(url)  # for the caller, and for the background
        self._there: dict[str, list[_Object]] | None = None
        self._kept: dict[str, _Object] = {}
        self._last: dict[str, str] = {}
        self._thread = futures.ThreadPoolExecutor(1, "isoflop-upload")
        self._pending: list[futures.Future[object]] = []

    def __str__(self) -> str:
        return str(self._reader)

    @property
    def busy(self) -> bool:
        """Whether an upload is under way."""
        return not all(task.done() for task in self._pending)

    def steps(self, run_id: str) -> list[int]:
        """As Storage has it; those that were cut short are among them."""
        return sorted({made.step for made in self._known(run_id)}, reverse=True)

    def name(self, run_id: str, step: int) -> str:
        """The URL of the object."""
        return f"{self}/{self._at(run_id, step).name}"

    def read(self, run_id: str, step: int) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
        """As Storage has it."""
        made = self._at(run_id, step)
        found = self._read(made)
        self._last[run_id] = made.name
        return found

    def write(self, saves: Sequence[Save]) -> None:
        """As Storage has it, in the background: what is given may change afterwards."""
        copies = [(save._replace(tensors={}), _copied(save.tensors)) for save in saves]
        self._later(lambda: self._upload(copies))

    def keep(self, run_id: str, said: dict[str, Any], weights: dict[str, torch.Tensor]) -> None:
        """As Storage has it, in the background; a warning where it fails."""
        data = _copied(weights)

        def upload() -> None:
            content = _packed(said, data)
            name = f"{KEPT}/{_name(run_id, said['spec']['steps'], content)}"
            try:
                self._writer.write({name: content}, patient=True)  # others are to begin with it
            except RemoteError as error:
                log.warning("the parameters of run %s cannot be kept: %s", run_id[:8], error)

        self._later(upload)

    def kept(self, run_id: str) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
        """As Storage has it; who was kept is looked at once."""
        self._kept = self._kept or {made.run_id: made for made in self._listed(KEPT, patient=True) if made.whole}
        if run_id not in self._kept:
            raise FileNotFoundError(f"{self}/{KEPT} holds none that is whole")
        return self._read(self._kept[run_id], KEPT)

    def remove(self, run_ids: Collection[str]) -> None:
        """As Storage has it, in the background: also what a worker has left that was thought dead."""

        def remove() -> None:
            runs = {run_id for run_id in run_ids if self._there is None or self._there.get(run_id)}
            if runs:
                self._delete(lambda name: name.partition(".")[0] in runs)

        self._later(remove)

    def settle(self, alive: Callable[[], None] = lambda: None) -> None:
        """Wait for what goes on in the background, calling `alive` every second."""
        while self._pending:
            futures.wait(self._pending, timeout=1)
            self._reap()
            alive()

    def begun(self) -> dict[str, int]:
        """As Storage has it, by one listing; what was cut short does not count."""
        newest: dict[str, int] = {}
        for made in self._listed():
            if made.whole:
                newest[made.run_id] = max(made.step, newest.get(made.run_id, 0))
        return newest

    def all_kept(self) -> set[str]:
        """As Storage has it, by one listing."""
        return {made.run_id for made in self._listed(KEPT) if made.whole}

    # one after the other

    def _later(self, act: Callable[[], object]) -> None:
        self._reap()
        self._pending.append(self._thread.submit(act))

    def _reap(self) -> None:
        while self._pending and self._pending[0].done():
            self._pending.pop(0).result()  # raises what nobody foresaw

    def _known(self, run_id: str) -> list[_Object]:
        """What lies there of a run, those that were cut short first; nothing where that cannot be seen."""
        if self._there is None:
            self._there = {}
            try:
                for made in sorted(self._listed(patient=True), key=lambda made: made.whole):
                    self._there.setdefault(made.run_id, []).append(made)
            except RemoteError as error:
                log.warning("no checkpoints are seen: %s; what has begun begins again", error)
        return self._there.get(run_id, [])

    def _at(self, run_id: str, step: int) -> _Object:
        return [made for made in self._known(run_id) if made.step == step][-1]

    def _upload(self, copies: list[tuple[Save, bytes]]) -> None:
        files: dict[str, bytes] = {}
        while copies:  # each goes when it is packed: memory holds one of them twice, not all
            save, data = copies.pop()
            content = _packed(save.said, data)
            files[_name(save.run_id, save.step, content)] = content
        new = {made.run_id: made for made in map(_parsed, files) if made is not None}
        old = {run_id: self._known(run_id) for run_id in new}
        assert self._there is not None
        for run_id, made in new.items():  # noted first: of a stack some may arrive and others not
            self._there[run_id] = [*(one for one in old[run_id] if one.name != made.name), made]
        try:
            self._writer.write(files)
        except RemoteError as error:
            log.warning("no checkpoint: %s; training goes on", error)
            return
        gone = []
        for run_id, made in new.items():
            stay = {made.name, self._last.get(run_id, made.name)}
            gone += [one for one in old[run_id] if one.name not in stay]
            self._last[run_id] = made.name
        names = {made.name for made in gone}
        if names and self._delete(lambda name: name in names):
            for run_id in new:
                self._there[run_id] = [made for made in self._there[run_id] if made not in gone]

    def _delete(self, doomed: Callable[[str], bool]) -> bool:
        try:
            self._writer.delete(doomed)
        except RemoteError as error:
            log.warning("an old checkpoint stays: %s", error)
            return False
        return True

    def _listed(self, folder: str = "", *, patient: bool = False) -> list[_Object]:
        found = self._reader.sizes(folder, patient=patient)
        return [made for name, size in found.items() if (made := _parsed(name, size))]

    def _read(self, made: _Object, folder: str = "") -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
        from safetensors.torch import load

        if not made.whole:
            raise ValueError("it was cut short")
        content = self._reader.read(f"{folder}/{made.name}".lstrip("/"), patient=True)
        if hashlib.sha256(content).hexdigest()[:DIGITS] != made.sha256:
            raise ValueError("its checksum is wrong")
        text, _, tensors = content.partition(b"\n")
        return unseal(text, made.run_id), load(tensors)


def _copied(tensors: dict[str, torch.Tensor]) -> bytes:
    from safetensors.torch import save

    return save(tensors)


def _packed(said: dict[str, Any], data: bytes) -> bytes:
    return seal(said, hashlib.sha256(data).hexdigest()).encode() + b"\n" + data


def _name(run_id: str, step: int, content: bytes) -> str:
    return f"{run_id}.{step}.{len(content)}.{hashlib.sha256(content).hexdigest()[:DIGITS]}"


def _parsed(name: str, size: int | None = None) -> _Object | None:
    """What a name says, None for a file of somebody else; without a size it is whole."""
    run_id, _, rest = name.partition(".")
    step, _, rest = rest.partition(".")
    length, _, sha256 = rest.partition(".")
    if not step.isdecimal() or not length.isdecimal() or len(sha256) != DIGITS:
        return None
    return _Object(name, run_id, int(step), sha256, size in (None, int(length)))
