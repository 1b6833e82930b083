"""Flips, crops, MixUp and dropout on the device; all draws depend only on the seed of the run and the step."""

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
"""Pixels of black padding on each side for a random crop, as is usual for 32 x 32 images."""
RATIO = (3 / 4, 4 / 3)
"""Range of width / height of a resized crop, before it is scaled to the size of the image."""


def augment_copy(chunk: int, copy: int) -> str:
    """Return the `step` of a copy in test-time augmentation, different from every training step."""
    return f"tta/{chunk}/{copy}"


def augment(pixels_BHWC: torch.Tensor, spec: RunSpec, step: int | str) -> torch.Tensor:
    """Return the images [B, H, W, C] of one run's batch, flipped with probability 1/2, cropped, or both.

    `crop` shifts an image by up to PAD pixels. `resized-crop` cuts a box with `crop_scale` to 1 of the area and an
    aspect ratio drawn log-uniformly from RATIO, and scales it to the size of the image (RandomResizedCrop of the
    paper). Uint8 images stay uint8, rounded as in FFCV and torchvision.
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
    # All crops of all images as an overlapping view [B, top, left, H, W C]; one crop per image is copied.
    crops = padded.unfold(1, height, 1).unfold(2, width * channels, channels)
    chosen = crops[torch.arange(batch, device=device), top, left]
    return chosen.view(batch, height, width, channels)


def _resized_crop(pixels_BHWC: torch.Tensor, least: float, generator: torch.Generator) -> torch.Tensor:
    """Bilinear without antialiasing, as in FFCV; a box wider or higher than the image is clipped."""
    batch, height, width, _ = pixels_BHWC.shape
    area, ratio, x, y = torch.rand(4, batch, generator=generator)
    area = least + (1 - least) * area
    low, high = np.log(RATIO)
    ratio = torch.exp(low + (high - low) * ratio)
    wide, tall = (area * ratio).sqrt().clamp_(max=1.0), (area / ratio).sqrt().clamp_(max=1.0)
    # The box in grid_sample's coordinates, from -1 to 1 between opposite edges: centre and half size.
    theta = torch.zeros(batch, 2, 3)
    theta[:, 0, 0], theta[:, 0, 2] = wide, (2 * x - 1) * (1 - wide)
    theta[:, 1, 1], theta[:, 1, 2] = tall, (2 * y - 1) * (1 - tall)
    grid = F.affine_grid(theta, [batch, 1, height, width], align_corners=False).to(pixels_BHWC.device)
    images = pixels_BHWC.permute(0, 3, 1, 2).float()
    scaled = F.grid_sample(images, grid, padding_mode="border", align_corners=False)
    return scaled.round_().clamp_(0, 255).to(pixels_BHWC.dtype).permute(0, 2, 3, 1).contiguous()


def mix(
    x_KBI: torch.Tensor, y_KB: torch.Tensor, specs: Sequence[RunSpec], steps: Sequence[int]
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Apply MixUp (Zhang et al. 2018): each example is mixed with another of its batch.

    The share of the first example is drawn from Beta(mixup, mixup), for the step of each run. Returns the mixed
    inputs [K, B, inputs], the labels, the labels of the second examples [K, B], and the shares [K, B].
    """
    mixed, seconds, shares = [], [], []
    for k, (spec, step) in enumerate(zip(specs, steps, strict=True)):
        draw = np.random.default_rng(stream(spec.seed, "mixup", step))
        batch = y_KB.shape[1]
        drawn = draw.beta(spec.mixup, spec.mixup, batch if spec.mixup_per == "example" else 1)
        share = torch.from_numpy(np.broadcast_to(drawn, batch).astype(np.float32)).to(x_KBI.device)
        partner = torch.from_numpy(draw.permutation(batch)).to(x_KBI.device)
        mixed.append(torch.lerp(x_KBI[k, partner], x_KBI[k], share[:, None]))
        seconds.append(y_KB[k, partner])
        shares.append(share)
    return torch.stack(mixed), y_KB, torch.stack(seconds), torch.stack(shares)


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
