"""The training loop: one for a run and for a stack of runs of one shape."""

from __future__ import annotations

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
from trainer.spec import STACKED, RunSpec, stack_key
from trainer.training.agenda import NOTHING, Agenda
from trainer.training.evaluate import Evaluation, Metrics
from trainer.training.gradients import Gradients, precision
from trainer.training.initial import start_row
from trainer.training.optimise import Update, make_optimizer
from trainer.training.stack import Stack
from trainer.training.tracker import Stops, Tracker, device_name
from trainer.trunk import by_recipe, shrinks

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from trainer.spec import Device

LOOK, SOON = 64, 0.005
"""Steps, and seconds, after which the loop checks whether a run has diverged, must stop or must be saved. Every
20 ms delayed a cancel noticeably (95th percentile 138 ms); every 5 ms takes 0.5 % of a CPU's time."""

EVERY = 20.0
"""Seconds between two checkpoints, at most: they are a tenth of a short run apart (trainer.checkpoints)."""


@overload
def train(
    specs: RunSpec,
    on_record: Callable[[Record], None] | None = None,
    *,
    device: Device = "auto",
    should_stop: Callable[[], bool] | None = None,
    evaluations: int | None = None,
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
    evaluations: int | None = None,
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
    evaluations: int | None = None,
    checkpoints: Path | str | None = None,
    every: float = EVERY,
    keep: bool | Collection[str] = False,
) -> RunResult | list[RunResult]:
    """Train one run, or a stack of runs of one shape as one batched model, to the end of its budget.

    Runs of any lengths train together; shorter ones leave early. The steps that runs of one recipe share
    (trainer.trunk) are trained once. The numbers are those of runs trained alone from scratch: they depend on the
    spec, the device and the number of threads only. A run whose loss is not finite ends as `diverged` and leaves
    the others alone.

    Args:
        specs: one run, or runs that may differ in what `trainer.spec.stack_key` leaves out.
        on_record: called with each Record as it is made.
        device: auto is CUDA if there is one, else MPS, else the CPU.
        should_stop: asked every few milliseconds; once it returns True, the runs end as `cancelled`.
        evaluations: each run is recorded and evaluated at about so many log-spaced steps, and at the end. By
            default it is recorded at about 12 and evaluated at those that it can afford (trainer.evaluations), so
            that evaluation before the end takes at most a tenth of its time. Records are of the validation split if
            there is one; the test split is then used once, at the end.
        checkpoints: a folder or an fsspec URL. Runs are saved there, also when they are cancelled, and resume from
            there in any stack: to the last bit on a CPU with as many threads. An ended run leaves none.
        every: most seconds between two checkpoints. Runs are saved more often where a tenth of the shortest takes
            less, and less often where saving would take more than 2 % of the time.
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
    evaluations: int | None = None,
    checkpoints: Path | str | None = None,
    every: float = EVERY,
    keep: bool | Collection[str] = False,
    leaving: Callable[[], Collection[str]] = frozenset,
    on_step: Callable[[], None] = lambda: None,
) -> Generator[Record | Resumed | RunResult, None, list[RunResult]]:
    """Train as `train` does, as a generator: yields each Record as it is made and returns the results.

    A run that resumes from a checkpoint first yields a Resumed. A run that ends before others of its stack yields
    its result at once. A stack goes on as a smaller one where that pays (trainer.trunk.shrinks). `leaving` is
    asked as often as `should_stop`: runs whose run_ids it returns end as `cancelled`, the others go on. `on_step`
    is called after every step and every forward pass of an evaluation, as a sign of life.
    """
    if keep and checkpoints is None:
        raise ValueError("keep needs a folder or a URL for checkpoints")
    where = pick_device(device)
    if where.type == "cpu":
        keep_freed_memory()
    every_run = [datasets.resolve(spec, datasets.describe(spec)) for spec in specs]
    if len({stack_key(run) for run in every_run}) != 1:
        raise ValueError(f"a stack needs runs that differ in {', '.join(STACKED)} only")
    runs = list({run.run_id: run for run in every_run}.values())
    lanes = by_recipe(runs)
    call = _Call(
        device=where,
        stops=Stops(should_stop or bool, leaving),
        evaluations=evaluations,
        files=Checkpoints(checkpoints, every, (device_name(where), torch.get_num_threads())),
        keep={run.run_id for run in runs} if keep is True else set(keep or ()),
        on_step=on_step,
        heirs={below.run_id: run for lane in lanes for below, run in pairwise(lane)},
        runs=len(runs),
    )
    members: dict[RunSpec, State | None] = {}
    while lanes := [left for lane in lanes if (left := [run for run in lane if run.run_id not in call.ended])]:
        yield from _join(members, [lane[0] for lane in lanes], call.files)
        members = yield from _train_stack(members, call)
    # only now: until results are out, a kill costs the time since the last save
    call.files.end([run for run in runs if call.ended[run.run_id].state != "cancelled"], on_step)
    return [call.ended[run.run_id] for run in every_run]


@dataclass(frozen=True)
class _Call:
    """What all stacks of a call to `train` have in common.

    `heirs` are the next longer runs of the same recipe, by run_id; `ended` the results so far, by run_id; `runs`
    the number of runs.
    """

    device: torch.device
    stops: Stops
    evaluations: int | None
    files: Checkpoints
    keep: Collection[str]
    on_step: Callable[[], None]
    heirs: Mapping[str, RunSpec]
    runs: int
    ended: dict[str, RunResult] = field(default_factory=dict)

    def enter(self, results: Iterable[RunResult]) -> list[RunResult]:
        """Enter results of runs that have ended; returns those that are yielded: all but the last of a call."""
        fresh = list(results)
        self.ended.update({result.run_id: result for result in fresh})
        return fresh if len(self.ended) < self.runs else []


def _join(members: dict[RunSpec, State | None], runs: Iterable[RunSpec], files: Checkpoints) -> Iterator[Resumed]:
    """Add runs to those that go on, from their newest checkpoints; yields what resumes."""
    for run in runs:
        if run in members:
            continue
        members[run] = state = files.newest(run)
        if state is not None:
            flops = state.step * run.batch_size * cost.flops_per_example(cost.shape_of(run))
            yield Resumed(run.run_id, state.step, flops, state.seconds, state.history)


def _train_stack(
    members: dict[RunSpec, State | None], call: _Call
) -> Generator[Record | RunResult, None, dict[RunSpec, State | None]]:
    """Train runs of one shape as one stack, each from the step at which it was saved, or from 0.

    It ends when one with an heir ends, or where a smaller stack pays; the heir is left a checkpoint at the last
    step that they share. Yields what ends before the last run of the call; returns the states of the runs that go
    on.
    """
    runs, saved, first = list(members), list(members.values()), next(iter(members))
    arrays, splits = datasets.load(first), [datasets.split(datasets.load(first), run) for run in runs]
    loader = loader_of(first, arrays, call.device)
    data = on_device(arrays, call.device, loader)
    batches = Batches(data, runs, splits)
    watched = [split.watched if first.validation else split for split in splits]
    evaluate = Evaluation(data, watched, on_step=call.on_step)

    def test(which: Sequence[int]) -> Metrics:
        return Evaluation(data, splits, runs if first.tta else (), call.on_step)(stack, which)

    begins = [state.step if state else 0 for state in saved]
    agenda = Agenda(runs, begins, [len(split.test) for split in watched], call.heirs, call.evaluations)
    stack = Stack(runs, call.device, [_first_row(run, state, call) for run, state in members.items()])
    optimizer = make_optimizer(runs, stack.rows, stack.slots, begins)
    gradients = Gradients(stack, batches, runs, precision(first, call.device))
    update = Update(runs, stack.rows, optimizer)
    loss_sum = torch.zeros(len(runs), device=call.device)
    restore(saved, stack.rows, optimizer, loss_sum)
    tracker = Tracker(
        *(runs, saved, stack.rows, optimizer, loss_sum),
        agenda=agenda,
        files=call.files,
        stops=call.stops,
        loader=loader,
    )
    members.clear()
    del saved  # it holds open what is soon deleted

    done, steps = 0, begins
    while True:
        if tracker.news:
            ended = tracker.finish(gradients.engine, test)
            _keep(ended, runs, stack, call)
            yield from call.enter(ended.values())
            left = min(((runs[k].steps or 0) - steps[k] for k in tracker.running), default=0)
            if any(agenda.heirs[k] for k in ended) or shrinks(len(runs), len(tracker.running), left):
                return tracker.states(steps)
        loss_sum += gradients(steps)
        update(steps, gradients.engine)
        call.on_step()

        done += 1
        steps = [begin + done for begin in begins]
        recorded, before, after = agenda.events.get(done, NOTHING)
        tracker.leave(before, steps)
        look = bool(recorded) or steps[0] % LOOK == 0 or tracker.unseen > SOON
        if recorded:
            yield from tracker.record(steps, recorded, lambda which: evaluate(stack, which))
        elif look:
            tracker.look(steps)
        tracker.leave(after, steps)
        if look:
            tracker.part(steps)


def _first_row(run: RunSpec, state: State | None, call: _Call) -> torch.Tensor:
    """The parameters [n] with which a run goes on."""
    if state is None:
        return start_row(run, call.files.storage)
    return state.tensors["row"][: cost.params(cost.shape_of(run)).total]


def _keep(ended: Mapping[int, RunResult], runs: Sequence[RunSpec], stack: Stack, call: _Call) -> None:
    """Keep the final parameters of the runs of a stack that have ended, where they are done and wanted."""
    for k, result in ended.items():
        if result.state == "done" and result.run_id in call.keep:
            weights = {name: weight[k].detach().cpu() for name, weight in stack.weights.items()}
            call.files.keep(runs[k], weights)


def pick_device(device: Device) -> torch.device:
    """`auto` is CUDA where there is one, else MPS, else the CPU."""
    if device != "auto":
        return torch.device(device)
    if torch.cuda.is_available():
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
