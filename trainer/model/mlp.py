"""S-MLP and B-MLP as functions of a stack of parameters. Axes: K runs, B examples, I inputs, M width, C classes.

* B-MLP `B-L/Wi-m`: `z = W_in x + b`; L times `z = z + W_c GELU(W_e LN(z))`; then `W_out`. Pre-LayerNorm, no final
  norm, no activation after the embedding (Bachmann et al. 2023, section 3).
* S-MLP, depth L, width m: `linear_in`, then L - 1 times LN, activation, linear; then `linear_out`. The paper
  says ReLU, its code uses GELU: `activation` chooses, GELU being the default.

Initialisation is PyTorch's default: linear weights and biases uniform in +-1/sqrt(fan_in), norms at 1 and 0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name

from trainer import cost
from trainer.rng import stream

if TYPE_CHECKING:
    from collections.abc import Callable

    from trainer.cost import Shape
    from trainer.spec import Activation

    Drop = Callable[[torch.Tensor, int], torch.Tensor]


@dataclass(frozen=True)
class Slot:
    """One parameter of a model: where its row of the stack holds it, and how it starts.

    `fan_in` is None for a norm's gain (ones) and 0 for a norm's bias (zeros).
    """

    name: str
    shape: tuple[int, ...]
    start: int
    fan_in: int | None


def slots(shape: Shape) -> list[Slot]:
    """Every parameter of a model in the order of its layers, laid end to end."""
    named: list[tuple[str, tuple[int, ...], int | None]] = []
    for name, (i, o) in zip(_layer_names(shape), cost.linears(shape), strict=True):
        if _has_norm(shape, name):
            norm = name.removesuffix(".expand").removesuffix(".linear") + ".norm"
            named += [(f"{norm}.gain", (i,), None), (f"{norm}.bias", (i,), 0)]
        named += [(f"{name}.weight", (i, o), i), (f"{name}.bias", (o,), i)]
    starts = [0]
    for _, dims, _ in named:
        starts.append(starts[-1] + math.prod(dims))
    return [Slot(n, dims, start, fan) for (n, dims, fan), start in zip(named, starts, strict=False)]


def _layer_names(shape: Shape) -> list[str]:
    if shape.family == "b-mlp":
        body = [f"block{b}.{part}" for b in range(shape.depth) for part in ("expand", "contract")]
    else:
        body = [f"block{b}.linear" for b in range(shape.depth - 1)]
    return ["embed", *body, "head"]


def _has_norm(shape: Shape, layer: str) -> bool:
    return layer.endswith(".expand" if shape.family == "b-mlp" else ".linear")


def initial_row(shape: Shape, seed: int, head_gain: float = 1.0) -> torch.Tensor:
    """Start values [n] of one model, a function of the seed alone; fp32, on the CPU.

    `head_gain` multiplies the weights of the head (muP).
    """
    generator = torch.Generator().manual_seed(stream(seed, "init"))
    row = torch.zeros(cost.params(shape).total)
    for slot in slots(shape):
        view = row[slot.start : slot.start + math.prod(slot.shape)]
        if slot.fan_in is None:
            view.fill_(1.0)
        elif slot.fan_in:
            bound = 1 / math.sqrt(slot.fan_in)
            view.uniform_(-bound, bound, generator=generator)
        if slot.name == "head.weight" and head_gain != 1:
            view.mul_(head_gain)
    return row


def forward(
    weights: dict[str, torch.Tensor],
    x_KBI: torch.Tensor,
    shape: Shape,
    activation: Activation,
    drop: Drop | None = None,
) -> torch.Tensor:
    """Logits [K, B, C] of K models on a batch each; weights by slot name, each [K, *slot.shape].

    `drop(hidden, b)` is applied to the activations of hidden layer b (dropout).
    """
    nonlinear = F.gelu if activation == "gelu" else F.relu

    def act(z: torch.Tensor, b: int) -> torch.Tensor:
        return nonlinear(z) if drop is None else drop(nonlinear(z), b)

    z = _linear(weights, "embed", x_KBI)
    if shape.family == "b-mlp":
        for b in range(shape.depth):
            hidden = act(_linear(weights, f"block{b}.expand", _norm(weights, f"block{b}.norm", z)), b)
            z = z + _linear(weights, f"block{b}.contract", hidden)
    else:
        for b in range(shape.depth - 1):
            z = _linear(weights, f"block{b}.linear", act(_norm(weights, f"block{b}.norm", z), b))
    return _linear(weights, "head", z)


def _linear(weights: dict[str, torch.Tensor], name: str, x: torch.Tensor) -> torch.Tensor:
    return torch.baddbmm(weights[f"{name}.bias"].unsqueeze(1), x, weights[f"{name}.weight"])


def _norm(weights: dict[str, torch.Tensor], name: str, z: torch.Tensor) -> torch.Tensor:
    gain, bias = weights[f"{name}.gain"].unsqueeze(1), weights[f"{name}.bias"].unsqueeze(1)
    return torch.addcmul(bias, F.layer_norm(z, z.shape[-1:]), gain)
