"""S-MLP `S-L/Wi-m`: a plain MLP (Bachmann et al. 2023, section 3).

`linear_in`, then L - 1 times LayerNorm, activation, linear; then `linear_out`. The paper says ReLU, its code uses
GELU: `activation` chooses.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainer.cost import Layer, Shape
from trainer.model.layered import LayeredFamily, blocks_in

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch

    from trainer.model.operations import Act, Weights


def _layers(shape: Shape) -> list[Layer]:
    width = shape.width
    inner = [Layer(f"block{b}.linear", width, width, norm=f"block{b}.norm") for b in range(shape.depth - 1)]
    return [Layer("embed", shape.inputs, width), *inner, Layer("head", width, shape.classes)]


def _compute(weights: Weights, x_KBI: torch.Tensor, shape: Shape, act: Act) -> torch.Tensor:
    from trainer.model.operations import linear, norm

    z = linear(weights, "embed", x_KBI)
    for b in range(shape.depth - 1):
        z = linear(weights, f"block{b}.linear", act(norm(weights, f"block{b}.norm", z), b))
    return linear(weights, "head", z)


def _checkpoint_shape(state: Mapping[str, torch.Tensor]) -> Shape | None:
    if blocks_in(state, "blocks"):
        return None
    width, inputs = state["linear_in.weight"].shape
    return Shape("s-mlp", blocks_in(state, "layers") + 1, width, inputs, state["linear_out.weight"].shape[0])


FAMILY = LayeredFamily(
    letter="S",
    layers=_layers,
    compute=_compute,
    checkpoint_layers={"norm": "layernorms.{}", "linear": "layers.{}"},
    checkpoint_shape=_checkpoint_shape,
)
