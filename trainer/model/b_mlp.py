"""B-MLP `B-L/Wi-m`: residual blocks with an inverted bottleneck (Bachmann et al. 2023, section 3).

`z = W_in x + b`; L times `z = z + W_c act(W_e LN(z))`; then `W_out`. Pre-LayerNorm, no final norm, no activation
after the embedding. `expansion` is the width of a block's inside in units of m.
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
    width, inside = shape.width, shape.expansion * shape.width
    blocks = [
        layer
        for b in range(shape.depth)
        for layer in (
            Layer(f"block{b}.expand", width, inside, norm=f"block{b}.norm"),
            Layer(f"block{b}.contract", inside, width),
        )
    ]
    return [Layer("embed", shape.inputs, width), *blocks, Layer("head", width, shape.classes)]


def _compute(weights: Weights, x_KBI: torch.Tensor, shape: Shape, act: Act) -> torch.Tensor:
    from trainer.model.operations import linear, norm

    z = linear(weights, "embed", x_KBI)
    for b in range(shape.depth):
        hidden = act(linear(weights, f"block{b}.expand", norm(weights, f"block{b}.norm", z)), b)
        z = z + linear(weights, f"block{b}.contract", hidden)
    return linear(weights, "head", z)


def _checkpoint_shape(state: Mapping[str, torch.Tensor]) -> Shape | None:
    depth = blocks_in(state, "blocks")
    if not depth:
        return None
    width, inputs = state["linear_in.weight"].shape
    expand = state.get("blocks.0.block.0.weight")
    expansion = 4 if expand is None else expand.shape[0] // width
    return Shape("b-mlp", depth, width, inputs, state["linear_out.weight"].shape[0], expansion)


FAMILY = LayeredFamily(
    letter="B",
    layers=_layers,
    compute=_compute,
    settings=frozenset({"expansion", "activation", "dropout"}),
    checkpoint_layers={"norm": "layernorms.{}", "expand": "blocks.{}.block.0", "contract": "blocks.{}.block.2"},
    checkpoint_shape=_checkpoint_shape,
)
