"""Error and loss on held-out examples: no label smoothing, each example once, weighted if the task is."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from trainer.data.augment.draws import placement_block, placement_planes
from trainer.data.augment.transforms import planes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from trainer.data.arrays import Split
    from trainer.data.augment.transforms import Planes
    from trainer.data.batches import Resident
    from trainer.spec import RunSpec
    from trainer.training.stack import Stack

CHUNK = 1024
"""Examples per forward pass. Fixed, so that the order of summation does not depend on the stack."""


class Metrics(NamedTuple):
    """Metrics of each run [K]: error in [0, 1], loss in nats, top-5 error, and error by ReaL labels.

    `top5_error` is NaN for data sets of at most five classes, `real_error` for data sets without ReaL labels. A
    prediction is right if it is one of the ReaL labels; images without any are left out (Beyer et al. 2020).
    """

    error: np.ndarray
    loss: np.ndarray
    top5_error: np.ndarray
    real_error: np.ndarray


class Evaluation:
    """Evaluates the runs of a stack on their test splits, padded to whole chunks with rows of weight 0.

    With `specs`, outputs are averaged over `tta` augmented copies of each image (test-time augmentation). `on_step`
    is called after each forward pass.
    """

    def __init__(
        self,
        data: Resident,
        splits: Sequence[Split],
        specs: Sequence[RunSpec] = (),
        on_step: Callable[[], None] = lambda: None,
    ) -> None:
        self._data, self._splits, self._specs, self._on_step = data, splits, specs, on_step
        longest = max(len(split.test) for split in splits)
        padded = longest + -longest % 32 if longest < CHUNK else longest + -longest % CHUNK
        rows = np.zeros((len(splits), padded), np.int64)
        weight = np.zeros((len(splits), padded))
        for k, split in enumerate(splits):
            rows[k, : len(split.test)], weight[k, : len(split.test)] = split.test, split.test_weight
        self._alike = bool((rows == rows[0]).all())
        self._rows = torch.from_numpy(rows).to(data.device)
        # Double precision keeps the sum over 10,000 examples exact. MPS has none.
        kind = torch.float32 if data.device.type == "mps" else torch.float64
        self._weight = torch.from_numpy(weight).to(data.device, kind)
        self._total = weight.sum(1)

    @torch.no_grad()
    def __call__(self, stack: Stack, which: Sequence[int] | None = None) -> Metrics:
        """Return the metrics of each run on its own split, or of those in `which` only."""
        if which is not None and len(which) < len(self._total):
            splits, specs = [self._splits[k] for k in which], [self._specs[k] for k in which if self._specs]
            return Evaluation(self._data, splits, specs, self._on_step)(stack.some(which))
        sums = np.zeros((5, len(self._total)))
        chunks = zip(torch.split(self._rows, CHUNK, 1), torch.split(self._weight, CHUNK, 1), strict=True)
        for number, (rows, weight) in enumerate(chunks):
            y = self._data.labels[rows]
            log_p = self._log_p(stack, rows, number)
            self._on_step()
            picked = log_p.gather(-1, y.unsqueeze(-1))
            likeliest = log_p.argmax(-1)
            ahead = (log_p > picked).sum(-1)
            known, hit = self._real(rows, likeliest)
            nats = torch.where(weight > 0, picked.squeeze(-1).to(weight.dtype) * weight, 0)
            counted = [
                (likeliest != y) * weight,
                -nats,
                (ahead >= 5) * weight,
                ~hit * known * weight,
                known * weight,
            ]
            sums += torch.stack([values.to(weight.dtype).sum(1) for values in counted]).cpu().double().numpy()
        wrong, nats_sum, wrong5, wrong_real, known_sum = sums
        top5 = wrong5 / self._total if stack.shape.classes > 5 else np.full_like(wrong5, np.nan)
        with np.errstate(invalid="ignore"):
            return Metrics(wrong / self._total, nats_sum / self._total, top5, wrong_real / known_sum)

    def _log_p(self, stack: Stack, rows: torch.Tensor, number: int) -> torch.Tensor:
        """Return the log-probabilities [K, B, classes] of a chunk."""
        if not self._specs:
            return torch.log_softmax(stack.logits(self._read(rows)), -1)
        first = self._specs[0]
        log = first.tta_average == "logits"
        total = torch.zeros((), device=rows.device)
        for drawn in self._copies(rows.shape[1], number):
            logits = stack.logits(self._data.read(rows, drawn)[0])
            total = total + (logits if log else torch.softmax(logits, -1))
            self._on_step()
        mean = total / first.tta
        return torch.log_softmax(mean, -1) if log else mean.log()

    def _copies(self, size: int, number: int) -> Iterator[Planes]:
        """Yield the draws of each augmented copy of a chunk, in streams of their own."""
        first = self._specs[0]
        drawn = [placement_block(spec, f"tta/{number}", (first.tta, size)) for spec in self._specs]
        for copy in torch.from_numpy(np.stack(drawn, 2)).to(self._data.device):
            yield planes(placement_planes(first), copy.unbind())

    def _read(self, rows: torch.Tensor) -> torch.Tensor:
        """Return the inputs [K, B, inputs] of a chunk: in memory once if they are the same for all runs."""
        if not self._alike:
            return self._data.read(rows)[0]
        return self._data.read(rows[:1])[0].expand(len(rows), -1, -1)

    def _real(self, rows: torch.Tensor, likeliest: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return whether each example has ReaL labels, and whether the likeliest class is one of them."""
        if self._data.real is None:
            nothing = torch.zeros_like(likeliest, dtype=torch.bool)
            return nothing, nothing
        labels = self._data.real[rows]
        return (labels >= 0).any(-1), (labels == likeliest.unsqueeze(-1)).any(-1)
