"""Error and loss on the held-out split: unsmoothed, every example once, weighted where the task says so."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trainer.data import Resident
    from trainer.datasets import Split
    from trainer.stack import Stack

CHUNK = 1024
"""Examples a forward pass. Fixed, so that sums are made in one order whoever shares the stack."""


class Evaluation:
    """The test splits of a stack's runs, padded to whole chunks by rows of weight 0."""

    def __init__(self, data: Resident, splits: Sequence[Split]) -> None:
        self._data = data
        longest = max(len(split.test) for split in splits)
        padded = longest + -longest % 32 if longest < CHUNK else longest + -longest % CHUNK
        rows = np.zeros((len(splits), padded), np.int64)
        weight = np.zeros((len(splits), padded))
        for k, split in enumerate(splits):
            rows[k, : len(split.test)], weight[k, : len(split.test)] = split.test, split.test_weight
        self._rows = torch.from_numpy(rows).to(data.device)
        # double where the device has it (MPS does not): the sum over 10,000 examples stays exact
        kind = torch.float32 if data.device.type == "mps" else torch.float64
        self._weight = torch.from_numpy(weight).to(data.device, kind)
        self._total = weight.sum(1)

    @torch.no_grad()
    def __call__(self, stack: Stack) -> tuple[np.ndarray, np.ndarray]:
        """(error [K] in [0, 1], loss [K] in nats) of every run on its own test split."""
        wrong = np.zeros(len(self._total))
        nats = np.zeros(len(self._total))
        for rows, weight in zip(
            torch.split(self._rows, CHUNK, 1), torch.split(self._weight, CHUNK, 1), strict=True
        ):
            x, y = self._data.read(rows)
            logits = stack.logits(x)
            picked = torch.log_softmax(logits, -1).gather(-1, y.unsqueeze(-1)).squeeze(-1)
            wrong += ((logits.argmax(-1) != y) * weight).sum(1).cpu().double().numpy()
            nats -= torch.where(weight > 0, picked.to(weight.dtype) * weight, 0).sum(1).cpu().double().numpy()
        return wrong / self._total, nats / self._total
