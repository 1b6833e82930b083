"""The records and results of the runs of a stack, kept while it trains."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from trainer import cost
from trainer.checkpoints.checkpoints import State, tensors_of
from trainer.result import Outcome, Record, RunResult
from trainer.training.evaluate import Metrics

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from trainer.checkpoints.checkpoints import Checkpoints
    from trainer.spec import RunSpec
    from trainer.training.agenda import Agenda
    from trainer.training.cuda_graphs import Engine
    from trainer.training.optimise import Optimizer


UNKNOWN = [math.nan] * len(Metrics._fields)
"""Metrics of a run that was not evaluated."""


class Stops(NamedTuple):
    """Callbacks of a stack in training: whether to stop all runs, and the run_ids of runs to stop."""

    all: Callable[[], bool]
    some: Callable[[], Collection[str]]


class Tracker:
    """Tracks the records, the state and the seconds of each run of a stack, and saves checkpoints.

    `rows` [n] of each run, `optimizer` and `loss_sum` [K] are the tensors that the loop updates; they are saved to
    `files`. `states` are the checkpoints that runs go on from. Each run is at a step of its own.
    """

    def __init__(  # noqa: PLR0913 - what the loop has
        self,
        runs: Sequence[RunSpec],
        states: Sequence[State | None],
        rows: Sequence[torch.Tensor],
        optimizer: Optimizer,
        loss_sum: torch.Tensor,
        *,
        agenda: Agenda,
        files: Checkpoints,
        stops: Stops,
        loader: str,
    ) -> None:
        self._runs, self._rows, self._optimizer, self._loss_sum = runs, rows, optimizer, loss_sum
        self._agenda, self._files, self._stops, self._loader = agenda, files, stops, loader
        self._history = [list(state.history) if state else [] for state in states]
        self._since = np.array([state.since if state else 0 for state in states])
        self._seconds = np.array([state.seconds if state else 0.0 for state in states])
        self._eval_seconds = np.array([state.eval_seconds if state else 0.0 for state in states])
        self._ended: list[tuple[Outcome, int] | None] = [None if run.steps else ("done", 0) for run in runs]
        self._finished: set[int] = set()
        self._final: dict[int, list[float]] = {}
        self._looked = self._started = self._began = time.perf_counter()
        self._begin = states[0].step if states[0] else 0

    @property
    def running(self) -> list[int]:
        """The indices of the runs that have not ended."""
        return [k for k, ended in enumerate(self._ended) if ended is None]

    @property
    def news(self) -> bool:
        """Whether runs have ended that are not finished."""
        return len(self.running) + len(self._finished) < len(self._runs)

    @property
    def unseen(self) -> float:
        """Seconds since `part` was last called."""
        return time.perf_counter() - self._looked

    def record(
        self, steps: Sequence[int], due: Sequence[int], evaluate: Callable[[Sequence[int]], Metrics]
    ) -> Iterator[Record]:
        """Yield the records of the runs that are due; ends those that diverged or are at their last step."""
        sums = self._loss_sum.cpu().double().numpy()  # waits for the device
        due = [k for k in due if self._ended[k] is None]
        evaluated = [k for k in due if self._agenda.evaluates(k, steps[k])]
        found = dict(zip(evaluated, self._evaluated(evaluated, evaluate), strict=True))
        for k in due:
            run, step = self._runs[k], steps[k]
            train_loss = float(sums[k] / (step - self._since[k]))
            error, loss, *_ = metrics = found.get(k, UNKNOWN)
            if not math.isfinite(train_loss) or (k in found and not math.isfinite(loss)):
                self._end(k, "diverged", step)
                continue
            made = Record(
                run_id=run.run_id,
                step=step,
                train_loss=train_loss,
                loss=loss,
                error=error,
                seconds=float(self._seconds[k]),
                **_spent(run, step),
            )
            self._history[k].append(made)
            yield made
            if step == run.steps:
                self._final[k] = metrics
                self._end(k, "done", step)
        self._loss_sum[due] = 0
        self._since[due] = [steps[k] for k in due]

    def _evaluated(self, which: Sequence[int], evaluate: Callable[[Sequence[int]], Metrics]) -> list[list[float]]:
        """Metrics of some runs, which share the time of their evaluation."""
        self._stop_clock()
        if not which:
            return []
        metrics = evaluate(which)
        began, self._started = self._started, time.perf_counter()
        self._eval_seconds[list(which)] += (self._started - began) / len(which)
        return [[float(value) for value in values] for values in zip(*metrics, strict=True)]

    def _end(self, k: int, outcome: Outcome, step: int) -> None:
        self._stop_clock()
        self._ended[k] = outcome, step

    def look(self, steps: Sequence[int]) -> None:
        """End runs that diverged, save checkpoints that are due, and stop if requested."""
        finite = np.isfinite(self._loss_sum.cpu().numpy())
        for k in self.running:
            if not finite[k]:
                self._end(k, "diverged", steps[k])
        stop = self._stops.all()
        if stop or self._files.due([self._runs[k] for k in self.running], self._pace(steps)):
            self._save(self.running, steps)
        if stop:
            for k in self.running:
                self._end(k, "cancelled", steps[k])

    def _pace(self, steps: Sequence[int]) -> float:
        """Seconds of a step, evaluations included."""
        return (time.perf_counter() - self._began) / max(1, steps[0] - self._begin)

    def part(self, steps: Sequence[int]) -> None:
        """Save and cancel the runs that are to leave the stack."""
        self._looked = time.perf_counter()
        asked = self._stops.some()
        if leaving := [k for k in self.running if self._runs[k].run_id in asked]:
            self._save(leaving, steps)
            self._files.settle()  # another worker may go on with them as soon as they have left
            for k in leaving:
                self._end(k, "cancelled", steps[k])

    def _save(self, which: Sequence[int], steps: Sequence[int]) -> None:
        self._stop_clock()
        self._files.save((self._runs[k], self._state(k, steps[k])) for k in which)
        self._started = time.perf_counter()

    def _stop_clock(self) -> None:
        """Give the training time since the last call to the runs that have shared it."""
        now = time.perf_counter()
        if running := self.running:
            self._seconds[running] += (now - self._started) / len(running)
        self._started = now

    def states(self, steps: Sequence[int]) -> dict[RunSpec, State | None]:
        """Return the states of the runs that have not ended, as in checkpoints."""
        self._stop_clock()
        return {self._runs[k]: self._state(k, steps[k]) for k in self.running}

    def leave(self, parting: Sequence[int], steps: Sequence[int]) -> None:
        """Write checkpoints of the longer runs that share these steps, except of runs that diverged."""
        for k in parting:
            heir, step = self._agenda.heirs[k], steps[k]
            if heir and self._ended[k] in (None, ("done", step)):
                self._stop_clock()
                state = self._state(k, step)
                history = tuple(self._of_heir(k, record) for record in state.history)
                self._files.leave(heir, replace(state, history=history))
                self._started = time.perf_counter()

    def _of_heir(self, k: int, record: Record) -> Record:
        """A record as the longer run would have made it, which may not evaluate at the end of the shorter one."""
        heir = self._agenda.heirs[k]
        assert heir is not None
        if self._agenda.heir_evaluates(k, record.step):
            return replace(record, run_id=heir.run_id)
        return replace(record, run_id=heir.run_id, loss=math.nan, error=math.nan)

    def _state(self, k: int, step: int) -> State:
        tensors = tensors_of(self._rows[k], self._optimizer, self._loss_sum[k])
        times = float(self._seconds[k]), float(self._eval_seconds[k])
        return State(step, int(self._since[k]), times[0], tuple(self._history[k]), tensors, times[1])

    def finish(self, engine: Engine, test: Callable[[Sequence[int]], Metrics]) -> dict[int, RunResult]:
        """Return the results of the runs that have ended since the last call, by index; tests them where asked."""
        fresh = [k for k, ended in enumerate(self._ended) if ended and k not in self._finished]
        tested = [k for k in fresh if self._tests(k)]
        self._final |= dict(zip(tested, self._evaluated(tested, test), strict=True))
        self._finished |= set(fresh)
        return {k: self._result(k, engine) for k in fresh}

    def _tests(self, k: int) -> bool:
        """Whether a run that has ended is still to be evaluated on its test split."""
        run, (state, _) = self._runs[k], self._ended[k] or ("", 0)
        return state == "done" and bool(run.validation or run.tta or not run.steps)

    def _result(self, k: int, engine: Engine) -> RunResult:
        run, ended, history = self._runs[k], self._ended[k], self._history[k]
        assert ended is not None
        state, step = ended
        shape, examples = cost.shape_of(run), step * run.batch_size
        return RunResult(
            run_id=run.run_id,
            state=state,
            train_loss=history[-1].train_loss if history else np.nan,
            steps=step,
            flops_paper=examples * cost.flops_paper_per_example(shape),
            flops_6nd=examples * cost.flops_6nd_per_example(shape),
            params=cost.params(shape).total,
            seconds=float(self._seconds[k]),
            eval_seconds=float(self._eval_seconds[k]),
            device=device_name(self._rows[0].device),
            loader=self._loader,
            engine=engine,
            accumulate=run.accumulate,
            threads=torch.get_num_threads(),
            stack=len(self._runs),
            history=tuple(history),
            **self._held_out(k),
            **_spent(run, step),
        )

    def _held_out(self, k: int) -> dict[str, Any]:
        """Return the final metrics of a run by column: of its last evaluation if it is not done."""
        run, ended = self._runs[k], self._ended[k]
        evaluated = [record for record in self._history[k] if not math.isnan(record.error)]
        error, loss = (evaluated[-1].error, evaluated[-1].loss) if evaluated else (np.nan, np.nan)
        found = dict.fromkeys(("val_error", "val_loss", "top5_error", "real_error"), np.nan)
        if run.validation:
            found |= {"val_error": error, "val_loss": loss}
        if ended and ended[0] == "done":
            return found | dict(zip(Metrics._fields, self._final[k], strict=True))
        return found | ({"error": np.nan, "loss": np.nan} if run.validation else {"error": error, "loss": loss})


def _spent(run: RunSpec, step: int) -> dict[str, int]:
    examples = step * run.batch_size
    return {"examples": examples, "flops": examples * cost.flops_per_example(cost.shape_of(run))}


def device_name(device: torch.device) -> str:
    """Return the value of the column `device`: the name of the GPU, cpu or mps."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
