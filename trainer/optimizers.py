"""The registry of optimizers: update rule, state, hyper-parameters and conventions of each. No torch.

The built-in entries are in `trainer.training.optimizers`, one a file.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

from trainer.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Tensors = list[Any]  # of torch, which is not imported here
    State = dict[str, Any]
    Group = dict[str, Any]
    Arrange = Callable[[list[Tensors]], list[Tensors]]
    Update = Callable[[Tensors, Tensors, list[State], Group, Arrange], None]
    StackedUpdate = Callable[[Any, Any, State, Group], None]

Start = Literal["zeros", "copy", "scalar"]

HYPERPARAMETERS = ("momentum", "beta1", "beta2")
"""Fields of RunSpec that an optimiser may use besides the learning rate and the weight decay."""

_BYTES = {"float64": 8, "int64": 8, "float32": 4, "bfloat16": 2, "float16": 2, "uint8": 1}


@dataclass(frozen=True)
class StateTensor:
    """A tensor that an optimiser keeps for each parameter tensor that it updates.

    Args:
        name: its key in the state, also in checkpoints.
        start: "zeros" in the parameter's shape, a "copy" of the parameter, or a "scalar" 0.
        dtype: the name of a torch dtype.
        needs: a hyper-parameter; where that is 0 the tensor is not kept.
    """

    name: str
    start: Start = "zeros"
    dtype: str = "float32"
    needs: str | None = None


@dataclass(frozen=True, kw_only=True)
class UpdateRule:
    """An optimiser: how it updates parameters, what it keeps, which hyper-parameters it has.

    Args:
        update: called as `update(params, grads, states, group, arrange)` to change `params` and `states` in place.
            All are lists with one entry a tensor; `states` holds the tensors of `state` by name. `group` has the
            keys "lr" (a float, or a tensor on CUDA), "weight_decay" and those of `hyperparameters`. `arrange` cuts
            lists of tensors into pieces for a fused kernel; other rules ignore it. Import torch inside it, so that
            planning stays fast.
        state: the tensors kept for each parameter tensor.
        hyperparameters: default of each of HYPERPARAMETERS that the rule uses.
        decoupled_decay: whether the update subtracts `lr x weight_decay x parameter`, as AdamW's does; False if
            decay is added to the gradient. Under muP the decay of a decoupled rule grows as its rate shrinks.
        lr_scale: under muP, a parameter's learning rate in units of the run's, from its role ("head.weight", see
            trainer.families.Slot) and width / base_width.
        stacked: called as `stacked(params, grads, state, group)` to update all runs of a stack at once, where one
            launch for each run would take longer than their updates. `params`, `grads` and the state are tensors
            [K, n], scalars of the state and the values of `group` tensors [K, 1]. None: runs go one by one.
    """

    update: Update
    state: tuple[StateTensor, ...]
    hyperparameters: Mapping[str, float]
    decoupled_decay: bool = True
    lr_scale: Callable[[str, float], float]
    stacked: StackedUpdate | None = None

    @property
    def bytes_per_parameter(self) -> int:
        """Bytes of the whole state for each parameter; scalars are not counted."""
        return sum(_BYTES[tensor.dtype] for tensor in self.state if tensor.start != "scalar")

    def hyperparameters_of(self, spec: object) -> dict[str, float]:
        """The hyper-parameters of a RunSpec, with defaults where it has None."""
        given = {name: getattr(spec, name) for name in self.hyperparameters}
        return {name: self.hyperparameters[name] if value is None else value for name, value in given.items()}

    def state_with(self, hyperparameters: Mapping[str, float]) -> list[StateTensor]:
        """The tensors that are kept with these hyper-parameters."""
        return [tensor for tensor in self.state if tensor.needs is None or hyperparameters[tensor.needs]]


def adam_lr_scale(role: str, wider: float) -> float:
    """The learning rate under muP of rules whose update does not depend on the gradient's scale.

    Matrices whose input is a width learn at base_width / width, everything else at 1 (Yang et al. 2022, Tensor
    Programs V, table 3).
    """
    layer, _, kind = role.rpartition(".")
    return 1 / wider if kind == "weight" and layer != "embed" else 1.0


def sgd_lr_scale(role: str, wider: float) -> float:
    """The learning rate under muP of rules whose update is proportional to the gradient.

    The head's weights learn at base_width / width, matrices from width to width and the head's biases at 1, vectors
    of a width and the embedding at width / base_width (Yang et al. 2022, Tensor Programs V, table 3).
    """
    layer, _, kind = role.rpartition(".")
    if layer == "head":
        return 1 / wider if kind == "weight" else 1.0
    return 1.0 if kind == "weight" and layer != "embed" else wider


def _check(name: str, rule: Any) -> None:
    """TypeError if an entry is no complete UpdateRule."""
    where = f"optimizer {name!r}"
    if not isinstance(rule, UpdateRule):
        raise TypeError(f"{where} must be a trainer.optimizers.UpdateRule; found {type(rule).__name__}")
    try:
        inspect.signature(rule.update).bind(*range(5))
        inspect.signature(rule.lr_scale).bind(*range(2))
        if rule.stacked is not None:
            inspect.signature(rule.stacked).bind(*range(4))
    except TypeError as error:
        raise TypeError(
            f"{where}: update takes (params, grads, states, group, arrange), stacked (params, grads, state, "
            f"group), lr_scale (role, wider): {error}"
        ) from error
    if unknown := set(rule.hyperparameters) - set(HYPERPARAMETERS):
        raise TypeError(
            f"{where}: hyperparameters must be of {', '.join(HYPERPARAMETERS)}; found {unknown.pop()!r}"
        )
    for tensor in rule.state:
        if tensor.start not in get_args(Start) or tensor.dtype not in _BYTES:
            raise TypeError(
                f"{where}: state {tensor.name!r} has start {tensor.start!r} and dtype {tensor.dtype!r}; valid: "
                f"{', '.join(get_args(Start))} and {', '.join(_BYTES)}"
            )
        if tensor.needs is not None and tensor.needs not in rule.hyperparameters:
            raise TypeError(f"{where}: state {tensor.name!r} needs {tensor.needs!r}, which is no hyperparameter")


OPTIMIZERS: Registry[UpdateRule] = Registry(
    "optimizer",
    "isoflop.optimizers",
    _check,
    {name: f"trainer.training.optimizers.{name}:{name.upper()}" for name in ("adamw", "sgd", "lion")},
)
