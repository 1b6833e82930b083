"""First-layer weights as pictures, one per unit of the embedding (paper, figure 5)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True)
class WeightsFigure:
    """Pictures [n, H, W, C] in [0, 1] and their units [n], largest norm first."""

    pictures: NDArray[Any]
    units: NDArray[Any]
    title: str = ""


def describe_weights(
    weights: ArrayLike, image: tuple[int, int, int], *, most: int = 100, title: str = ""
) -> WeightsFigure:
    """Describe the units of largest norm of a first layer [inputs, units], whose inputs are pixels (H, W, C).

    Each picture is scaled by its own largest absolute weight; 0 is mid-grey.

    Raises ValueError if the number of inputs differs from H W C, or C is not 1 or 3.
    """
    layer = np.asarray(weights, float)
    if layer.ndim != 2 or len(layer) != math.prod(image):
        raise ValueError(
            f"weights are {list(layer.shape)}, expected [{math.prod(image)}, units] for images {image}"
        )
    if image[2] not in (1, 3):
        raise ValueError(f"images have {image[2]} channels; expected 1 or 3")
    units = np.argsort(-np.linalg.norm(layer, axis=0), kind="stable")[:most]
    chosen = layer[:, units].T
    scale = np.abs(chosen).max(axis=1, keepdims=True)
    pictures = 0.5 + 0.5 * chosen / np.where(scale > 0, scale, 1)
    return WeightsFigure(pictures.reshape(-1, *image), units, title)


def draw_weights(figure: WeightsFigure, ax: Axes) -> Axes:
    """Draw the pictures as a grid onto `ax`, row by row, and return it."""
    n, height, width, channels = figure.pictures.shape
    columns = math.ceil(math.sqrt(n))
    rows = math.ceil(n / columns)
    gap = max(1, height // 16)
    sheet = np.ones((rows * (height + gap) - gap, columns * (width + gap) - gap, channels))
    for k, picture in enumerate(figure.pictures):
        top, left = k // columns * (height + gap), k % columns * (width + gap)
        sheet[top : top + height, left : left + width] = picture
    ax.imshow(sheet if channels == 3 else sheet[..., 0], cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    ax.set_axis_off()
    if figure.title:
        ax.set_title(figure.title, loc="left", fontsize="medium")
    return ax
