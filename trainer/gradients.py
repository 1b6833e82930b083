"""One training step up to the gradients: batch, mixing, forward, loss, backward."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import torch

from trainer.augment import dropout, mix
from trainer.spec import RunSpec, SpecError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from trainer.data import Batches
    from trainer.stack import Stack


def gradients(stack: Stack, batches: Batches, runs: Sequence[RunSpec], step: int) -> torch.Tensor:
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
        logits = stack.logits(x[:, rows], dropout(runs, step, rows))
        loss = batch_loss(logits, y[:, rows], smoothing)
        if y2 is not None and share is not None:
            second = batch_loss(logits, y2[:, rows], smoothing)
            loss = torch.lerp(second, loss, share[:, rows])
        losses = loss.mean(1)
        stack.backward(losses.sum() / first.accumulate, add=part > 0)
        total += losses.detach()
    return total / first.accumulate


def batch_loss(logits_KBC: torch.Tensor, y_KB: torch.Tensor, smoothing_K1: torch.Tensor) -> torch.Tensor:
    """Training loss [K, B] of each example in nats, its target smoothed by the run's share."""
    log_p = torch.log_softmax(logits_KBC.float(), -1)
    nll = -log_p.gather(-1, y_KB.unsqueeze(-1)).squeeze(-1)
    return torch.where(smoothing_K1 > 0, torch.lerp(nll, -log_p.mean(-1), smoothing_K1), nll)


def precision(spec: RunSpec, device: torch.device) -> Callable[[], contextlib.AbstractContextManager[Any]]:
    """The context of training: fp32 weights always; bf16 and tf32 are those of the matrix products."""
    if spec.precision == "tf32" and device.type != "cuda":
        raise SpecError("precision", f"tf32 is of CUDA devices, this is {device.type}; write fp32 or bf16")
    if device.type == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = spec.precision == "tf32"
    if spec.precision == "bf16":
        return lambda: torch.autocast(device.type, torch.bfloat16)
    return contextlib.nullcontext
