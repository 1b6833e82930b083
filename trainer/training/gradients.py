"""One training step up to the gradients: batch, mixing, forward, loss, backward."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import torch

from trainer.spec import RunSpec, SpecError
from trainer.training.cuda_graphs import faster
from trainer.training.dropout import dropout
from trainer.training.target import Target

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from trainer.data.batches import Batches
    from trainer.families import Drop
    from trainer.training.cuda_graphs import Batch, Compute, Engine
    from trainer.training.stack import Stack


class Gradients:
    """Computes the gradients of one training step and writes them into the stack.

    By `trainer.model.passes` if the family allows it, else by autograd. On CUDA, the forward and backward pass is a
    CUDA graph if that is faster on the first batch; `engine` is the choice. Runs with dropout stay eager, because
    each step draws new masks.
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
        self._smoothed = any(run.label_smoothing for run in runs)
        self._compute: Compute | None = None
        self.engine: Engine = "eager"
        self._may_capture = device.type == "cuda" and not runs[0].dropout
        dtype = torch.bfloat16 if runs[0].precision == "bf16" else torch.float32
        self._passes = stack.passes(runs[0].batch_size // runs[0].accumulate, dtype)

    def __call__(self, steps: Sequence[int]) -> torch.Tensor:
        """Compute the gradients of one step, each run at its own; returns the training losses [K]."""
        batch = self._batches.inputs(steps)
        if not self._may_capture:
            return self._eager(batch, steps)
        if self._compute is None:
            self.engine, self._compute = faster(self._eager, batch)
        return self._compute(batch)

    def _eager(self, batch: Batch, steps: Sequence[int] = ()) -> torch.Tensor:
        """Compute losses [K] and gradients from the inputs of a batch (`Batches.inputs`)."""
        x, y, *mixed = self._batches.read(batch)
        first, total = self._runs[0], None
        size = first.batch_size // first.accumulate
        for part in range(first.accumulate):
            rows = slice(part * size, (part + 1) * size)
            others, share = (values[:, rows] for values in mixed) if mixed else (None, None)
            target = Target(y[:, rows], self._smoothing, others, share, self._smoothed)
            drop = dropout(self._runs, steps, rows)
            compute = self._by_autograd if self._passes is None else self._by_passes
            losses = compute(x[:, rows], target, drop, add=part > 0).mean(1)
            total = losses if total is None else total + losses
        assert total is not None
        return total / first.accumulate

    def _by_autograd(self, x: torch.Tensor, target: Target, drop: Drop | None, *, add: bool) -> torch.Tensor:
        with self._cast():
            loss = target.loss(self._stack.logits(x, drop))
            self._stack.backward(loss.mean(1).sum() / self._runs[0].accumulate, add=add)
        return loss.detach()

    @torch.no_grad()
    def _by_passes(self, x: torch.Tensor, target: Target, drop: Drop | None, *, add: bool) -> torch.Tensor:
        assert self._passes is not None
        logits = self._passes.forward(x, drop)
        loss = target.loss(logits, self._passes.gradient, 1 / self._runs[0].batch_size)
        self._passes.backward(add=add)
        return loss


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
