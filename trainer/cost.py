"""Parameters, FLOPs and memory of an MLP in closed form, and their inverses. Pure integers, no torch.

Three ledgers are kept apart (docs/columns.md):

* `flops` (rule `exact`): 2 a multiply-add, forward plus the backward that is really needed. A linear layer
  costs its multiply-adds once forward, once for the weight gradient, once for the input gradient; the first
  layer's input needs no gradient. LayerNorm, GELU and biases are not counted, as in torch's own counter:
  at width 64 they are under 4 % of the multiply-adds, falling as 1 / width.
* `flops_paper`: the axis of Bachmann et al. 2023, multiply-adds x 3, the multiply-adds as fvcore counts them
  (5 for every element of a LayerNorm included).
* `flops_6nd`: the usual 6 N D (Kaplan et al. 2020), N all parameters.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from trainer.optimizers import OPTIMIZERS

if TYPE_CHECKING:
    from collections.abc import Callable

    from trainer.spec import Family, RunSpec

FLOPS_RULE = "exact"


@dataclass(frozen=True)
class Shape:
    """What the cost of a model depends on. `inputs` and `classes` are the widths of its two ends.

    Of a `probe` only the head is trained.
    """

    family: Family
    depth: int
    width: int
    inputs: int
    classes: int
    expansion: int = 4
    probe: bool = False


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


def shape_of(spec: RunSpec) -> Shape:
    """The shape of a resolved spec's model; ValueError where the data set's sizes are not known yet."""
    if spec.inputs is None or spec.classes is None:
        raise ValueError("the cost of a run needs its data set: call trainer.resolve(spec) first")
    probe = spec.trains == "head"
    return Shape(spec.family, spec.depth, spec.width, spec.inputs, spec.classes, spec.expansion, probe)


def linears(shape: Shape) -> list[tuple[int, int]]:
    """(in, out) of every linear layer in order, the embedding first and the head last."""
    m, hidden = shape.width, shape.expansion * shape.width
    b_mlp = shape.family == "b-mlp"
    body = [(m, hidden), (hidden, m)] * shape.depth if b_mlp else [(m, m)] * (shape.depth - 1)
    return [(shape.inputs, m), *body, (m, shape.classes)]


def norms(shape: Shape) -> int:
    """LayerNorms in the model, each over `width` features."""
    return shape.depth if shape.family == "b-mlp" else shape.depth - 1


def params(shape: Shape) -> Params:
    """Trainable parameters by group.

    Example:
        >>> params(Shape("b-mlp", 6, 256, 64 * 64 * 3, 11_230)).total
        9188574
    """
    embed, *body, head = [i * o + o for i, o in linears(shape)]
    return Params(embed, sum(body) + norms(shape) * 2 * shape.width, head)


def macs(shape: Shape) -> int:
    """Multiply-adds of the linear layers in one forward pass of one example."""
    return sum(i * o for i, o in linears(shape))


def flops_per_example(shape: Shape) -> int:
    """Training FLOPs of one example by the rule `exact`: 2 (3 M - inputs x width).

    Of a probe, which has a forward pass and the gradient of the head's weights: 2 (M + width x classes).
    """
    if shape.probe:
        return 2 * (macs(shape) + shape.width * shape.classes)
    return 2 * (3 * macs(shape) - shape.inputs * shape.width)


def flops_paper_per_example(shape: Shape) -> int:
    """One example on the paper's axis: 3 x fvcore's multiply-adds (5 an element of a LayerNorm)."""
    return 3 * (macs(shape) + 5 * norms(shape) * shape.width)


def flops_6nd_per_example(shape: Shape) -> int:
    """6 N."""
    return 6 * params(shape).total


LEDGERS: dict[str, Callable[[Shape], int]] = {
    "flops": flops_per_example,
    "flops_paper": flops_paper_per_example,
    "flops_6nd": flops_6nd_per_example,
}


def examples_for(shape: Shape, budget: float, ledger: str = "flops") -> int:
    """The most training examples that `budget` pays for in one of the LEDGERS; the inverse of its cost."""
    return math.floor(budget) // LEDGERS[ledger](shape)


def width_for_params(shape: Shape, total: int) -> int:
    """The width at which the model, otherwise of `shape`, comes nearest to `total` parameters (at least 1)."""

    def at(width: int) -> int:
        return params(replace(shape, width=width)).total

    high = 1
    while at(high) < total:
        high *= 2
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if at(middle) < total else (low, middle)
    return high if low == 0 or at(high) - total <= total - at(low) else low


def memory_bytes(shape: Shape, batch_size: int, optimizer: str) -> int:
    """Bytes that training one model takes in fp32, the data set and the framework's context not included.

    Weights, gradients and the optimiser's state; the batch and what the backward pass keeps: the input of
    every linear layer, and for each LayerNorm and activation its own input. Peaks measured on CPU stay
    within a factor of 1.5 of it (tests/trainer/test_cost.py).
    """
    per_parameter = 8 + OPTIMIZERS.get(optimizer).bytes_per_parameter
    inside = linears(shape)[1:]
    kept = shape.inputs + sum(2 * i + o for i, o in inside) + 2 * norms(shape) * shape.width
    return per_parameter * params(shape).total + 4 * batch_size * kept


def stack_size(shape: Shape, batch_size: int, wanted: int) -> int:
    """How many runs of this shape to train as one stack, at most `wanted`.

    Small models leave a device idle between kernels. On two CPU cores stacks of 16 gain 2.7 - 4.8 x at width
    64 and batch 32 and nothing at width 256 (shared/measured.md), so a stack is filled up to 2^16 activations
    a layer, and never beyond 16: the rule where this machine has not been measured (orchestrator.host.speed).
    """
    if not stackable(shape, batch_size):
        return 1
    return max(1, min(wanted, 16, 2**16 // (batch_size * shape.width)))


def stackable(shape: Shape, batch_size: int) -> bool:
    """Whether a run's last bit does not depend on its company: on CPU only of aligned shapes.

    Vector instructions treat misaligned rows and ends of rows differently, so other widths than multiples of 16 and
    batches than multiples of 32 are trained alone.
    """
    return not (batch_size % 32 or shape.width % 16)
