"""Families that are chains of linear layers, LayerNorms and activations, derived from the list of layers."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from trainer.cost import costs_of_layers
from trainer.families import Family, Slot
from trainer.model.recorded import recorded
from trainer.rng import stream

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import torch

    from trainer.cost import Costs, Layer, Shape
    from trainer.families import Drop, Group, Operation
    from trainer.model.operations import Act, Weights

_ENDS = {"embed": "linear_in", "head": "linear_out"}


@dataclass(frozen=True, kw_only=True, eq=False)
class LayeredFamily(Family):
    """A family given by its layers and its forward pass.

    Initial values are PyTorch's defaults: linear weights and biases uniform in +-1/sqrt(fan_in), norms at 1 and 0.

    Args:
        letter: what its models are called by, as the B in B-6/Wi-256.
        layers: the layers of a shape in order, "embed" first and "head" last.
        compute: called as `compute(weights, x_KBI, shape, act)`, returns logits [K, B, classes]. `weights` has
            "<layer>.weight" [K, in, out] and "<layer>.bias" [K, out], "<norm>.gain" and "<norm>.bias" [K, in];
            `act(z, b)` is the activation of hidden layer b. Import torch inside, so that planning stays fast.
        settings: the fields of RunSpec besides depth and width that it uses.
        checkpoint_layers: official names of "block<b>.<part>", by part, with {} for b.
        checkpoint_shape: the shape of an official state dict, None if it is another family's.
    """

    letter: str
    layers: Callable[[Shape], list[Layer]]
    compute: Callable[[Weights, torch.Tensor, Shape, Act], torch.Tensor]
    settings: frozenset[str] = frozenset({"activation", "dropout"})
    checkpoint_layers: Mapping[str, str] = field(default_factory=dict)
    checkpoint_shape: Callable[[Mapping[str, torch.Tensor]], Shape | None] = lambda _: None

    def costs(self, shape: Shape) -> Costs:
        """Parameters, FLOPs and activations in closed form."""
        return costs_of_layers(self.layers(shape), probe=shape.probe)

    def slots(self, shape: Shape) -> list[Slot]:
        """Every parameter in the order of the layers, a norm before the layer that reads it."""
        slots: list[Slot] = []
        end = 0

        def add(name: str, dims: tuple[int, ...], fan_in: int | None, group: Group) -> None:
            nonlocal end
            slots.append(Slot(name, dims, end, fan_in, group))
            end += math.prod(dims)

        for layer in self.layers(shape):
            group: Group = "embed" if layer.name == "embed" else "head" if layer.name == "head" else "body"
            if layer.norm:
                add(f"{layer.norm}.gain", (layer.inputs,), None, "body")
                add(f"{layer.norm}.bias", (layer.inputs,), 0, "body")
            add(f"{layer.name}.weight", (layer.inputs, layer.outputs), layer.inputs, group)
            add(f"{layer.name}.bias", (layer.outputs,), layer.inputs, group)
        return slots

    def initial_row(self, shape: Shape, seed: int, head_gain: float = 1.0) -> torch.Tensor:
        """Initial parameters [n], drawn in the order of the slots."""
        import torch

        generator = torch.Generator().manual_seed(stream(seed, "init"))
        row = torch.zeros(self.costs(shape).params.total)
        for slot in self.slots(shape):
            view = row[slot.start : slot.start + math.prod(slot.shape)]
            if slot.fan_in is None:
                view.fill_(1.0)
            elif slot.fan_in:
                bound = 1 / math.sqrt(slot.fan_in)
                view.uniform_(-bound, bound, generator=generator)
            if slot.role == "head.weight" and head_gain != 1:
                view.mul_(head_gain)
        return row

    def forward(
        self, weights: Weights, x_KBI: torch.Tensor, shape: Shape, drop: Drop | None = None
    ) -> torch.Tensor:
        """Logits [K, B, classes] by `compute`."""
        from trainer.model.operations import activation

        return self.compute(weights, x_KBI, shape, activation(shape.activation, drop))

    def operations(self, shape: Shape) -> tuple[Operation, ...] | None:
        """What `compute` calls; None if it does more than `linear`, `norm`, `act` and additions."""
        return recorded(self.compute, shape)

    def shape_of_checkpoint(self, state: Mapping[str, torch.Tensor]) -> Shape | None:
        """The shape of an official state dict; None if it is not of this family."""
        return self.checkpoint_shape(state)

    def checkpoint_name(self, slot: str) -> str:
        """The official name of a parameter.

        Example:
            >>> from trainer.families import family_of
            >>> family_of("b-mlp").checkpoint_name("block3.expand.weight")
            'blocks.3.block.0.weight'
        """
        layer, _, kind = slot.rpartition(".")
        kind = "weight" if kind == "gain" else kind
        if layer in _ENDS:
            return f"{_ENDS[layer]}.{kind}"
        block, part = layer.removeprefix("block").split(".")
        return f"{self.checkpoint_layers[part].format(block)}.{kind}"


def blocks_in(state: Mapping[str, torch.Tensor], name: str) -> int:
    """How many blocks `<name>.<b>.` a state dict has, by the highest b."""
    numbers = (re.match(rf"{name}\.(\d+)\.", key) for key in state)
    return max((int(number[1]) + 1 for number in numbers if number), default=0)
