"""One training step up to the gradients: batch, mixing, forward, loss, backward."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import torch

from trainer.data.augment import dropout, mix
from trainer.spec import RunSpec, SpecError
from trainer.training.cuda_graphs import faster

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from trainer.data.batches import Batches
    from trainer.training.cuda_graphs import Batch, Compute, Engine
    from trainer.training.stack import Stack


class Gradients:
    """Computes the gradients of one training step and writes them into the stack.

    On CUDA, the forward and backward pass is a CUDA graph if that is faster on the first batch; `engine` is the
    choice. Runs with dropout stay eager, because each step draws new masks.
    """

    def __init__(
        self,
        stack: Stack,
        batches: Batches,
        runs: Sequence[RunSpec],
        cast: Callable[[], contextlib.AbstractContextManager[Any]],
    ) -> None:
        self._stack, self._batches, self._runs, self._cast = stack, batches, runs, cast
        device = stack.rows[0].device
        self._smoothing = torch.tensor([[run.label_smoothing] for run in runs], device=device)
        self._compute: Compute | None = None
        self.engine: Engine = "eager"
        self._may_capture = device.type == "cuda" and not runs[0].dropout
        self._by_rows = batches.plain and not runs[0].mixup

    def __call__(self, steps: Sequence[int]) -> torch.Tensor:
        """Compute the gradients of one step, each run at its own; returns the training losses [K]."""
        batch = self._batch(steps)
        if not self._may_capture:
            return self._eager(batch, steps)
        if self._compute is None:
            self.engine, self._compute = faster(self._eager, batch)
        return self._compute(batch)

    def _batch(self, steps: Sequence[int]) -> Batch:
        """Return the input of `_eager`: only row numbers if it can read the data, so that a graph copies little."""
        if self._by_rows:
            return (self._batches.rows(steps),)
        x, y = self._batches.at(steps)
        return mix(x, y, self._runs, steps) if self._runs[0].mixup else (x, y)

    def _eager(self, batch: Batch, steps: Sequence[int] = ()) -> torch.Tensor:
        """Compute losses [K] and gradients of a batch: row numbers, or inputs and labels (with MixUp, of both)."""
        x, y, *mixed = self._batches.read(batch[0]) if self._by_rows else batch
        first = self._runs[0]
        total = torch.zeros(len(self._runs), device=x.device)
        size = first.batch_size // first.accumulate
        with self._cast():
            for part in range(first.accumulate):
                rows = slice(part * size, (part + 1) * size)
                logits = self._stack.logits(x[:, rows], dropout(self._runs, steps, rows))
                loss = batch_loss(logits, y[:, rows], self._smoothing)
                if mixed:
                    second_labels, share = mixed
                    second = batch_loss(logits, second_labels[:, rows], self._smoothing)
                    loss = torch.lerp(second, loss, share[:, rows])
                losses = loss.mean(1)
                self._stack.backward(losses.sum() / first.accumulate, add=part > 0)
                total += losses.detach()
        return total / first.accumulate


def batch_loss(logits_KBC: torch.Tensor, y_KB: torch.Tensor, smoothing_K1: torch.Tensor) -> torch.Tensor:
    """Return the training loss [K, B] of each example in nats, with the label smoothing of its run."""
    log_p = torch.log_softmax(logits_KBC.float(), -1)
    nll = -log_p.gather(-1, y_KB.unsqueeze(-1)).squeeze(-1)
    return torch.where(smoothing_K1 > 0, torch.lerp(nll, -log_p.mean(-1), smoothing_K1), nll)


def precision(spec: RunSpec, device: torch.device) -> Callable[[], contextlib.AbstractContextManager[Any]]:
    """Return a factory of the training context. Weights are always fp32; bf16 and tf32 apply to matrix products.

    Raises SpecError if the device does not support the precision.
    """
    if spec.precision == "tf32" and device.type != "cuda":
        raise SpecError("precision", f"tf32 needs a CUDA device, this device is {device.type}; write fp32 or bf16")
    if device.type == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = spec.precision == "tf32"
    if spec.precision == "bf16":
        return lambda: torch.autocast(device.type, torch.bfloat16)
    return contextlib.nullcontext
