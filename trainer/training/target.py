"""What a batch of a stack is trained towards, the loss of logits, and its gradient in closed form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator

FEW = 64
"""Classes up to which a CPU takes the softmax across vectors of examples: it has no vector code for short rows."""


@dataclass(frozen=True)
class Target:
    """The targets of a batch. Axes: K runs, B examples, C classes.

    Args:
        labels: the labels [K, B].
        smoothing: the share [K, 1] of the target that is spread over all classes.
        others: with MixUp, the labels [K, B] of the second examples.
        share: with MixUp, the share [K, B] of the first examples.
        smoothed: whether any of `smoothing` is not 0.
    """

    labels: torch.Tensor
    smoothing: torch.Tensor
    others: torch.Tensor | None = None
    share: torch.Tensor | None = None
    smoothed: bool = True

    def loss(
        self, logits_KBC: torch.Tensor, gradient_KBC: torch.Tensor | None = None, scale: float = 1.0
    ) -> torch.Tensor:
        """Return the training loss [K, B] of each example in nats.

        `gradient_KBC`, if given, becomes the gradient of the sum of all losses times `scale` by the logits:
        softmax minus target.
        """
        across = logits_KBC.device.type == "cpu" and logits_KBC.shape[2] <= FEW
        logits = logits_KBC.to(torch.promote_types(logits_KBC.dtype, torch.float32))
        log_p = torch.log_softmax(logits.transpose(1, 2), 1) if across else torch.log_softmax(logits, 2)
        classes = 1 if across else 2
        loss = torch.zeros_like(self.smoothing)
        for labels, share in self._parts():
            nll = -log_p.gather(classes, labels.unsqueeze(classes)).squeeze(classes)
            loss = nll if share is None else loss + nll * share
        if gradient_KBC is not None:
            self._gradient(log_p, classes, scale, gradient_KBC.transpose(1, 2) if across else gradient_KBC)
        if not self.smoothed:
            return loss
        return torch.where(self.smoothing > 0, torch.lerp(loss, -log_p.mean(classes), self.smoothing), loss)

    def _gradient(self, log_p: torch.Tensor, classes: int, scale: float, out: torch.Tensor) -> None:
        gradient = log_p.exp()
        if self.smoothed:
            gradient.sub_((self.smoothing / log_p.shape[classes]).unsqueeze(1))
        rest = self.smoothing - 1
        for labels, share in self._parts():
            weight = rest.expand_as(labels) if share is None else rest * share
            gradient.scatter_add_(classes, labels.unsqueeze(classes), weight.unsqueeze(classes))
        torch.mul(gradient, scale, out=out)

    def _parts(self) -> Iterator[tuple[torch.Tensor, torch.Tensor | None]]:
        """The labels of the first and second examples and their shares; without MixUp, only the first."""
        if self.others is None or self.share is None:
            yield self.labels, None
        else:
            yield self.labels, self.share
            yield self.others, 1 - self.share
