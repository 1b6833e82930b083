"""The training loop: one for a run and for a stack of runs of one shape."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING, overload

import torch

from trainer import cost
from trainer.checkpoints.checkpoints import Checkpoints, State, restore
from trainer.data import datasets
from trainer.data.batches import Batches, loader_of, on_device
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
    from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Sequence
    from pathlib import Path

    from trainer.spec import Device

LOOK, SOON = 64, 0.005
"""Steps, and seconds, after which a look at whether a run has diverged, is to stop or is to be saved is due. Each
20 ms it was felt in a cancel (95th percentile 138 ms); each 5 ms it takes 0.5 % of a CPU's time."""

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

    Runs of different lengths train one length after the other; what they have in common (trainer.trunk) is
    trained once, with the numbers of runs trained from scratch.

    Every run is evaluated on its held-out examples at about `evaluations` log-spaced steps and at the end;
    each evaluation is a Record, handed to `on_record` as it is made. `should_stop` is asked every few steps;
    when it says True the runs end as `cancelled`. A run whose loss is no longer finite ends as `diverged`,
    without touching the others. Numbers depend on the spec, the device and the thread count only.

    With a folder for `checkpoints`, or a URL of fsspec's, runs are saved at most `every` so many seconds and when
    they are cancelled, and go on from there when they are trained again, in whatever company: with the numbers, to
    the last bit on a CPU with as many threads, of a run that was never stopped. `on_record` is handed what is new.
    Runs of a stack that were saved at different steps train one step's group after the other. A checkpoint goes
    when its run has ended; `keep` (True, or run_ids) leaves the final parameters of runs that are done
    (`trainer.checkpoints.checkpoints.kept`), with which runs of that `parent` begin.

    Where there is a validation split, records are of that split; the test split is looked at once, at the end.

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
    """What `train` does, as a generator: yields each Record as it is made and returns the results.

    The result of a run that has ended while others train on is yielded at once, and returned with theirs.

    Of a run that goes on from a checkpoint the first thing that it yields is a Resumed. `leaving` is asked after
    every record and as often as `should_stop`: the runs whose ids it names end as `cancelled`, the others do not
    notice. A stack of which half has ended goes on as a smaller one. `on_step` is called after every step and every
    forward pass of an evaluation: a sign of life.
    """
    if keep and checkpoints is None:
        raise ValueError("keep needs a folder or a URL for checkpoints")
    where = pick_device(device)
    runs = [datasets.resolve(spec, datasets.describe(spec)) for spec in specs]
    if len({stack_key(run) for run in runs}) != 1:
        raise ValueError(
            "a stack needs runs that differ in seed, lr, weight_decay, momentum, schedule or dataset_size only"
        )
    files = Checkpoints(checkpoints, every, (device_name(where), torch.get_num_threads()))
    every_run, runs = runs, list({run.run_id: run for run in runs}.values())
    kept = {run.run_id for run in runs} if keep is True else set(keep or ())
    heirs = {below.run_id: run for recipe in by_recipe(runs) for below, run in pairwise(recipe)}
    ended: dict[str, RunResult] = {}
    stops = Stops(should_stop or bool, leaving)
    for segment in segments(runs):
        for group in _by_step({run: files.newest(run) for run in segment.runs}):
            yield from _resumed(group)
            members = group
            while members:
                heir = [heirs.get(run.run_id) for run in members]
                fresh, members = yield from _together(
                    members, heir, where, stops, evaluations, files, ended, keep=kept, on_step=on_step
                )
                if len(ended) < len(runs):
                    yield from fresh
    # only now: until results are out, a kill costs the time since the last save
    files.end([run for run in runs if ended[run.run_id].state != "cancelled"], on_step)
    return [ended[run.run_id] for run in every_run]


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


def _together(  # noqa: PLR0913 - what all stacks of a call have in common
    members: dict[RunSpec, State | None],
    heirs: Sequence[RunSpec | None],
    where: torch.device,
    stops: Stops,
    evaluations: int,
    files: Checkpoints,
    ended: dict[str, RunResult],
    *,
    keep: Collection[str],
    on_step: Callable[[], None],
) -> Generator[Record | RunResult, None, tuple[list[RunResult], dict[RunSpec, State | None]]]:
    """Train runs of one shape and length as one stack, from the one step at which they were saved, or from 0.

    The heir of a run, a longer one, is left a checkpoint where their ways part. What ends goes into `ended`; yields
    what has left the others, returns what ended with the last of them, and the states of those that are to go on
    as a smaller stack.
    """
    runs, saved = list(members), list(members.values())
    first, steps = runs[0], runs[0].steps
    assert steps is not None
    arrays = datasets.load(first)
    splits = [datasets.split(arrays, run) for run in runs]
    loader = loader_of(first, arrays, where)
    data = on_device(arrays, where, loader)
    batches = Batches(data, runs, splits)
    watched = [split.watched for split in splits] if first.validation else splits
    evaluate = Evaluation(data, watched, on_step=on_step)
    stack = Stack(runs, where, [start_row(run, files.storage) for run in runs] if None in saved else None)
    optimizer = make_optimizer(runs, stack.rows, stack.slots)
    gradients = Gradients(stack, batches, runs, precision(first, where))
    update = Update(runs, stack.rows, optimizer)
    tracker = Tracker(runs, where, loader)
    looks = set(evaluation_steps(steps, evaluations))
    grid = set(evaluation_steps(2 * steps, evaluations))  # where heirs are evaluated too
    partings = {shared_steps(run) for run, heir in zip(runs, heirs, strict=True) if heir}

    loss_sum = torch.zeros(len(runs), device=where)
    begin = restore(saved, stack.rows, optimizer, loss_sum)
    tracker.resume(saved)
    members.clear()
    del saved  # it holds open what is soon deleted
    done = begin
    for step in range(begin, steps):
        loss_sum += gradients(step)
        update(step, gradients.engine)
        on_step()

        done = step + 1
        if done in partings - grid:
            tracker.leave(heirs, done, files, stack.rows, optimizer, loss_sum)
        due = done in looks or done % LOOK == 0 or tracker.unseen > SOON
        if done in looks:
            yield from tracker.record(done, loss_sum, lambda: evaluate(stack))
            loss_sum.zero_()
        elif due:
            tracker.look(done, files, stops, stack.rows, optimizer, loss_sum)
        if done in partings & grid:
            tracker.leave(heirs, done, files, stack.rows, optimizer, loss_sum)
        if due:
            tracker.part(done, files, stops, stack.rows, optimizer, loss_sum)
            yield from _entered(tracker.results(gradients.engine, besides=ended) if tracker.running else (), ended)
        if 2 * len(tracker.running) <= len(runs) and (steps - done >= LOOK or not tracker.running):
            break
    rest = tracker.states(done, stack.rows, optimizer, loss_sum)
    if tracker.finished and (first.validation or first.tta or not steps):
        tracker.test(Evaluation(data, splits, runs if first.tta else (), on_step)(stack))
    results = tracker.results(gradients.engine)
    _keep([run if run.run_id in keep else None for run in runs], results, files, stack)
    return _entered(results, ended), rest


def _entered(results: Iterable[RunResult], ended: dict[str, RunResult]) -> list[RunResult]:
    """Enter results; returns those that are new."""
    fresh = [result for result in results if result.run_id not in ended]
    ended |= {result.run_id: result for result in fresh}
    return fresh


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
