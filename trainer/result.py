"""The results of a run: the columns, with units, that the results table and `analysis` read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Outcome = Literal["done", "diverged", "cancelled", "pruned"]


@dataclass(frozen=True)
class Record:
    """Metrics of one run at one moment; a row of `history`.

    `error` is 1 - top-1 accuracy on the validation split, or on the test split where there is none, in [0, 1];
    `loss` its cross-entropy in nats, without label smoothing; `train_loss` the mean training loss
    since the record before, in nats, as optimised. `seconds` counts training alone, the run's share of its stack.
    """

    run_id: str
    step: int
    examples: int
    flops: int
    seconds: float
    train_loss: float
    loss: float
    error: float


@dataclass(frozen=True)
class Resumed:
    """A run goes on from a checkpoint: after which step, what it had spent by then, and its records so far."""

    run_id: str
    step: int
    flops: int
    seconds: float
    history: tuple[Record, ...]


@dataclass(frozen=True)
class RunResult:
    """The end of a run: its last metrics and what was really spent.

    `state` is `done`, `diverged` (a training or test loss that is not finite) or `cancelled` (`should_stop`, or it
    was `leaving`); a coordinator calls `pruned` what it had cancelled because it promised too little.
    `error`, `loss`, `top5_error` and `real_error` (`evaluate.Metrics`) are of the test split, by test-time
    augmentation where the spec says so; `val_error` and `val_loss` are of the validation split, NaN where there is
    none. A run that is not `done` keeps the metrics of its last record; NaN where there is none. `loader` is how
    the data was read: resident, mmap or ffcv; `engine` how its passes were launched, eager or (on CUDA,
    where faster) graph; `accumulate` in how many parts each batch was processed.
    """

    run_id: str
    state: Outcome
    error: float
    loss: float
    train_loss: float
    val_error: float
    val_loss: float
    top5_error: float
    real_error: float
    steps: int
    examples: int
    flops: int
    flops_paper: int
    flops_6nd: int
    params: int
    seconds: float
    device: str
    loader: str
    accumulate: int
    threads: int
    stack: int
    history: tuple[Record, ...]
    engine: str = "eager"
