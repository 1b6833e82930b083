"""Dropout of hidden activations; the masks depend only on the seed of the run, the step and the layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from trainer.rng import stream

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trainer.families import Drop
    from trainer.spec import RunSpec


def dropout(specs: Sequence[RunSpec], steps: Sequence[int], rows: slice = slice(None)) -> Drop | None:
    """Return the dropout (Srivastava et al. 2014) of hidden activations [K, B, width] of a layer; None without it.

    The mask is that of each run's step. `rows` selects the part of the batch that is processed; the mask does not
    depend on the division into parts.
    """
    rate = specs[0].dropout
    if not rate:
        return None

    def drop(hidden_KBM: torch.Tensor, layer: int) -> torch.Tensor:
        kept = torch.empty_like(hidden_KBM)
        for k, (spec, step) in enumerate(zip(specs, steps, strict=True)):
            generator = torch.Generator(hidden_KBM.device)
            generator.manual_seed(stream(spec.seed, "dropout", step, 0, layer))
            whole = kept[k] if rows == slice(None) else kept.new_empty(spec.batch_size, kept.shape[-1])
            kept[k] = whole.bernoulli_(1 - rate, generator=generator)[rows]
        return hidden_KBM * kept.div_(1 - rate)

    return drop
