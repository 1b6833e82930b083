"""Flips and crops of a batch, on the device. What is drawn is a function of the run's seed and the step."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F  # noqa: N812

from trainer.streams import stream

if TYPE_CHECKING:
    from trainer.spec import RunSpec

PAD = 4
"""Pixels of black border that a random crop may take in, as is usual for 32 x 32 images."""


def augment(pixels_BHWC: torch.Tensor, spec: RunSpec, step: int) -> torch.Tensor:
    """One run's batch of images, each flipped with probability 1/2 and/or moved by up to PAD pixels."""
    generator = torch.Generator().manual_seed(stream(spec.seed, "augment", step))
    if "crop" in spec.augment:
        pixels_BHWC = _crop(pixels_BHWC, generator)
    if "flip" in spec.augment:
        flipped = torch.rand(len(pixels_BHWC), generator=generator) < 0.5
        chosen = flipped.to(pixels_BHWC.device)[:, None, None, None]
        pixels_BHWC = torch.where(chosen, pixels_BHWC.flip(2), pixels_BHWC)
    return pixels_BHWC


def _crop(pixels_BHWC: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    batch, height, width, _ = pixels_BHWC.shape
    device = pixels_BHWC.device
    padded = F.pad(pixels_BHWC, (0, 0, PAD, PAD, PAD, PAD))
    top, left = torch.randint(0, 2 * PAD + 1, (2, batch), generator=generator).to(device)
    rows = (top[:, None] + torch.arange(height, device=device))[:, :, None]
    columns = (left[:, None] + torch.arange(width, device=device))[:, None, :]
    return padded[torch.arange(batch, device=device)[:, None, None], rows, columns]
