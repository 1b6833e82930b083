"""The parameters of a stack: one buffer [K, n] with a row for each run.

A parameter is a strided view over all rows, which is what batched matrix products read; a row is contiguous,
which is what a stock optimiser updates. Nothing ever mixes two rows, so a run's numbers do not depend on who
shares its stack (on CPU bit for bit: tests/trainer/training/test_stack.py).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F  # noqa: N812

from trainer.cost import shape_of
from trainer.families import family_of
from trainer.model.passes import Passes
from trainer.training.optimise import head_gain

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trainer.families import Drop
    from trainer.spec import RunSpec


ALIGNMENT = 16
"""Rows start at multiples of this many floats (64 bytes): matrix products choose their kernel by alignment."""


class Stack:
    """K models of one shape on one device.

    `rows` holds a contiguous tensor [n] for each run, over the shared buffer, with its gradient [n] likewise, which
    is 0 wherever nothing is trained; `slots` says what lies where. `starts` are the parameters [n] that runs begin
    with, by default their seeds'.
    """

    def __init__(
        self, specs: Sequence[RunSpec], device: torch.device, starts: Sequence[torch.Tensor] | None = None
    ) -> None:
        self._specs, self.shape = specs, shape_of(specs[0])
        self._family = family_of(self.shape.family)
        self.slots = self._family.slots(self.shape)
        if starts is None:
            starts = [self._family.initial_row(self.shape, spec.seed, head_gain(spec)) for spec in specs]
        values = torch.stack(list(starts))
        values = F.pad(values, (0, -values.shape[1] % ALIGNMENT)).to(device)
        gradients = torch.zeros_like(values)
        self.weights: dict[str, torch.Tensor] = {}
        self._trained: dict[str, torch.Tensor] = {}
        for slot in self.slots:
            columns = slice(slot.start, slot.start + math.prod(slot.shape))
            self.weights[slot.name] = values[:, columns].view(-1, *slot.shape)
            if slot.group == "head" or not self.shape.probe:
                self.weights[slot.name].requires_grad_()
                self._trained[slot.name] = gradients[:, columns].view(-1, *slot.shape)
        self.rows = list(values.unbind())
        for row, gradient in zip(self.rows, gradients.unbind(), strict=True):
            row.grad = gradient

    def some(self, which: Sequence[int]) -> Stack:
        """A copy of some of the models, for evaluation."""
        rows = [self.rows[k].detach() for k in which]
        return Stack([self._specs[k] for k in which], rows[0].device, rows)

    def logits(self, x_KBI: torch.Tensor, drop: Drop | None = None) -> torch.Tensor:
        """Logits [K, B, classes] of a batch [K, B, inputs]."""
        return self._family.forward(self.weights, x_KBI, self.shape, drop)

    def backward(self, loss: torch.Tensor, *, add: bool = False) -> None:
        """Put the gradient of a scalar loss into the buffer behind `rows`, or add it there.

        Copied there and not accumulated by autograd, which would need the buffer zeroed first and would warn
        that strided views are slow to add to.
        """
        found = torch.autograd.grad(loss, [self.weights[name] for name in self._trained])
        for held, gradient in zip(self._trained.values(), found, strict=True):
            held.add_(gradient) if add else held.copy_(gradient)

    def passes(self, batch: int, dtype: torch.dtype) -> Passes | None:
        """Forward and backward pass on batches of this size without autograd, if the family allows it."""
        operations = self._family.operations(self.shape)
        if operations is None:
            return None
        return Passes(operations, self.weights, self._trained, batch, self.shape.activation, dtype)
