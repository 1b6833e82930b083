"""The records and results of the runs of a stack, kept while it trains."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from trainer import cost
from trainer.checkpoints.checkpoints import State, tensors_of
from trainer.result import Outcome, Record, RunResult
from trainer.training.evaluate import Metrics
from trainer.trunk import shared_steps

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from trainer.checkpoints.checkpoints import Checkpoints
    from trainer.spec import RunSpec
    from trainer.training.cuda_graphs import Engine
    from trainer.training.optimise import Optimizer


class Stops(NamedTuple):
    """Callbacks of a stack in training: whether to stop all runs, and the run_ids of runs to stop."""

    all: Callable[[], bool]
    some: Callable[[], Collection[str]]


class Tracker:
    """Tracks the records, the state and the training seconds of each run of a stack, and saves checkpoints.

    `rows` [n] of each run, `optimizer` and `loss_sum` [K] are the tensors that the loop updates; they are saved to
    `files`.
    """

    def __init__(
        self,
        runs: Sequence[RunSpec],
        rows: Sequence[torch.Tensor],
        optimizer: Optimizer,
        loss_sum: torch.Tensor,
        *,
        files: Checkpoints,
        stops: Stops,
        loader: str,
    ) -> None:
        self._runs, self._rows, self._optimizer, self._loss_sum = runs, rows, optimizer, loss_sum
        self._files, self._stops, self._loader = files, stops, loader
        self._history: list[list[Record]] = [[] for _ in runs]
        self._ended: list[tuple[Outcome, int] | None] = [None if run.steps else ("done", 0) for run in runs]
        self._watched: Metrics | None = None
        self._tested: Metrics | None = None
        self._since_step = np.zeros(len(runs), int)
        self._before = [(0.0, 0.0)] * len(runs)  # seconds of each run before the checkpoint that it resumes from
        self._eval_seconds, self._seconds, self._started = 0.0, 0.0, time.perf_counter()
        self._looked = self._started

    @property
    def running(self) -> list[int]:
        """The indices of the runs that have not ended."""
        return [k for k, ended in enumerate(self._ended) if ended is None]

    def record(self, step: int, evaluate: Callable[[], Metrics]) -> Iterator[Record]:
        """Yield the records of an evaluation after `step`; ends runs that diverged or are at their last step."""
        train_loss = self._loss_sum.cpu().double().numpy() / (step - self._since_step)  # waits for the device
        self._seconds += time.perf_counter() - self._started
        self._watched = self._evaluated(evaluate)
        error, loss, _, _ = self._watched
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
        self._loss_sum.zero_()
        self._since_step[:], self._started = step, time.perf_counter()

    @property
    def unseen(self) -> float:
        """Seconds since `part` was last called."""
        return time.perf_counter() - self._looked

    @property
    def finished(self) -> bool:
        """Whether any run is done."""
        return any(ended is not None and ended[0] == "done" for ended in self._ended)

    def test(self, evaluate: Callable[[], Metrics]) -> None:
        """Take the metrics on the test split, if the records are from another split."""
        self._tested = self._evaluated(evaluate)

    def _evaluated(self, evaluate: Callable[[], Metrics]) -> Metrics:
        began = time.perf_counter()
        metrics = evaluate()
        self._eval_seconds += time.perf_counter() - began
        return metrics

    def look(self, step: int) -> None:
        """End runs that diverged, save checkpoints that are due, and stop if requested."""
        for k in np.flatnonzero(~np.isfinite(self._loss_sum.cpu().numpy())):
            self._ended[k] = self._ended[k] or ("diverged", step)
        stop = self._stops.all()
        if stop or self._files.due:
            self._save(self.running, step)
        if stop:
            self._ended = [ended or ("cancelled", step) for ended in self._ended]

    def part(self, step: int) -> None:
        """Save and cancel the runs that are to leave the stack."""
        self._looked = time.perf_counter()
        asked = self._stops.some()
        if leaving := [k for k in self.running if self._runs[k].run_id in asked]:
            self._save(leaving, step)
            for k in leaving:
                self._ended[k] = ("cancelled", step)

    def resume(self, states: Sequence[State | None]) -> None:
        """Resume from checkpoints; None for a run that starts from scratch."""
        for k, state in enumerate(states):
            if state is not None:
                self._history[k], self._since_step[k] = list(state.history), state.since
                self._before[k] = state.seconds, state.eval_seconds
        self._started = time.perf_counter()

    def _save(self, which: Sequence[int], step: int) -> None:
        self._stop_clock()
        self._files.save([(self._runs[k], self._state(k, step)) for k in which])
        self._started = time.perf_counter()

    def _stop_clock(self) -> None:
        now = time.perf_counter()
        self._seconds, self._started = self._seconds + now - self._started, now

    def states(self, step: int) -> dict[RunSpec, State | None]:
        """Return the states of the runs that have not ended, as in checkpoints."""
        self._stop_clock()
        return {self._runs[k]: self._state(k, step) for k in self.running}

    def leave(self, heirs: Sequence[RunSpec | None], step: int) -> None:
        """Write checkpoints of longer runs that share these steps, except of runs that diverged."""
        self._stop_clock()
        for k, heir in enumerate(heirs):
            if heir and shared_steps(self._runs[k]) == step and self._ended[k] in (None, ("done", step)):
                state = self._state(k, step)
                history = tuple(replace(record, run_id=heir.run_id) for record in state.history)
                self._files.leave(heir, replace(state, history=history))
        self._started = time.perf_counter()

    def _state(self, k: int, step: int) -> State:
        since, history = int(self._since_step[k]), tuple(self._history[k])
        tensors = tensors_of(self._rows[k], self._optimizer, self._loss_sum[k])
        return State(step, since, self._seconds_of(k), history, tensors, self._eval_seconds_of(k))

    def _seconds_of(self, k: int) -> float:
        return self._before[k][0] + self._seconds / len(self._runs)

    def _eval_seconds_of(self, k: int) -> float:
        return self._before[k][1] + self._eval_seconds / len(self._runs)

    def results(self, engine: Engine, besides: Collection[str] = ()) -> list[RunResult]:
        """Return the results of all runs that have ended, except the run_ids in `besides`."""
        return [
            self._result(k, engine)
            for k, ended in enumerate(self._ended)
            if ended is not None and self._runs[k].run_id not in besides
        ]

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
            seconds=self._seconds_of(k),
            eval_seconds=self._eval_seconds_of(k),
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
        """Return the final metrics of a run by column."""
        run, ended = self._runs[k], self._ended[k]
        done = ended is not None and ended[0] == "done"
        last = self._history[k][-1] if self._history[k] else None
        error, loss = (last.error, last.loss) if last else (np.nan, np.nan)
        found = dict.fromkeys(("val_error", "val_loss", "top5_error", "real_error"), np.nan)
        if run.validation:
            found |= {"val_error": error, "val_loss": loss}
        tested = self._tested or (None if run.validation else self._watched)
        if done and tested is not None:
            values = [float(metric[k]) for metric in tested]
            return found | dict(zip(Metrics._fields, values, strict=True))
        return found | ({"error": np.nan, "loss": np.nan} if run.validation else {"error": error, "loss": loss})


def _spent(run: RunSpec, step: int) -> dict[str, int]:
    examples = step * run.batch_size
    return {"examples": examples, "flops": examples * cost.flops_per_example(cost.shape_of(run))}


def device_name(device: torch.device) -> str:
    """Return the value of the column `device`: the name of the GPU, cpu or mps."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
