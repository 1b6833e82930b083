"""Save a run between two steps and go on from there: safetensors and a small JSON, checksummed, never pickle.

The checkpoints of a run lie in `<folder>/<run_id>/`: `<step>.safetensors` holds tensors, `<step>.json` the rest
and both checksums. They are written aside, fsynced and renamed, the JSON last: where it stands, the checkpoint is
whole. The one before is kept beside it, for a disk that lies. Each run of a stack has its own, so that it can go
on in any other company. The final parameters of a run that is to be built upon are `<folder>/<run_id>.safetensors`.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import shutil
import time
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError

from trainer.durable import make_folder, sync
from trainer.result import Record

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import torch

    from trainer.optimise import Optimizer
    from trainer.spec import RunSpec

FORMAT = 1
"""Version of the files. Another one is refused, and the run starts again."""

SHARE, LATEST = 0.05, 10
"""Share of the time that saving may take; where one save takes long, the next waits up to so many times longer."""

NEEDED = {"adamw": ("step", "exp_avg", "exp_avg_sq"), "sgd": ("momentum_buffer",), "lion": ("momentum",)}
"""What each optimiser must find again. It makes anew what it misses, so nobody else would notice."""

log = logging.getLogger("isoflop")


@dataclass(frozen=True)
class State:
    """A run after `step` steps: all that its next step depends on, and what it has yielded so far.

    `tensors` holds `row`, the parameters [n]; `loss_sum`, its training loss [] summed since step `since`, that of
    its last record; and `optimizer.<i>.<name>`, the optimiser's state of the run's i-th tensor.
    """

    step: int
    since: int
    seconds: float
    history: tuple[Record, ...]
    tensors: dict[str, torch.Tensor]


class Checkpoints:
    """The checkpoints that runs in training leave in a folder; without a folder there are none.

    `every` is the least time between two saves, in seconds. A disk that is full or broken costs a warning and
    never the run. `here` is the device's name and the number of threads: on others last bits may differ.
    """

    def __init__(self, folder: Path | None, every: float, here: tuple[str, int]) -> None:
        self.folder, self._every, self._here = folder, every, here
        self._due = time.monotonic() + every
        self._last: dict[str, int] = {}
        self._left: dict[str, State] = {}

    @property
    def due(self) -> bool:
        """Whether it is time to save."""
        return self.folder is not None and time.monotonic() >= self._due

    def newest(self, run: RunSpec) -> State | None:
        """The newest checkpoint of a run that is whole, None where there is none.

        One that is torn, or is of another run or format, is refused with a line in the log.
        """
        left = self._left.pop(run.run_id, None)
        for step in saved_steps(self.folder, run.run_id):
            assert self.folder is not None
            if left is not None and left.step >= step:
                break
            sidecar = self.folder / run.run_id / f"{step}.json"
            try:
                said, tensors = _read(sidecar, run.run_id)
                _check_complete(run, tensors)
                history = tuple(Record(**record) for record in said["history"])
                state = State(said["step"], said["since"], said["seconds"], history, tensors)
                made_on = (said["device"], said["threads"])
            except (OSError, SafetensorError, ValueError, TypeError) as error:
                log.warning("%s is refused: %s; an earlier one is used, or the run starts again", sidecar, error)
                continue
            if made_on != self._here:
                said_so = "run %s goes on at step %d on %s with %d threads after %s with %d: last bits may differ"
                log.warning(said_so, run.run_id[:8], state.step, *self._here, *made_on)
            self._last[run.run_id] = state.step
            return state
        return left

    def leave(self, run: RunSpec, state: State) -> None:
        """Leave a state to a run that begins with it later in this process, and on the disk for another one."""
        copied = {name: tensor.clone() for name, tensor in state.tensors.items()}
        self._left[run.run_id] = replace(state, tensors=copied)
        if max(saved_steps(self.folder, run.run_id), default=0) < state.step:
            self.save([(run, state)])

    def save(self, states: Sequence[tuple[RunSpec, State]]) -> None:
        """Save runs of one stack. All are written before the first is renamed, so that they stay at one step."""
        if self.folder is None:
            return
        began = time.monotonic()
        try:
            for run, state in states:
                _write_aside(self.folder / run.run_id / str(state.step), self._said(run, state), state.tensors)
            for run, state in states:
                _publish(self.folder / run.run_id / str(state.step))
                _prune(self.folder / run.run_id, {state.step, self._last.get(run.run_id, state.step)})
                self._last[run.run_id] = state.step
        except (OSError, SafetensorError) as error:
            log.warning("no checkpoint in %s: %s; training goes on", self.folder, error)
            with contextlib.suppress(OSError):
                for run, _ in states:
                    _prune(self.folder / run.run_id, None)
        took = time.monotonic() - began
        self._due = time.monotonic() + min(max(self._every, took / SHARE), LATEST * self._every)

    def _said(self, run: RunSpec, state: State) -> dict[str, Any]:
        return {
            "run_id": run.run_id,
            "spec": asdict(run),
            "step": state.step,
            "since": state.since,
            "seconds": state.seconds,
            "history": [asdict(record) for record in state.history],
            "device": self._here[0],
            "threads": self._here[1],
        }

    def keep(self, run: RunSpec, weights: dict[str, torch.Tensor]) -> None:
        """Keep a run's final parameters, by the names of `trainer.model.slots`, for `kept` to read."""
        assert self.folder is not None
        try:
            _write_aside(self.folder / run.run_id, {"run_id": run.run_id, "spec": asdict(run)}, weights)
            _publish(self.folder / run.run_id)
        except (OSError, SafetensorError) as error:
            log.warning("the parameters of run %s cannot be kept in %s: %s", run.run_id[:8], self.folder, error)

    def remove(self, run: RunSpec) -> None:
        """Remove the checkpoints of a run that has ended; kept parameters stay."""
        if self.folder is not None:
            shutil.rmtree(self.folder / run.run_id, ignore_errors=True)


def kept(folder: Path, run_id: str) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """A run's spec as a mapping, and its final parameters by the names of `trainer.model.slots`, fp32, on the CPU.

    Raises OSError where there are none, ValueError where they are damaged or another run's.
    """
    said, weights = _read(folder / f"{run_id}.json", run_id)
    return said["spec"], weights


def is_kept(folder: Path | None, run_id: str) -> bool:
    """Whether the final parameters of a run were kept; they have not been read yet."""
    return folder is not None and (folder / f"{run_id}.json").exists()


def saved_steps(folder: Path | None, run_id: str) -> list[int]:
    """Steps at which checkpoints of a run stand, newest first; none of them has been read yet."""
    if folder is None:
        return []
    names = (path.stem for path in (folder / run_id).glob("*.json"))
    return sorted((int(name) for name in names if name.isdecimal()), reverse=True)


def tensors_of(row: torch.Tensor, optimizer: Optimizer, loss_sum: torch.Tensor) -> dict[str, torch.Tensor]:
    """What `State.tensors` holds of a run, on the CPU (where it is there already, not copied)."""
    found = {"row": row, "loss_sum": loss_sum}
    for i, parameter in enumerate(_of(row, optimizer)):
        state = optimizer.state.get(parameter, {})
        found |= {f"optimizer.{i}.{name}": value for name, value in state.items() if value is not None}
    return {name: value.detach().cpu().contiguous() for name, value in found.items()}


def restore(
    states: Sequence[State | None],
    rows: Sequence[torch.Tensor],
    optimizer: Optimizer,
    loss_sum: torch.Tensor,
) -> int:
    """Put a stack back to where its members were saved, the inverse of `tensors_of`; returns their one step.

    Without states (None) it is at step 0 and stays as it is.
    """
    for k, (state, row) in enumerate(zip(states, rows, strict=True)):
        if state is None:
            return 0
        row.copy_(state.tensors["row"])
        loss_sum[k] = state.tensors["loss_sum"]
        for i, parameter in enumerate(_of(row, optimizer)):
            own = {name: value for name, value in state.tensors.items() if name.startswith(f"optimizer.{i}.")}
            if own:  # cloned: what was read lies at any address, and kernels look at alignment
                held = {name.split(".", 2)[2]: value.clone().to(row.device) for name, value in own.items()}
                optimizer.state[parameter] = held
    (step,) = {state.step for state in states if state is not None}
    return step


def _of(row: torch.Tensor, optimizer: Optimizer) -> Iterator[torch.Tensor]:
    """The optimiser's tensors that lie in a run's row."""
    begin, end = row.data_ptr(), row.data_ptr() + row.nbytes
    everything = (parameter for group in optimizer.param_groups for parameter in group["params"])
    return (parameter for parameter in everything if begin <= parameter.data_ptr() < end)


def _write_aside(base: Path, said: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
    """Write `base`.safetensors and .json under names of this process, and wait until the disk has them."""
    from safetensors.torch import save_file

    make_folder(base.parent)
    data, sidecar = _aside(base, ".safetensors"), _aside(base, ".json")
    save_file(tensors, data)
    sync(data)
    said = {**said, "format": FORMAT, "sha256": _sha256(data)}
    text = json.dumps(said, allow_nan=False)
    sidecar.write_text(json.dumps({"said": said, "sha256": hashlib.sha256(text.encode()).hexdigest()}))
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

    whole = json.loads(sidecar.read_bytes())
    said = whole.get("said") if isinstance(whole, dict) else None
    if said is None or hashlib.sha256(json.dumps(said).encode()).hexdigest() != whole.get("sha256"):
        raise ValueError("its checksum is wrong")
    if said["format"] != FORMAT:
        raise ValueError(f"its format is {said['format']}, this isoflop reads {FORMAT}")
    if said["run_id"] != run_id:
        raise ValueError(f"it belongs to run {said['run_id']}")
    data = sidecar.with_suffix(".safetensors")
    if _sha256(data) != said["sha256"]:
        raise ValueError(f"the checksum of {data.name} is wrong")
    return said, load_file(data)


def _check_complete(run: RunSpec, tensors: dict[str, torch.Tensor]) -> None:
    state = NEEDED[run.optimizer] if run.optimizer != "sgd" or run.momentum else ()
    missing = {"row", "loss_sum", *(f"optimizer.0.{name}" for name in state)} - tensors.keys()
    if missing:
        raise ValueError(f"it lacks {', '.join(sorted(missing))}")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
