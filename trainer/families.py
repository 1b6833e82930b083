"""The registry of model families, and the contract of a family. No torch.

The built-in entries are in `trainer.model`, one a file. Besides a `Family`, an entry may be a function or a class
that makes a `torch.nn.Module` from `inputs`, `classes`, `depth` and `width` (`trainer.model.module`).
"""

from __future__ import annotations

import functools
import importlib
import inspect
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from trainer.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import torch

    from trainer.cost import Costs, Shape

    Drop = Callable[[torch.Tensor, int], torch.Tensor]

Group = Literal["embed", "body", "head"]
Kind = Literal["linear", "norm", "activation", "add"]

MODULE_PARAMETERS = ("inputs", "classes", "depth", "width")
"""What a function that makes a module is called with; also with `expansion` and `activation` if it takes them."""


@dataclass(frozen=True)
class Slot:
    """One parameter tensor of a model, and where its row of the stack holds it.

    `group` is "embed" for the first layer, "head" for the last one. `fan_in` says how a slot of a LayeredFamily
    starts: None for a norm's gain (ones), 0 for a norm's bias (zeros).
    """

    name: str
    shape: tuple[int, ...]
    start: int
    fan_in: int | None = None
    group: Group = "body"

    @property
    def role(self) -> str:
        """Its group and whether it is a matrix: "head.weight", "body.bias"; all that learning rates depend on."""
        return f"{self.group}.{'weight' if len(self.shape) > 1 else 'bias'}"


@dataclass(frozen=True)
class Operation:
    """One operation. Value 0 is the batch, value i the result of the i-th operation.

    Args:
        kind: "linear" or "norm" with the parameters of `name`, "activation" of hidden layer `layer`, "add".
        inputs: the numbers of the values that it reads.
    """

    kind: Kind
    inputs: tuple[int, ...]
    name: str = ""
    layer: int = 0


class Family(ABC):
    """A kind of model: its price, its parameters and its forward pass, for a stack of models at once.

    Attributes:
        letter: what its models are called by, as the B in B-6/Wi-256.
        settings: the fields of RunSpec besides depth and width that it uses: expansion, activation, dropout.
    """

    letter: str
    settings: frozenset[str]

    @abstractmethod
    def costs(self, shape: Shape) -> Costs:
        """Parameters, FLOPs and activations of one model."""

    @abstractmethod
    def slots(self, shape: Shape) -> Sequence[Slot]:
        """Every parameter of one model, laid end to end."""

    @abstractmethod
    def initial_row(self, shape: Shape, seed: int, head_gain: float = 1.0) -> torch.Tensor:
        """Initial parameters [n] of one model, a function of the seed alone; fp32, on the CPU.

        `head_gain` multiplies the weights of the head (muP).
        """

    @abstractmethod
    def forward(
        self, weights: Mapping[str, torch.Tensor], x_KBI: torch.Tensor, shape: Shape, drop: Drop | None = None
    ) -> torch.Tensor:
        """Logits [K, B, classes] of K models on a batch each; weights by slot name, each [K, *slot.shape].

        `drop(hidden, b)` is applied to the activations of hidden layer b (dropout).
        """

    def operations(self, shape: Shape) -> Sequence[Operation] | None:  # noqa: ARG002 - none is known
        """The operations of `forward` in order, if they are all that it does; None leaves gradients to autograd."""
        return None

    def shape_of_checkpoint(self, state: Mapping[str, torch.Tensor]) -> Shape | None:  # noqa: ARG002 - has no names
        """The shape of an official state dict; None if it is not of this family."""
        return None

    def checkpoint_name(self, slot: str) -> str:
        """The official name of a parameter; KeyError if there is none."""
        raise KeyError(slot)


def family_of(name: str) -> Family:
    """The family of this name; LookupError if there is none."""
    entry = FAMILIES.get(name)
    return entry if isinstance(entry, Family) else _family_of_modules(entry)


@functools.cache
def _family_of_modules(make: Any) -> Family:
    family: Family = importlib.import_module("trainer.model.module").ModuleFamily(make)
    return family


def _check(name: str, entry: Any) -> None:
    """TypeError if an entry is neither a Family nor able to make a module."""
    if isinstance(entry, Family):
        return
    if not callable(entry) or (inspect.isclass(entry) and issubclass(entry, Family)):
        raise TypeError(
            f"model family {name!r} must be a trainer.families.Family, or a function that makes a torch.nn.Module "
            f"from {', '.join(MODULE_PARAMETERS)}; found {entry!r}"
        )
    parameters = inspect.signature(entry).parameters
    if missing := [part for part in MODULE_PARAMETERS if part not in parameters]:
        raise TypeError(
            f"model family {name!r} lacks the parameter {missing[0]!r}: it takes {', '.join(parameters)}"
        )


FAMILIES: Registry[Any] = Registry(
    "model family",
    "isoflop.families",
    _check,
    {"b-mlp": "trainer.model.b_mlp:FAMILY", "s-mlp": "trainer.model.s_mlp:FAMILY"},
)
