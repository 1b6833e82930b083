"""The training loop: one for a run and for a stack of runs of one shape."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, overload

import torch

from trainer import cost
from trainer.checkpoints.checkpoints import Checkpoints, State, restore
from trainer.data import datasets
from trainer.data.batches import Batches, loader_of, on_device
from trainer.host.allocator import keep_freed_memory
from trainer.result import Record, Resumed, RunResult
from trainer.spec import RunSpec, stack_key
from trainer.training.evaluate import Evaluation
from trainer.training.gradients import Gradients, precision
from trainer.training.initial import start_row
from trainer.training.optimise import Update, make_optimizer
from trainer.training.stack import Stack
from trainer.training.tracker import Stops, Tracker, device_name
from trainer.trunk import by_recipe, segments, shared_steps

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from trainer.data.arrays import Split
    from trainer.data.batches import Resident
    from trainer.spec import Device

LOOK, SOON = 64, 0.005
"""Steps, and seconds, after which the loop checks whether a run has diverged, must stop or must be saved. Every
20 ms delayed a cancel noticeably (95th percentile 138 ms); every 5 ms takes 0.5 % of a CPU's time."""

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
    checkpoints: Path | str | None = None,
    every: float = EVERY,
    keep: bool | Collection[str] = False,
) -> RunResult: ...
@overload
def train(
    specs: Sequence[RunSpec],
    on_record: Callable[[Record], None] | None = None,
    *,
    device: Device = "auto",
    should_stop: Callable[[], bool] | None = None,
    evaluations: int = 12,
    checkpoints: Path | str | None = None,
    every: float = EVERY,
    keep: bool | Collection[str] = False,
) -> list[RunResult]: ...
def train(
    specs: RunSpec | Sequence[RunSpec],
    on_record: Callable[[Record], None] | None = None,
    *,
    device: Device = "auto",
    should_stop: Callable[[], bool] | None = None,
    evaluations: int = 12,
    checkpoints: Path | str | None = None,
    every: float = EVERY,
    keep: bool | Collection[str] = False,
) -> RunResult | list[RunResult]:
    """Train one run, or a stack of runs of one shape as one batched model, to the end of its budget.

    Runs of different lengths train one length after the other. The steps that they share (trainer.trunk) are
    trained once; the numbers are those of runs trained from scratch. They depend on the spec, the device and the
    number of threads only. A run whose loss is not finite ends as `diverged` and leaves the others alone.

    Args:
        specs: one run, or runs that may differ in what `trainer.spec.stack_key` leaves out.
        on_record: called with each Record as it is made.
        device: auto is CUDA if there is one, else MPS, else the CPU.
        should_stop: asked every few milliseconds; once it returns True, the runs end as `cancelled`.
        evaluations: each run is evaluated at about so many log-spaced steps, and at the end. Records are of the
            validation split if there is one; the test split is then used once, at the end.
        checkpoints: a folder or an fsspec URL. Runs are saved there, also when they are cancelled, and resume from
            there in any stack: to the last bit on a CPU with as many threads. An ended run leaves none.
        every: least seconds between two checkpoints.
        keep: True, or run_ids: keep the final parameters of these runs if they are done
            (`trainer.checkpoints.checkpoints.kept_parameters`), for runs that name them as `parent`.

    Raises SpecError if a spec cannot run, ValueError if the specs cannot share a stack.

    Example:
        >>> result = train(RunSpec(dataset="digits", width=32, epochs=5))
        >>> result.state, result.error < 0.2
        ('done', True)
    """
    stack = [specs] if isinstance(specs, RunSpec) else list(specs)
    records = training(
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
            record = next(records)
        except StopIteration as end:
            results: list[RunResult] = end.value
            return results[0] if isinstance(specs, RunSpec) else results
        if on_record is not None and isinstance(record, Record):
            on_record(record)


def training(  # noqa: PLR0913 - what `train` takes, and two signals
    specs: Sequence[RunSpec],
    *,
    device: Device = "auto",
    should_stop: Callable[[], bool] | None = None,
    evaluations: int = 12,
    checkpoints: Path | str | None = None,
    every: float = EVERY,
    keep: bool | Collection[str] = False,
    leaving: Callable[[], Collection[str]] = frozenset,
    on_step: Callable[[], None] = lambda: None,
) -> Generator[Record | Resumed | RunResult, None, list[RunResult]]:
    """Train as `train` does, as a generator: yields each Record as it is made and returns the results.

    A run that resumes from a checkpoint first yields a Resumed. A run that ends before others of its stack yields
    its result at once. A stack of which half has ended goes on as a smaller one. `leaving` is asked as often as
    `should_stop`: runs whose run_ids it returns end as `cancelled`, the others go on. `on_step` is called after
    every step and every forward pass of an evaluation, as a sign of life.
    """
    if keep and checkpoints is None:
        raise ValueError("keep needs a folder or a URL for checkpoints")
    where = pick_device(device)
    if where.type == "cpu":
        keep_freed_memory()
    every_run = [datasets.resolve(spec, datasets.describe(spec)) for spec in specs]
    if len({stack_key(run) for run in every_run}) != 1:
        raise ValueError(
            "a stack needs runs that differ in seed, lr, weight_decay, momentum, schedule or dataset_size only"
        )
    runs = list({run.run_id: run for run in every_run}.values())
    call = _Call(
        device=where,
        stops=Stops(should_stop or bool, leaving),
        evaluations=evaluations,
        files=Checkpoints(checkpoints, every, (device_name(where), torch.get_num_threads())),
        keep={run.run_id for run in runs} if keep is True else set(keep or ()),
        on_step=on_step,
        heirs={below.run_id: run for recipe in by_recipe(runs) for below, run in pairwise(recipe)},
    )
    for segment in segments(runs):
        for group in _by_step({run: call.files.newest(run) for run in segment.runs}):
            yield from _resumed(group)
            members = group
            while members:
                fresh, members = yield from _train_stack(members, call)
                if len(call.ended) < len(runs):
                    yield from fresh
    # only now: until results are out, a kill costs the time since the last save
    call.files.end([run for run in runs if call.ended[run.run_id].state != "cancelled"], on_step)
    return [call.ended[run.run_id] for run in every_run]


@dataclass(frozen=True)
class _Call:
    """What all stacks of a call to `train` have in common.

    `heirs` are the next longer runs of the same recipe, by run_id; `ended` are results so far, by run_id.
    """

    device: torch.device
    stops: Stops
    evaluations: int
    files: Checkpoints
    keep: Collection[str]
    on_step: Callable[[], None]
    heirs: Mapping[str, RunSpec]
    ended: dict[str, RunResult] = field(default_factory=dict)

    def enter(self, results: Iterable[RunResult]) -> list[RunResult]:
        """Enter results; returns those that are new."""
        fresh = [result for result in results if result.run_id not in self.ended]
        self.ended.update({result.run_id: result for result in fresh})
        return fresh


def _data_of(runs: Sequence[RunSpec], device: torch.device) -> tuple[Resident, list[Split], str]:
    """The data set of a stack on its device, the rows of each run, and how the data is read."""
    arrays = datasets.load(runs[0])
    loader = loader_of(runs[0], arrays, device)
    return on_device(arrays, device, loader), [datasets.split(arrays, run) for run in runs], loader


def _by_step(states: dict[RunSpec, State | None]) -> list[dict[RunSpec, State | None]]:
    """Runs and their states, grouped by the step that they go on from."""
    groups: dict[int, dict[RunSpec, State | None]] = {}
    for run, state in states.items():
        groups.setdefault(state.step if state else 0, {})[run] = state
    return list(groups.values())


def _resumed(states: dict[RunSpec, State | None]) -> Iterator[Resumed]:
    for run, state in states.items():
        if state is not None:
            flops = state.step * run.batch_size * cost.flops_per_example(cost.shape_of(run))
            yield Resumed(run.run_id, state.step, flops, state.seconds, state.history)


def _train_stack(
    members: dict[RunSpec, State | None], call: _Call
) -> Generator[Record | RunResult, None, tuple[list[RunResult], dict[RunSpec, State | None]]]:
    """Train runs of one shape and length as one stack, from the one step at which they were saved, or from 0.

    The heir of a run is left a checkpoint at the last step that they share. Yields what leaves the stack early;
    returns what ended with the last of them, and the states of those that are to go on as a smaller stack.
    """
    runs, saved = list(members), list(members.values())
    first, steps = runs[0], runs[0].steps or 0
    heirs = [call.heirs.get(run.run_id) for run in runs]
    looks = set(evaluation_steps(steps, call.evaluations))
    grid = set(evaluation_steps(2 * steps, call.evaluations))  # where heirs are evaluated too
    partings = {shared_steps(run) for run, heir in zip(runs, heirs, strict=True) if heir}

    data, splits, loader = _data_of(runs, call.device)
    batches = Batches(data, runs, splits)
    watched = [split.watched if first.validation else split for split in splits]
    evaluate = Evaluation(data, watched, on_step=call.on_step)
    stack = Stack(
        runs, call.device, [start_row(run, call.files.storage) for run in runs] if None in saved else None
    )
    optimizer = make_optimizer(runs, stack.rows, stack.slots)
    gradients = Gradients(stack, batches, runs, precision(first, call.device))
    update = Update(runs, stack.rows, optimizer)

    loss_sum = torch.zeros(len(runs), device=call.device)
    trained = (stack.rows, optimizer, loss_sum)
    tracker = Tracker(runs, *trained, files=call.files, stops=call.stops, loader=loader)
    done = begin = restore(saved, *trained)
    tracker.resume(saved)
    members.clear()
    del saved  # it holds open what is soon deleted
    for step in range(begin, steps):
        loss_sum += gradients([step] * len(runs))
        update([step] * len(runs), gradients.engine)
        call.on_step()

        done = step + 1
        due = done in looks or done % LOOK == 0 or tracker.unseen > SOON
        if done in partings - grid:
            tracker.leave(heirs, done)
        if done in looks:
            yield from tracker.record(done, lambda: evaluate(stack))
        elif due:
            tracker.look(done)
        if done in partings & grid:
            tracker.leave(heirs, done)
        if due:
            tracker.part(done)
            yield from call.enter(tracker.results(gradients.engine, besides=call.ended) if tracker.running else ())
        if 2 * len(tracker.running) <= len(runs) and (steps - done >= LOOK or not tracker.running):
            break

    rest = tracker.states(done)
    if tracker.finished and (first.validation or first.tta or not steps):
        test = Evaluation(data, splits, runs if first.tta else (), call.on_step)
        tracker.test(lambda: test(stack))
    results = tracker.results(gradients.engine)
    _keep([run if run.run_id in call.keep else None for run in runs], results, call.files, stack)
    return call.enter(results), rest


def _keep(wanted: Sequence[RunSpec | None], results: Sequence[RunResult], files: Checkpoints, stack: Stack) -> None:
    """Keep the final parameters of the wanted runs that are done; where any is, all of the stack have ended."""
    for k, result in enumerate(results):
        if result.state == "done" and (run := wanted[k]) is not None:
            files.keep(run, {name: weight[k].detach().cpu() for name, weight in stack.weights.items()})


def evaluation_steps(steps: int, evaluations: int) -> list[int]:
    """Log-spaced steps, about `evaluations` in every factor of 300, and the last step.

    One grid for all lengths: what runs share, they have evaluated at the same steps.
    """
    if not steps:
        return []
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
