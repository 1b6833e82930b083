"""Flips, crops, mixing and dropout on the device; all draws are functions of the run's seed and the step."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812

from trainer.rng import stream

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trainer.families import Drop
    from trainer.spec import RunSpec

PAD = 4
"""Pixels of black border that a random crop may take in, as is usual for 32 x 32 images."""
RATIO = (3 / 4, 4 / 3)
"""Range of width over height of a resized crop, before it is stretched to the image's own."""


def augment_copy(chunk: int, copy: int) -> str:
    """The `step` of a copy in test-time augmentation, which no step of training has."""
    return f"tta/{chunk}/{copy}"


def augment(pixels_BHWC: torch.Tensor, spec: RunSpec, step: int | str) -> torch.Tensor:
    """One run's batch of images [B, H, W, C], each flipped with probability 1/2 and/or cropped.

    `crop` moves an image by up to PAD pixels; `resized-crop` takes a box of `crop_scale` to 1 of its area, of a
    RATIO drawn log-uniformly, and scales it to the image's own size (the paper's RandomResizedCrop). Uint8 in,
    uint8 out, rounded, as from FFCV and torchvision.
    """
    generator = torch.Generator().manual_seed(stream(spec.seed, "augment", step))
    if "resized" in spec.augment:
        pixels_BHWC = _resized_crop(pixels_BHWC, spec.crop_scale, generator)
    elif "crop" in spec.augment:
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


def _resized_crop(pixels_BHWC: torch.Tensor, least: float, generator: torch.Generator) -> torch.Tensor:
    """Bilinear without antialiasing, as FFCV's; a box too wide or too high for the image is cut to it."""
    batch, height, width, _ = pixels_BHWC.shape
    area, ratio, x, y = torch.rand(4, batch, generator=generator)
    area = least + (1 - least) * area
    low, high = np.log(RATIO)
    ratio = torch.exp(low + (high - low) * ratio)
    wide, tall = (area * ratio).sqrt().clamp_(max=1.0), (area / ratio).sqrt().clamp_(max=1.0)
    # A box of the image in grid_sample's coordinates, [-1, 1] from edge to edge: centre and half size.
    theta = torch.zeros(batch, 2, 3)
    theta[:, 0, 0], theta[:, 0, 2] = wide, (2 * x - 1) * (1 - wide)
    theta[:, 1, 1], theta[:, 1, 2] = tall, (2 * y - 1) * (1 - tall)
    grid = F.affine_grid(theta, [batch, 1, height, width], align_corners=False).to(pixels_BHWC.device)
    images = pixels_BHWC.permute(0, 3, 1, 2).float()
    scaled = F.grid_sample(images, grid, padding_mode="border", align_corners=False)
    return scaled.round_().clamp_(0, 255).to(pixels_BHWC.dtype).permute(0, 2, 3, 1).contiguous()


def mix(
    x_KBI: torch.Tensor, y_KB: torch.Tensor, specs: Sequence[RunSpec], step: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """MixUp (Zhang et al. 2018): inputs, labels, the second labels [K, B], and the share [K, B] of the first ones.

    Each example is mixed with another of its batch, by a share from Beta(mixup, mixup).
    """
    mixed, seconds, shares = [], [], []
    for k, spec in enumerate(specs):
        draw = np.random.default_rng(stream(spec.seed, "mixup", step))
        batch = y_KB.shape[1]
        drawn = draw.beta(spec.mixup, spec.mixup, batch if spec.mixup_per == "example" else 1)
        share = torch.from_numpy(np.broadcast_to(drawn, batch).astype(np.float32)).to(x_KBI.device)
        partner = torch.from_numpy(draw.permutation(batch)).to(x_KBI.device)
        mixed.append(torch.lerp(x_KBI[k, partner], x_KBI[k], share[:, None]))
        seconds.append(y_KB[k, partner])
        shares.append(share)
    return torch.stack(mixed), y_KB, torch.stack(seconds), torch.stack(shares)


def dropout(specs: Sequence[RunSpec], step: int, rows: slice = slice(None)) -> Drop | None:
    """Dropout (Srivastava et al. 2014): what it makes of hidden activations [K, B, width] of a layer.

    Of a batch that is processed in parts, `rows` says which: what is dropped does not depend on the parts.
    """
    rate = specs[0].dropout
    if not rate:
        return None

    def drop(hidden_KBM: torch.Tensor, layer: int) -> torch.Tensor:
        kept = torch.empty_like(hidden_KBM)
        for k, spec in enumerate(specs):
            generator = torch.Generator(hidden_KBM.device)
            generator.manual_seed(stream(spec.seed, "dropout", step, 0, layer))
            whole = kept[k] if rows == slice(None) else kept.new_empty(spec.batch_size, kept.shape[-1])
            kept[k] = whole.bernoulli_(1 - rate, generator=generator)[rows]
        return hidden_KBM * kept.div_(1 - rate)

    return drop
