"""Saving a run between two steps and resuming it: when to save, what, and which checkpoints are valid.

`trainer.checkpoints.folder` and `trainer.checkpoints.bucket` read and write them. Each run of a stack has its own
checkpoints, so it can resume in another stack.
"""

from __future__ import annotations

import logging
import time
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from safetensors import SafetensorError

from trainer import cost
from trainer.checkpoints.bucket import Bucket
from trainer.checkpoints.folder import Folder, Save
from trainer.host.limits import seconds_without_core
from trainer.host.urls import is_url, local
from trainer.optimizers import OPTIMIZERS
from trainer.result import Record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    import torch

    from trainer.checkpoints.folder import Storage
    from trainer.spec import RunSpec

SHARE, LATEST = 0.02, 30
"""Largest share of the time spent saving; after a slow save the next one waits, at most LATEST times as long."""
PART = 0.1
"""Share of a run after which it is saved in a folder, where that comes first, so that a kill costs no more."""
RUN, BYTE = 3e-3, 1.5e-9
"""CPU seconds of saving a run, and a byte of its tensors: 3.5 ms and 0.2 s for 0.6 and 120 MB on an EPYC core."""

log = logging.getLogger("isoflop")


class OptimizerState(Protocol):
    """What is saved of an optimiser: its parameter groups, and the state tensors of each parameter by name."""

    param_groups: list[dict[str, Any]]
    state: dict[torch.Tensor, dict[str, torch.Tensor]]


@dataclass(frozen=True)
class State:
    """A run after `step` steps: everything that its next step depends on, and its records so far.

    `tensors` holds `row`, the parameters [n]; `loss_sum` [], the training loss summed since step `since`, that of
    the last record; and `optimizer.<i>.<name>`, the optimiser's state of the run's i-th tensor. `seconds` and
    `eval_seconds` are the time spent on training and on evaluation.
    """

    step: int
    since: int
    seconds: float
    history: tuple[Record, ...]
    tensors: dict[str, torch.Tensor]
    eval_seconds: float = 0.0


class Checkpoints:
    """Saves and resumes runs in a folder or behind a URL; without one (None) nothing is saved.

    `every` is the most time between two saves, in seconds, unless they take more than SHARE of the time: then they
    wait. If the disk is full or broken, or the server does not answer, a warning is logged and training continues.
    `here` is the device's name and the number of threads; on others, last bits may differ.
    """

    def __init__(self, where: Path | str | None, every: float, here: tuple[str, int]) -> None:
        self.storage = None if where is None else storage_of(where)
        self._every, self._here = every, here
        self._saved = time.monotonic()
        self._began = self._saved - seconds_without_core()
        self._waited = self._next = 0.0
        self._left: dict[str, State] = {}

    def due(self, runs: Sequence[RunSpec], pace: float) -> bool:
        """Whether it is time to save runs of a stack that takes `pace` seconds a step."""
        now = time.monotonic()
        if self.storage is None or now < self._next or self.storage.busy:
            return False
        shortest = min((run.steps or 0 for run in runs), default=0)
        apart = min(self._every, PART * shortest * pace) if self.storage.eager else self._every
        if now - self._saved < apart:
            return False
        self._next = now + self._lacking(runs)
        return self._next <= now

    def _lacking(self, runs: Sequence[RunSpec]) -> float:
        """Seconds until saving these takes at most SHARE of the time, or was put off for long enough; at least 0.

        The time is without that in which other programs had the core: they make saving longer as well.
        """
        assert self.storage is not None
        now = time.monotonic()
        spent = self._waited + self.storage.seconds + sum(map(_price, runs))
        own = now - seconds_without_core() - self._began
        return max(0.0, min(spent / SHARE - own, self._saved + LATEST * self._every - now))

    def newest(self, run: RunSpec) -> State | None:
        """The newest complete checkpoint of a run, None if there is none.

        A damaged one, or one of another run or format, is refused with a warning.
        """
        left = self._left.pop(run.run_id, None)
        for step in self._steps(run):
            assert self.storage is not None
            if left is not None and left.step >= step:
                break
            try:
                metadata, tensors = self.storage.read(run.run_id, step)
                _check_complete(run, tensors)
                history = tuple(map(Record.from_dict, metadata["history"]))
                times = metadata["seconds"], metadata.get("eval_seconds", 0.0)
                state = State(metadata["step"], metadata["since"], times[0], history, tensors, times[1])
                saved_on = (metadata["device"], metadata["threads"])
            except (OSError, SafetensorError, ValueError, TypeError) as error:
                name = self.storage.name(run.run_id, step)
                log.warning("%s is refused: %s; an earlier one is used, or the run starts again", name, error)
                continue
            if saved_on != self._here:
                message = "run %s goes on at step %d on %s with %d threads after %s with %d: last bits may differ"
                log.warning(message, run.run_id[:8], state.step, *self._here, *saved_on)
            return state
        return left

    def _steps(self, run: RunSpec) -> list[int]:
        return [] if self.storage is None else self.storage.steps(run.run_id)

    def leave(self, run: RunSpec, state: State) -> None:
        """Leave a state to a run that begins with it later in this process, and in storage for another one."""
        copied = {name: tensor.clone() for name, tensor in state.tensors.items()}
        self._left[run.run_id] = replace(state, tensors=copied)
        if self.storage is not None and max(self._steps(run), default=0) < state.step and not self._lacking([run]):
            self._write([(run, state)])

    def save(self, states: Iterable[tuple[RunSpec, State]]) -> None:
        """Save the runs of a stack."""
        if self.storage is not None:
            self._write(states)
            self._saved = time.monotonic()

    def settle(self) -> None:
        """Wait until what was saved in a folder is there; an upload takes its time."""
        if self.storage is not None and self.storage.eager:
            self.storage.settle()

    def _write(self, states: Iterable[tuple[RunSpec, State]]) -> None:
        assert self.storage is not None
        began = time.monotonic()
        saves = [Save(run.run_id, state.step, self._metadata(run, state), state.tensors) for run, state in states]
        self.storage.write(saves)
        self._waited += time.monotonic() - began

    def _metadata(self, run: RunSpec, state: State) -> dict[str, Any]:
        return {
            "run_id": run.run_id,
            "spec": asdict(run),
            "step": state.step,
            "since": state.since,
            "seconds": state.seconds,
            "eval_seconds": state.eval_seconds,
            "history": [record.to_dict() for record in state.history],
            "device": self._here[0],
            "threads": self._here[1],
        }

    def keep(self, run: RunSpec, weights: dict[str, torch.Tensor]) -> None:
        """Keep a run's final parameters, by the names of `Family.slots`, for `kept_parameters` to read."""
        assert self.storage is not None
        try:
            self.storage.keep(run.run_id, {"run_id": run.run_id, "spec": asdict(run)}, weights)
        except (OSError, SafetensorError) as error:
            log.warning("the parameters of run %s can't be kept in %s: %s", run.run_id[:8], self.storage, error)

    def end(self, runs: Sequence[RunSpec], alive: Callable[[], None]) -> None:
        """Delete the checkpoints of runs that have ended; returns when everything else is written."""
        if self.storage is not None:
            self.storage.settle(alive)
            self.storage.remove([run.run_id for run in runs])
            self.storage.settle(alive)


def _price(run: RunSpec) -> float:
    """CPU seconds of saving a run."""
    copies = 1 + OPTIMIZERS.get(run.optimizer).bytes_per_parameter / 4
    return RUN + BYTE * 4 * copies * cost.params(cost.shape_of(run)).total


def storage_of(where: Path | str) -> Storage:
    """The Storage of a folder or URL."""
    return Bucket(str(where)) if is_url(where) else Folder(local(where))


def kept_parameters(where: Path | str, run_id: str) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """A run's spec as a mapping, and its final parameters by the names of `Family.slots`, fp32, on the CPU.

    Raises OSError if there are none, ValueError if they are damaged or another run's.
    """
    metadata, weights = storage_of(where).kept(run_id)
    return metadata["spec"], weights


def tensors_of(row: torch.Tensor, optimizer: OptimizerState, loss_sum: torch.Tensor) -> dict[str, torch.Tensor]:
    """`State.tensors` of a run, on the CPU; not copied if they are there already."""
    tensors = {"row": row, "loss_sum": loss_sum}
    for i, parameter in enumerate(_of(row, optimizer)):
        state = optimizer.state.get(parameter, {})
        tensors |= {f"optimizer.{i}.{name}": value for name, value in state.items() if value is not None}
    return {name: value.detach().cpu().contiguous() for name, value in tensors.items()}


def restore(
    states: Sequence[State | None],
    rows: Sequence[torch.Tensor],
    optimizer: OptimizerState,
    loss_sum: torch.Tensor,
) -> list[int]:
    """Restore the states of a stack's runs, the inverse of `tensors_of`; returns the step of each.

    If a state is None, nothing of the run is restored and its step is 0.
    """
    for k, (state, row) in enumerate(zip(states, rows, strict=True)):
        if state is None:
            continue
        row.copy_(state.tensors["row"])
        loss_sum[k] = state.tensors["loss_sum"]
        for i, parameter in enumerate(_of(row, optimizer)):
            own = {name: value for name, value in state.tensors.items() if name.startswith(f"optimizer.{i}.")}
            if own:  # cloned, because kernels depend on alignment and what was read has any
                optimizer.state[parameter] = {
                    name.split(".", 2)[2]: value.clone().to(row.device) for name, value in own.items()
                }
    return [state.step if state else 0 for state in states]


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
