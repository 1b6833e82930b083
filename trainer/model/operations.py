"""Operations of the forward passes of stacked models. Axes: K runs, B examples, M features."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name

from trainer.model.recorded import Recorder

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from trainer.families import Drop
    from trainer.spec import Activation

    Weights = Mapping[str, torch.Tensor]
    Act = Callable[[torch.Tensor, int], torch.Tensor]


def linear(weights: Weights, name: str, x_KBM: torch.Tensor) -> torch.Tensor:
    """A linear layer, by name."""
    if isinstance(weights, Recorder):
        recorded: torch.Tensor = weights.add("linear", x_KBM, name=name)
        return recorded
    return torch.baddbmm(weights[f"{name}.bias"].unsqueeze(1), x_KBM, weights[f"{name}.weight"])


def norm(weights: Weights, name: str, z_KBM: torch.Tensor) -> torch.Tensor:
    """A LayerNorm over the features, by name."""
    if isinstance(weights, Recorder):
        recorded: torch.Tensor = weights.add("norm", z_KBM, name=name)
        return recorded
    gain, bias = weights[f"{name}.gain"].unsqueeze(1), weights[f"{name}.bias"].unsqueeze(1)
    return torch.addcmul(bias, F.layer_norm(z_KBM, z_KBM.shape[-1:]), gain)


def activation(name: Activation, drop: Drop | None) -> Act:
    """The activation of hidden layer b, called as `act(z, b)`, and dropout if there is any."""
    nonlinear = F.gelu if name == "gelu" else F.relu
    if drop is None:
        return lambda z, _: nonlinear(z)
    return lambda z, b: drop(nonlinear(z), b)
