"""Saving a run between two steps and resuming it: when to save, what, and which checkpoints are valid.

The files and the guarantees are those of `trainer.checkpoints.folder`, a folder, and `trainer.checkpoints.bucket`,
a URL. Each run of a stack has its own checkpoints, so that it can go on in any other company.
"""

from __future__ import annotations

import logging
import time
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from safetensors import SafetensorError

from trainer.checkpoints.bucket import Bucket
from trainer.checkpoints.folder import Folder, Save
from trainer.host.urls import is_url, local
from trainer.optimizers import OPTIMIZERS
from trainer.result import Record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    import torch

    from trainer.checkpoints.folder import Storage
    from trainer.spec import RunSpec

SHARE, LATEST = 0.05, 10
"""Share of the time that saving may take; where one save takes long, the next waits up to so many times longer."""

log = logging.getLogger("isoflop")


class OptimizerState(Protocol):
    """What is saved of an optimiser: its parameter groups, and the state tensors of each parameter by name."""

    param_groups: list[dict[str, Any]]
    state: dict[torch.Tensor, dict[str, torch.Tensor]]


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
    """The checkpoints that runs in training leave in a folder or behind a URL; without one (None) there are none.

    `every` is the least time between two saves, in seconds. A disk that is full or broken, or a server that does
    not answer, costs a warning and never the run. `here` is the device's name and the number of threads: on others
    last bits may differ.
    """

    def __init__(self, where: Path | str | None, every: float, here: tuple[str, int]) -> None:
        self.storage = None if where is None else storage_of(where)
        self._every, self._here = every, here
        self._due = time.monotonic() + every
        self._left: dict[str, State] = {}

    @property
    def due(self) -> bool:
        """Whether it is time to save, and the last save is through."""
        return self.storage is not None and time.monotonic() >= self._due and not self.storage.busy

    def newest(self, run: RunSpec) -> State | None:
        """The newest checkpoint of a run that is whole, None where there is none.

        One that is torn, or is of another run or format, is refused with a line in the log.
        """
        left = self._left.pop(run.run_id, None)
        for step in self._steps(run):
            assert self.storage is not None
            if left is not None and left.step >= step:
                break
            try:
                said, tensors = self.storage.read(run.run_id, step)
                _check_complete(run, tensors)
                history = tuple(Record(**record) for record in said["history"])
                state = State(said["step"], said["since"], said["seconds"], history, tensors)
                made_on = (said["device"], said["threads"])
            except (OSError, SafetensorError, ValueError, TypeError) as error:
                name = self.storage.name(run.run_id, step)
                log.warning("%s is refused: %s; an earlier one is used, or the run starts again", name, error)
                continue
            if made_on != self._here:
                said_so = "run %s goes on at step %d on %s with %d threads after %s with %d: last bits may differ"
                log.warning(said_so, run.run_id[:8], state.step, *self._here, *made_on)
            return state
        return left

    def _steps(self, run: RunSpec) -> list[int]:
        return [] if self.storage is None else self.storage.steps(run.run_id)

    def leave(self, run: RunSpec, state: State) -> None:
        """Leave a state to a run that begins with it later in this process, and in storage for another one."""
        copied = {name: tensor.clone() for name, tensor in state.tensors.items()}
        self._left[run.run_id] = replace(state, tensors=copied)
        if max(self._steps(run), default=0) < state.step:
            self.save([(run, state)])

    def save(self, states: Sequence[tuple[RunSpec, State]]) -> None:
        """Save runs of one stack."""
        if self.storage is None:
            return
        began = time.monotonic()
        try:
            self.storage.write(
                [Save(run.run_id, state.step, self._said(run, state), state.tensors) for run, state in states]
            )
        except (OSError, SafetensorError) as error:
            log.warning("no checkpoint in %s: %s; training goes on", self.storage, error)
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
        """Keep a run's final parameters, by the names of `mlp.slots`, for `kept_parameters` to read."""
        assert self.storage is not None
        try:
            self.storage.keep(run.run_id, {"run_id": run.run_id, "spec": asdict(run)}, weights)
        except (OSError, SafetensorError) as error:
            log.warning("the parameters of run %s can't be kept in %s: %s", run.run_id[:8], self.storage, error)

    def end(self, runs: Sequence[RunSpec], alive: Callable[[], None]) -> None:
        """Remove the checkpoints of runs that have ended; return when all that is to stay is where it belongs."""
        if self.storage is not None:
            self.storage.remove([run.run_id for run in runs])
            self.storage.settle(alive)


def storage_of(where: Path | str) -> Storage:
    """What reads and writes in a folder or behind a URL."""
    return Bucket(str(where)) if is_url(where) else Folder(local(where))


def kept_parameters(where: Path | str, run_id: str) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """A run's spec as a mapping, and its final parameters by the names of `mlp.slots`, fp32, on the CPU.

    Raises OSError where there are none, ValueError where they are damaged or another run's.
    """
    said, weights = storage_of(where).kept(run_id)
    return said["spec"], weights


def saved_steps(where: Path | str | None, run_id: str) -> list[int]:
    """Steps at which checkpoints of a run stand, newest first; none of them has been read yet."""
    return [] if where is None else storage_of(where).steps(run_id)


def tensors_of(row: torch.Tensor, optimizer: OptimizerState, loss_sum: torch.Tensor) -> dict[str, torch.Tensor]:
    """What `State.tensors` holds of a run, on the CPU (where it is there already, not copied)."""
    found = {"row": row, "loss_sum": loss_sum}
    for i, parameter in enumerate(_of(row, optimizer)):
        state = optimizer.state.get(parameter, {})
        found |= {f"optimizer.{i}.{name}": value for name, value in state.items() if value is not None}
    return {name: value.detach().cpu().contiguous() for name, value in found.items()}


def restore(
    states: Sequence[State | None],
    rows: Sequence[torch.Tensor],
    optimizer: OptimizerState,
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


def _of(row: torch.Tensor, optimizer: OptimizerState) -> Iterator[torch.Tensor]:
    """The optimiser's tensors that lie in a run's row."""
    begin, end = row.data_ptr(), row.data_ptr() + row.nbytes
    everything = (parameter for group in optimizer.param_groups for parameter in group["params"])
    return (parameter for parameter in everything if begin <= parameter.data_ptr() < end)


def _check_complete(run: RunSpec, tensors: dict[str, torch.Tensor]) -> None:
    rule = OPTIMIZERS.get(run.optimizer)
    state = rule.state_with(rule.hyperparameters_of(run))
    missing = {"row", "loss_sum", *(f"optimizer.0.{tensor.name}" for tensor in state)} - tensors.keys()
    if missing:
        raise ValueError(f"it lacks {', '.join(sorted(missing))}")
