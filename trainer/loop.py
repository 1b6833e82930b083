"""The training loop: one for a run and for a stack of runs of one shape."""

from __future__ import annotations

import contextlib
import math
import time
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import torch

from trainer import checkpoint, cost, datasets
from trainer.augment import dropout, mix
from trainer.data import Batches, resident
from trainer.evaluate import Evaluation
from trainer.ladder import families, rungs, stem
from trainer.model import slots
from trainer.optimise import clip, make_optimizer, set_rates
from trainer.result import Outcome, Record, Resumed, RunResult
from trainer.spec import RunSpec, SpecError, stack_key
from trainer.stack import Stack

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence
    from pathlib import Path

    from trainer.spec import Device

    _Tensors = tuple[Sequence[torch.Tensor], torch.optim.Optimizer, torch.Tensor]

LOOK = 64
"""Steps between two looks at whether a run has diverged, is to stop or is to be saved."""

EVERY = 60.0
"""Seconds between two checkpoints."""


@overload
def train(
    specs: RunSpec,
    on_record: Callable[[Record], None] | None = None,
    *,
    device: Device = "auto",
    should_stop: Callable[[], bool] | None = None,
    evaluations: int = 12,
    checkpoints: Path | None = None,
    every: float = EVERY,
    keep: bool = False,
) -> RunResult: ...
@overload
def train(
    specs: Sequence[RunSpec],
    on_record: Callable[[Record], None] | None = None,
    *,
    device: Device = "auto",
    should_stop: Callable[[], bool] | None = None,
    evaluations: int = 12,
    checkpoints: Path | None = None,
    every: float = EVERY,
    keep: bool = False,
) -> list[RunResult]: ...
def train(
    specs: RunSpec | Sequence[RunSpec],
    on_record: Callable[[Record], None] | None = None,
    *,
    device: Device = "auto",
    should_stop: Callable[[], bool] | None = None,
    evaluations: int = 12,
    checkpoints: Path | None = None,
    every: float = EVERY,
    keep: bool = False,
) -> RunResult | list[RunResult]:
    """Train one run, or a stack of runs of one shape as one batched model, to the end of its budget.

    Runs of different lengths train one length after the other; what they have in common (trainer.ladder) is
    trained once, with the numbers of runs trained from scratch.

    Every run is evaluated on its held-out split at about `evaluations` log-spaced steps and at the end;
    each evaluation is a Record, handed to `on_record` as it is made. `should_stop` is asked every few steps;
    when it says True the runs end as `cancelled`. A run whose loss is no longer finite ends as `diverged`,
    without touching the others. Numbers depend on the spec, the device and the thread count only.

    With a folder for `checkpoints`, runs are saved at most `every` so many seconds and when they are cancelled, and
    go on from there when they are trained again, in whatever company: with the numbers, to the last bit on a CPU
    with as many threads, of a run that was never stopped. `on_record` is handed what is new. Runs of a stack that
    were saved at different steps train one step's group after the other. A checkpoint goes when its run has ended;
    `keep` leaves the final parameters of each run that is done (`trainer.checkpoint.kept`).

    Raises SpecError where a spec cannot run, ValueError where the specs are not of one shape.

    Example:
        >>> result = train(RunSpec(dataset="digits", width=32, epochs=5))
        >>> result.state, result.error < 0.2
        ('done', True)
    """
    stack = [specs] if isinstance(specs, RunSpec) else list(specs)
    going = training(
        stack,
        device=device,
        should_stop=should_stop,
        evaluations=evaluations,
        checkpoints=checkpoints,
        every=every,
        keep=keep,
    )
    while True:
        try:
            record = next(going)
        except StopIteration as end:
            results: list[RunResult] = end.value
            return results[0] if isinstance(specs, RunSpec) else results
        if on_record is not None and isinstance(record, Record):
            on_record(record)


def training(
    specs: Sequence[RunSpec],
    *,
    device: Device = "auto",
    should_stop: Callable[[], bool] | None = None,
    evaluations: int = 12,
    checkpoints: Path | None = None,
    every: float = EVERY,
    keep: bool = False,
) -> Generator[Record | Resumed, None, list[RunResult]]:
    """What `train` does, as a generator: yields each Record as it is made and returns the results.

    Of a run that goes on from a checkpoint the first thing that it yields is a Resumed.
    """
    if keep and checkpoints is None:
        raise ValueError("keep needs a folder for checkpoints")
    where = pick_device(device)
    runs = [datasets.resolve(spec, datasets.describe(spec)) for spec in specs]
    if len({stack_key(run) for run in runs}) != 1:
        raise ValueError(
            "a stack needs runs that differ in seed, lr, weight_decay, momentum, schedule or dataset_size only"
        )
    files = checkpoint.Checkpoints(checkpoints, every, (_device_name(where), torch.get_num_threads()))
    every_run, runs = runs, list({run.run_id: run for run in runs}.values())
    heirs = {below.run_id: run for family in families(runs) for below, run in pairwise(family)}
    ended: dict[str, RunResult] = {}
    for rung in rungs(runs):
        for members in _by_step({run: files.newest(run) for run in rung.runs}):
            heir = [heirs.get(run.run_id) for run in members]
            results = yield from _together(members, heir, where, should_stop, evaluations, files, keep=keep)
            ended |= {result.run_id: result for result in results}
    for run in runs:  # only now: until results are out, a kill costs the time since the last save
        if ended[run.run_id].state != "cancelled":
            files.remove(run)
    return [ended[run.run_id] for run in every_run]


def _by_step(states: dict[RunSpec, checkpoint.State | None]) -> list[dict[RunSpec, checkpoint.State | None]]:
    """Runs and their states, grouped by the step that they go on from."""
    groups: dict[int, dict[RunSpec, checkpoint.State | None]] = {}
    for run, state in states.items():
        groups.setdefault(state.step if state else 0, {})[run] = state
    return list(groups.values())


def _together(
    members: dict[RunSpec, checkpoint.State | None],
    heirs: Sequence[RunSpec | None],
    where: torch.device,
    should_stop: Callable[[], bool] | None,
    evaluations: int,
    files: checkpoint.Checkpoints,
    *,
    keep: bool,
) -> Generator[Record | Resumed, None, list[RunResult]]:
    """Train runs of one shape and length as one stack, from the one step at which they were saved, or from 0.

    The heir of a run, a longer one, is left a checkpoint where their ways part.
    """
    runs, saved = list(members), list(members.values())
    first, steps = runs[0], runs[0].steps
    assert steps is not None
    arrays = datasets.load(first)
    splits = [datasets.split(arrays, run) for run in runs]
    data = resident(arrays, where)
    batches, evaluate = Batches(data, runs, splits), Evaluation(data, splits)
    stack = Stack(runs, where)
    optimizer = make_optimizer(runs, stack.rows, slots(stack.shape))
    cast = _precision(first, where)
    book = _Book(runs, where)
    looks = set(evaluation_steps(steps, evaluations))
    parting = stem(first) if any(heirs) else 0
    shared = parting in evaluation_steps(2 * steps, evaluations)  # whether an heir is evaluated there too

    loss_sum = torch.zeros(len(runs), device=where)
    begin = checkpoint.restore(saved, stack.rows, optimizer, loss_sum)
    yield from book.resume(saved)
    members.clear()
    del saved  # it holds open what is soon deleted
    for step in range(begin, steps):
        with cast():
            loss_sum += _gradients(stack, batches, runs, step)
        clip(runs, stack.rows)
        set_rates(optimizer, runs, step)
        optimizer.step()

        done = step + 1
        if done == parting and not shared:
            book.leave(heirs, done, files, stack.rows, optimizer, loss_sum)
        if done in looks:
            yield from book.record(done, loss_sum, lambda: evaluate(stack))
            loss_sum.zero_()
        elif done % LOOK == 0:
            book.look(done, files, should_stop, stack.rows, optimizer, loss_sum)
        if done == parting and shared:
            book.leave(heirs, done, files, stack.rows, optimizer, loss_sum)
        if not book.running:
            break
    results = book.results()
    for k, result in enumerate(results):
        if keep and result.state == "done":
            files.keep(runs[k], {name: weight[k].detach().cpu() for name, weight in stack.weights.items()})
    return results


class _Book:
    """What happened to each run of a stack so far: its records, its state, the seconds spent training."""

    def __init__(self, runs: Sequence[RunSpec], device: torch.device) -> None:
        self._runs, self._device = runs, device
        self._history: list[list[Record]] = [[] for _ in runs]
        self._ended: list[tuple[Outcome, int] | None] = [None] * len(runs)
        self._since_step = np.zeros(len(runs), int)
        self._before = [0.0] * len(runs)  # seconds of each run up to the checkpoint that it goes on from
        self._seconds, self._started = 0.0, time.perf_counter()

    @property
    def running(self) -> list[int]:
        return [k for k, ended in enumerate(self._ended) if ended is None]

    def record(
        self, step: int, loss_sum: torch.Tensor, evaluate: Callable[[], tuple[np.ndarray, np.ndarray]]
    ) -> Iterator[Record]:
        train_loss = loss_sum.cpu().double().numpy() / (step - self._since_step)  # waits for the device
        self._seconds += time.perf_counter() - self._started
        error, loss = evaluate()
        for k in self.running:
            if not np.isfinite([train_loss[k], loss[k]]).all():
                self._ended[k] = ("diverged", step)
                continue
            made = Record(
                step=step,
                train_loss=float(train_loss[k]),
                loss=float(loss[k]),
                error=float(error[k]),
                seconds=self._seconds_of(k),
                run_id=self._runs[k].run_id,
                **_spent(self._runs[k], step),
            )
            self._history[k].append(made)
            yield made
            if step == self._runs[k].steps:
                self._ended[k] = ("done", step)
        self._since_step[:], self._started = step, time.perf_counter()

    def look(
        self,
        step: int,
        files: checkpoint.Checkpoints,
        should_stop: Callable[[], bool] | None,
        *tensors: *_Tensors,
    ) -> None:
        """Note what has diverged, save what is due, stop where that is asked."""
        for k in np.flatnonzero(~np.isfinite(tensors[-1].cpu().numpy())):
            self._ended[k] = self._ended[k] or ("diverged", step)
        stop = should_stop is not None and should_stop()
        if stop or files.due:
            self._save(step, files, *tensors)
        if stop:
            self._ended = [ended or ("cancelled", step) for ended in self._ended]

    def resume(self, states: Sequence[checkpoint.State | None]) -> Iterator[Resumed]:
        for k, state in enumerate(states):
            if state is None:
                continue
            self._history[k], self._since_step[k], self._before[k] = list(state.history), state.since, state.seconds
            flops = _spent(self._runs[k], state.step)["flops"]
            yield Resumed(self._runs[k].run_id, state.step, flops, state.seconds, state.history)
        self._started = time.perf_counter()

    def _save(self, step: int, files: checkpoint.Checkpoints, *tensors: *_Tensors) -> None:
        self._seconds += time.perf_counter() - self._started
        files.save([(self._runs[k], self._state(k, step, *tensors)) for k in self.running])
        self._started = time.perf_counter()

    def leave(
        self, heirs: Sequence[RunSpec | None], step: int, files: checkpoint.Checkpoints, *tensors: *_Tensors
    ) -> None:
        """Checkpoints of longer runs, which are these runs up to here; none of one that has diverged."""
        self._seconds += time.perf_counter() - self._started
        for k, heir in enumerate(heirs):
            if heir is not None and self._ended[k] in (None, ("done", step)):
                state = self._state(k, step, *tensors)
                history = tuple(replace(record, run_id=heir.run_id) for record in state.history)
                files.leave(heir, replace(state, history=history))
        self._started = time.perf_counter()

    def _state(
        self,
        k: int,
        step: int,
        rows: Sequence[torch.Tensor],
        optimizer: torch.optim.Optimizer,
        loss_sum: torch.Tensor,
    ) -> checkpoint.State:
        since, history = int(self._since_step[k]), tuple(self._history[k])
        tensors = checkpoint.tensors_of(rows[k], optimizer, loss_sum[k])
        return checkpoint.State(step, since, self._seconds_of(k), history, tensors)

    def _seconds_of(self, k: int) -> float:
        return self._before[k] + self._seconds / len(self._runs)

    def results(self) -> list[RunResult]:
        return [self._result(k) for k in range(len(self._runs))]

    def _result(self, k: int) -> RunResult:
        run, ended, history = self._runs[k], self._ended[k], self._history[k]
        assert ended is not None
        state, step = ended
        shape, examples = cost.shape_of(run), step * run.batch_size
        last = history[-1] if history else None
        return RunResult(
            run_id=run.run_id,
            state=state,
            error=last.error if last else np.nan,
            loss=last.loss if last else np.nan,
            train_loss=last.train_loss if last else np.nan,
            steps=step,
            flops_paper=examples * cost.flops_paper_per_example(shape),
            flops_6nd=examples * cost.flops_6nd_per_example(shape),
            params=cost.params(shape).total,
            seconds=self._seconds_of(k),
            device=_device_name(self._device),
            threads=torch.get_num_threads(),
            stack=len(self._runs),
            history=tuple(history),
            **_spent(run, step),
        )


def _spent(run: RunSpec, step: int) -> dict[str, int]:
    examples = step * run.batch_size
    return {"examples": examples, "flops": examples * cost.flops_per_example(cost.shape_of(run))}


def _gradients(stack: Stack, batches: Batches, runs: Sequence[RunSpec], step: int) -> torch.Tensor:
    """Put the gradients of one step into the stack; returns the training losses [K]."""
    first = runs[0]
    x, y = batches.at(step)
    y2 = share = None
    if first.mixup:
        x, y2, share = mix(x, y, runs, step)
    smoothing = torch.tensor([[run.label_smoothing] for run in runs], device=x.device)
    total = torch.zeros(len(runs), device=x.device)
    size = first.batch_size // first.accumulate
    for part in range(first.accumulate):
        rows = slice(part * size, (part + 1) * size)
        logits = stack.logits(x[:, rows], dropout(runs, step, part))
        loss = _loss(logits, y[:, rows], smoothing)
        if y2 is not None and share is not None:
            second = _loss(logits, y2[:, rows], smoothing)
            loss = torch.lerp(second, loss, share[:, rows])
        losses = loss.mean(1)
        stack.backward(losses.sum() / first.accumulate, add=part > 0)
        total += losses.detach()
    return total / first.accumulate


def _loss(logits_KBC: torch.Tensor, y_KB: torch.Tensor, smoothing_K1: torch.Tensor) -> torch.Tensor:
    """Training loss [K, B] of each example in nats, its target smoothed by the run's share."""
    log_p = torch.log_softmax(logits_KBC.float(), -1)
    nll = -log_p.gather(-1, y_KB.unsqueeze(-1)).squeeze(-1)
    return torch.where(smoothing_K1 > 0, torch.lerp(nll, -log_p.mean(-1), smoothing_K1), nll)


def _precision(spec: RunSpec, device: torch.device) -> Callable[[], contextlib.AbstractContextManager[Any]]:
    """The context of training: fp32 weights always; bf16 and tf32 are those of the matrix products."""
    if spec.precision == "tf32" and device.type != "cuda":
        raise SpecError("precision", f"tf32 is of CUDA devices, this is {device.type}; write fp32 or bf16")
    if device.type == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = spec.precision == "tf32"
    if spec.precision == "bf16":
        return lambda: torch.autocast(device.type, torch.bfloat16)
    return contextlib.nullcontext


def evaluation_steps(steps: int, evaluations: int) -> list[int]:
    """Log-spaced steps, about `evaluations` in every factor of 300, and the last step.

    One grid for all lengths: what runs share, they have evaluated at the same steps.
    """
    ratio = 300 ** (1 / max(1, evaluations - 1))
    grid = {round(ratio**i) for i in range(math.ceil(math.log(steps) / math.log(ratio)) + 1)}
    return sorted({step for step in grid if step < steps} | {steps})


def pick_device(device: Device) -> torch.device:
    """`auto` is CUDA where there is one, else MPS, else the CPU."""
    if device != "auto":
        return torch.device(device)
    if torch.cuda.is_available():
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
