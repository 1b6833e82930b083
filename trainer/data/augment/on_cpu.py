"""Flips and crops on a CPU, where moving whole rows of pixels is fast and moving single pixels is slow.

They give what those of `transforms.py` give: flips and crops exactly, resized crops up to rounding.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812

from trainer.data.augment.draws import PAD

if TYPE_CHECKING:
    from trainer.data.augment.transforms import Image, Planes

CHUNK = 256
"""Images that are resized at once, which bounds the memory that this takes."""


def placed(source_RI: torch.Tensor, rows_N: torch.Tensor, draws: Planes, image: Image) -> torch.Tensor:
    """Rows [N, inputs] of a source of images of any type, shifted with black at the edges and mirrored.

    Mirrored images are added behind the others. An image is moved as a whole, by an offset in its flat form; pixels
    that come from elsewhere are then set to 0.
    """
    _, width, channels = image
    count, size = len(rows_N), source_RI.shape[1]
    places, chosen = torch.arange(count), torch.empty(0, dtype=torch.int64)
    if "flip" in draws:
        chosen = draws["flip"].flatten().nonzero().flatten()
        places[chosen] = torch.arange(count, count + len(chosen))
    reach = PAD * (width + 1) * channels
    flat = source_RI.new_empty(reach + (count + len(chosen)) * size + reach)
    flat[:reach], flat[-reach:] = 0, 0
    images = flat[reach:-reach].view(-1, size)
    torch.index_select(source_RI, 0, rows_N, out=images[:count])
    mirrored = (
        images.index_select(0, chosen).view(-1, *image).permute(0, 3, 1, 2).flip(3)
    )  # fast if channels are last
    images[count:] = mirrored.permute(0, 2, 3, 1).flatten(1)
    if "top" not in draws:
        return images.index_select(0, places)
    top, left = draws["top"].flatten(), draws["left"].flatten()
    starts = places * size + (top * width + left) * channels
    inside = _inside(image, flat.dtype).index_select(0, top * (2 * PAD + 1) + left)
    return flat.unfold(0, size, 1).index_select(0, starts).mul_(inside)


@functools.lru_cache(maxsize=4)
def _inside(image: Image, dtype: torch.dtype) -> torch.Tensor:
    """Whether a value of a crop lies in the image, 0 or 1, for every (top, left) [(2 PAD + 1)^2, inputs]."""
    height, width, channels = image
    shifts = torch.arange(2 * PAD + 1)[:, None] - PAD
    rows, columns = (
        (place >= 0) & (place < side)
        for place, side in ((shifts + torch.arange(height), height), (shifts + torch.arange(width), width))
    )
    pixels = rows[:, None, :, None] & columns[None, :, None, :]
    return pixels[..., None].expand(*pixels.shape, channels).reshape(len(shifts) ** 2, -1).to(dtype)


def resized(images_NI: torch.Tensor, draws: Planes, image: Image) -> torch.Tensor:
    """Boxes of images [N, inputs] of any type, scaled to the size of the image, bilinearly, as fp32.

    A line of a result is the weighted sum of two lines of the image: first for columns, then for rows.
    """
    height, width, channels = image
    made = []
    planes = (images_NI, *(draws[name].flatten() for name in ("y", "tall", "x", "wide")))
    for images, y, tall, x, wide in zip(*(torch.split(plane, CHUNK) for plane in planes), strict=True):
        columns = _transposed(images.view(-1, height, width * channels)).float().view(-1, channels * height)
        columns = _weighted(columns, *_neighbours(x, wide, width))
        rows = _transposed(columns.view(-1, width * channels, height)).view(-1, width * channels)
        made.append(_weighted(rows, *_neighbours(y, tall, height)).view(images.shape))
    return made[0] if len(made) == 1 else torch.cat(made)


def _transposed(matrices: torch.Tensor) -> torch.Tensor:
    """Matrices with their last two axes exchanged, in memory too; numpy does this faster than torch."""
    return torch.from_numpy(np.ascontiguousarray(matrices.numpy().transpose(0, 2, 1)))


def _neighbours(start_N: torch.Tensor, length_N: torch.Tensor, side: int) -> tuple[torch.Tensor, torch.Tensor]:
    """For every line of a result, the two lines that it lies between, and their weights [N side, 2]."""
    middles = torch.arange(0.5, side)
    places = torch.addcmul((side * start_N - 0.5)[:, None], middles, length_N[:, None]).clamp_(0, side - 1)
    numbers, weights = torch.empty(*places.shape, 2, dtype=torch.int32), torch.empty(*places.shape, 2)
    first, second = numbers.unbind(2)
    first.copy_(places)
    torch.sub(places, first, out=weights[..., 1])
    torch.sub(1, weights[..., 1], out=weights[..., 0])
    first += torch.arange(0, side * len(start_N), side, dtype=torch.int32)[:, None]
    torch.add(first, weights[..., 1] > 0, out=second)  # nothing lies after the last line
    return numbers.view(-1, 2), weights.view(-1, 2)


def _weighted(lines: torch.Tensor, numbers: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Weighted sums of lines [., values], in one pass."""
    return F.embedding_bag(numbers, lines, per_sample_weights=weights, mode="sum")
