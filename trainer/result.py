"""Records and results of a run: the columns, with units, of the results table and of `analysis`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

Outcome = Literal["done", "diverged", "cancelled", "pruned"]


@dataclass(frozen=True)
class Record:
    """Metrics of one run at one step; a row of `history`.

    `error` is 1 - top-1 accuracy in [0, 1] and `loss` the cross-entropy in nats without label smoothing, both on
    the validation split, or on the test split if there is none; they are NaN where the run was not evaluated
    (trainer.evaluations). `train_loss` is the mean training loss since the previous record, in nats, as optimised.
    `seconds` is the run's share of its stack's training time.
    """

    run_id: str
    step: int
    examples: int
    flops: int
    seconds: float
    train_loss: float
    loss: float
    error: float

    def to_dict(self) -> dict[str, Any]:
        """Return the columns by name, with None for NaN, for JSON and SQL."""
        unknown = {name: None for name in ("loss", "error") if math.isnan(getattr(self, name))}
        return vars(self) | unknown

    @classmethod
    def from_dict(cls, columns: Mapping[str, Any]) -> Record:
        """The inverse of `to_dict`."""
        unknown = {name: math.nan for name in ("loss", "error") if columns.get(name, "") is None}
        return cls(**{**columns, **unknown})


@dataclass(frozen=True)
class Resumed:
    """A run resumes from a checkpoint: the step, the FLOPs and seconds spent by then, and the records so far."""

    run_id: str
    step: int
    flops: int
    seconds: float
    history: tuple[Record, ...]


@dataclass(frozen=True)
class RunResult:
    """The end of a run: its last metrics and the compute that it used.

    `state` is `done`, `diverged` (a training or test loss is not finite) or `cancelled` (by `should_stop` or
    `leaving`). A search's coordinator cancels unpromising runs and records them as `pruned`. `error`, `loss`,
    `top5_error` and `real_error` (`evaluate.Metrics`) refer to the test split, with test-time augmentation if the
    spec asks for it; `val_error` and `val_loss` refer to the validation split and are NaN if there is none. A run
    that is not `done` has the metrics of its last evaluation, or NaN without one. `loader` is resident, mmap or
    ffcv. `engine` is eager, or graph if CUDA graphs were faster. `accumulate` is the number of parts of a batch.
    `seconds` and `eval_seconds` are the run's shares of its stack's training and evaluation time.
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
    eval_seconds: float = 0.0
