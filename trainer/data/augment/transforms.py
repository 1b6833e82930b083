"""Flips, crops and MixUp of whole batches, by draws that are tensors.

On a GPU they are a few operations on all images of all runs, which neither wait for the host nor have shapes that
depend on values, so that a CUDA graph can hold them. On a CPU `on_cpu.py` has faster ones.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from trainer.data.augment import on_cpu
from trainer.data.augment.draws import PAD, REAL

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Image = tuple[int, int, int]
    Planes = Mapping[str, torch.Tensor]


def planes(names: Sequence[str], drawn: Sequence[torch.Tensor]) -> dict[str, torch.Tensor]:
    """Drawn planes by name, those of REAL as fp32 numbers; more than there are names are left out."""
    named = zip(names, drawn, strict=False)
    return {name: plane.view(torch.float32) if name in REAL else plane for name, plane in named}


def augmented(
    source_RI: torch.Tensor, rows_N: torch.Tensor, draws: Planes, image: Image, kind: torch.dtype
) -> torch.Tensor:
    """Rows [N, ...] of a source of images, cut as the placement planes say (`draws.placement_planes`).

    Resized crops are of type `kind`, others of the source's; what lies outside of an image is 0.
    """
    on_a_cpu = source_RI.device.type == "cpu"
    if "wide" in draws:
        images = source_RI.index_select(0, rows_N)
        return on_cpu.resized(images, draws, image) if on_a_cpu else resized(images, draws, image, kind)
    return (on_cpu.placed if on_a_cpu else placed)(source_RI, rows_N, draws, image)


def placed(
    source_RI: torch.Tensor, rows_N: torch.Tensor, draws: Planes, image: Image, black_C: torch.Tensor | None = None
) -> torch.Tensor:
    """Rows [N, inputs] of a source of images, mirrored, then cut with black at the edges: one gather of pixels."""
    height, width, channels = image
    pixels = source_RI.view(-1, channels)
    down, across = (torch.arange(side, device=rows_N.device).expand(len(rows_N), -1) for side in (height, width))
    if "top" in draws:
        down = down + (draws["top"].view(-1, 1) - PAD)
        across = across + (draws["left"].view(-1, 1) - PAD)
    if "flip" in draws:
        across = torch.where(draws["flip"].view(-1, 1) > 0, width - 1 - across, across)
    number = torch.int32 if len(pixels) < 2**31 else torch.int64
    lines = rows_N.to(number).unsqueeze(1) * height + down.clamp(0, height - 1).to(number)
    places = (lines * width).unsqueeze(2) + across.clamp(0, width - 1).to(number).unsqueeze(1)
    found = pixels.index_select(0, places.flatten()).view(*places.shape, channels)
    if "top" in draws:
        outside = ((down < 0) | (down >= height)).unsqueeze(2) | ((across < 0) | (across >= width)).unsqueeze(1)
        black = source_RI.new_zeros(channels) if black_C is None else black_C
        found = torch.where(outside.unsqueeze(3), black, found)
    return found.flatten(1)


def resized(images_NI: torch.Tensor, draws: Planes, image: Image, kind: torch.dtype) -> torch.Tensor:
    """Boxes of images [N, inputs], scaled to the size of the image, [N, height, width, channels] of this type.

    Bilinear without antialiasing, as in FFCV: a product with weights of rows, and one with weights of columns.
    """
    height, width, channels = image
    count = len(images_NI)
    rows = _weights(draws["y"].flatten(), draws["tall"].flatten(), height, kind)
    columns = _weights(draws["x"].flatten(), draws["wide"].flatten(), width, kind)
    made = rows @ images_NI.view(count, height, width * channels).to(kind)
    made = made.view(count, height, width, channels).transpose(1, 2).reshape(count, width, height * channels)
    return (columns @ made).view(count, width, height, channels).transpose(1, 2)


def _weights(start_N: torch.Tensor, length_N: torch.Tensor, side: int, kind: torch.dtype) -> torch.Tensor:
    """Weights [N, side, side] of the lines of an image for every line of a result."""
    lines = torch.arange(side, device=start_N.device)
    places = (lines + 0.5) * length_N[:, None] + (side * start_N - 0.5)[:, None]
    places = places.clamp_(0, side - 1).unsqueeze(2)
    # The difference is exact before it is rounded, so that neighbours' weights are precise in half precision too.
    away = torch.sub(places, lines, out=places.new_empty(len(start_N), side, side, dtype=kind))
    return (1 - away.abs_()).relu_()


def mix(
    x_KBI: torch.Tensor, y_KB: torch.Tensor, draws: Planes
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Apply MixUp (Zhang et al. 2018): each example is mixed with another of its batch, by the mixing planes.

    Returns the mixed inputs [K, B, inputs], the labels, the labels of the second examples [K, B], and the shares of
    the first examples [K, B].
    """
    runs, batch = y_KB.shape
    partner = (draws["partner"] + batch * torch.arange(runs, device=y_KB.device).unsqueeze(1)).flatten()
    share = draws["share"].to(x_KBI.dtype)  # rounded, so that inputs and labels are mixed alike
    second = x_KBI.view(runs * batch, -1).index_select(0, partner).view_as(x_KBI)
    second_labels = y_KB.flatten().index_select(0, partner).view_as(y_KB)
    return torch.lerp(second, x_KBI, share.unsqueeze(-1)), y_KB, second_labels, share.float()
