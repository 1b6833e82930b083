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
        flipped = torch.nonzero(torch.rand(len(pixels_BHWC), generator=generator) < 0.5).flatten()
        flipped = flipped.to(pixels_BHWC.device)
        mirrored = pixels_BHWC.index_select(0, flipped).flip(2)
        pixels_BHWC = pixels_BHWC.index_copy(0, flipped, mirrored)
    return pixels_BHWC


def _crop(pixels_BHWC: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    batch, height, width, channels = pixels_BHWC.shape
    device = pixels_BHWC.device
    padded = F.pad(pixels_BHWC, (0, 0, PAD, PAD, PAD, PAD)).flatten(2)
    top, left = torch.randint(0, 2 * PAD + 1, (2, batch), generator=generator).to(device)
    # Every crop of every image as an overlapping view [B, top, left, H, W C], of which one an image is copied.
    crops = padded.unfold(1, height, 1).unfold(2, width * channels, channels)
    chosen = crops[torch.arange(batch, device=device), top, left]
    return chosen.view(batch, height, width, channels)
