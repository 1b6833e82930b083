"""Parameters, FLOPs and memory of a model: closed forms of its layers, or counted by its family. No torch.

Three rules of FLOPs are kept apart (docs/columns.md):

* `flops` (rule `exact`): 2 a multiply-add, forward plus the backward that is really needed. A linear layer
  costs its multiply-adds once forward, once for the weight gradient, once for the input gradient; the first
  layer's input needs no gradient. LayerNorm, GELU and biases are not counted, as in torch's own counter:
  at width 64 they are under 4 % of the multiply-adds, falling as 1 / width.
* `flops_paper`: the axis of Bachmann et al. 2023, multiply-adds x 3, the multiply-adds as fvcore counts them
  (5 for every element of a LayerNorm included).
* `flops_6nd`: the usual 6 N D (Kaplan et al. 2020), N all parameters.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trainer.families import family_of
from trainer.optimizers import OPTIMIZERS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trainer.spec import Activation, RunSpec

FLOPS_RULE = "exact"


@dataclass(frozen=True)
class Shape:
    """What a model is built from. `inputs` and `classes` are the widths of its two ends.

    Of a `probe` only the head is trained.
    """

    family: str
    depth: int
    width: int
    inputs: int
    classes: int
    expansion: int = 4
    probe: bool = False
    activation: Activation = "gelu"


@dataclass(frozen=True)
class Params:
    """Trainable parameters by group, biases and LayerNorm included."""

    embed: int
    body: int
    head: int

    @property
    def total(self) -> int:
        """All of them: N."""
        return self.embed + self.body + self.head


@dataclass(frozen=True)
class Costs:
    """What one model costs, each but `params` and `layers` for one example.

    Args:
        params: its parameters.
        layers: matrix products in a forward pass.
        macs: multiply-adds of these.
        flops: FLOPs of the forward pass and the backward pass that is needed, rule `exact`.
        norm_values: elements that pass through a LayerNorm.
        values: floats that a forward pass reads in its layers and norms.
        kept: floats that the backward pass needs.
        widest: input and output of the largest layer after the first, in floats.
    """

    params: Params
    layers: int
    macs: int
    flops: int
    norm_values: int
    values: int
    kept: int
    widest: int


@dataclass(frozen=True)
class Layer:
    """A linear layer, with a LayerNorm of that name on its input if `norm` is given.

    An example passes through it `repeats` times, as through a convolution at every position.
    """

    name: str
    inputs: int
    outputs: int
    norm: str = ""
    repeats: int = 1

    @property
    def params(self) -> int:
        """Its weights and biases, and the norm's."""
        return self.inputs * self.outputs + self.outputs + (2 * self.inputs if self.norm else 0)

    @property
    def macs(self) -> int:
        """Its multiply-adds for one example."""
        return self.repeats * self.inputs * self.outputs


def shape_of(spec: RunSpec) -> Shape:
    """The shape of a resolved spec's model; ValueError where the data set's sizes are not known yet."""
    if spec.inputs is None or spec.classes is None:
        raise ValueError("the cost of a run needs its data set: call trainer.resolve(spec) first")
    probe = spec.trains == "head"
    sizes = spec.depth, spec.width, spec.inputs, spec.classes, spec.expansion
    return Shape(spec.family, *sizes, probe, spec.activation)


@functools.lru_cache(maxsize=4096)
def costs(shape: Shape) -> Costs:
    """What a model of this shape costs, as its family says."""
    return family_of(shape.family).costs(shape)


def costs_of_layers(layers: Sequence[Layer], *, probe: bool = False) -> Costs:
    """What a chain of linear layers costs, the first reading the example and the last giving the logits.

    FLOPs are 2 (3 M - M_first), M the multiply-adds. Of a probe, which has a forward pass and the gradient of the
    head's weights, they are 2 (M + M_head).
    """
    first, *inner, head = layers
    norms = [layer for layer in layers if layer.norm]
    macs = sum(layer.macs for layer in layers)
    norm_values = sum(layer.repeats * layer.inputs for layer in norms)
    inputs = sum(layer.repeats * layer.inputs for layer in layers)
    return Costs(
        params=Params(first.params, sum(layer.params for layer in inner), head.params),
        layers=len(layers),
        macs=macs,
        flops=2 * (macs + head.macs) if probe else 2 * (3 * macs - first.macs),
        norm_values=norm_values,
        values=inputs + norm_values,
        kept=first.repeats * first.inputs
        + sum(layer.repeats * (2 * layer.inputs + layer.outputs) for layer in (*inner, head))
        + 2 * norm_values,
        widest=max(layer.repeats * (layer.inputs + layer.outputs) for layer in (*inner, head)),
    )


def params(shape: Shape) -> Params:
    """Trainable parameters by group.

    Example:
        >>> params(Shape("b-mlp", 6, 256, 64 * 64 * 3, 11_230)).total
        9188574
    """
    return costs(shape).params


def macs(shape: Shape) -> int:
    """Multiply-adds of one forward pass of one example."""
    return costs(shape).macs


def flops_per_example(shape: Shape) -> int:
    """Training FLOPs of one example by the rule `exact`."""
    return costs(shape).flops


def flops_paper_per_example(shape: Shape) -> int:
    """One example on the paper's axis: 3 x fvcore's multiply-adds (5 an element of a LayerNorm)."""
    price = costs(shape)
    return 3 * (price.macs + 5 * price.norm_values)


def flops_6nd_per_example(shape: Shape) -> int:
    """6 N."""
    return 6 * params(shape).total


def memory_bytes(shape: Shape, batch_size: int, optimizer: str) -> int:
    """Bytes that training one model takes in fp32, the data set and the framework's context not included.

    Weights, gradients and the optimiser's state; the batch and what the backward pass keeps: the input of
    every linear layer, and for each LayerNorm and activation its own input. Peaks measured on CPU stay
    within a factor of 1.5 of it (tests/trainer/test_cost.py).
    """
    per_parameter = 8 + OPTIMIZERS.get(optimizer).bytes_per_parameter
    return per_parameter * params(shape).total + 4 * batch_size * costs(shape).kept


def stackable(shape: Shape, batch_size: int) -> bool:
    """Whether a run's last bit does not depend on its company: on CPU only of aligned shapes.

    Vector instructions treat misaligned rows and ends of rows differently, so other widths than multiples of 16 and
    batches than multiples of 32 are trained alone.
    """
    return not (batch_size % 32 or shape.width % 16)
