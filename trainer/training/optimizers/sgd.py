"""SGD with momentum, weight decay added to the gradient, by torch's fused kernel."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainer.optimizers import StateTensor, UpdateRule, sgd_lr_scale

if TYPE_CHECKING:
    from typing import Any

    from trainer.optimizers import Arrange, Group, State, Tensors


def update(params: Tensors, grads: Tensors, states: list[State], group: Group, arrange: Arrange) -> None:
    """Update parameters and their momentum in place."""
    import torch

    momenta = [[state["momentum_buffer"] for state in states]] if group["momentum"] else []
    pieces = arrange([params, grads, *momenta])
    torch._fused_sgd_(
        *(pieces if momenta else [*pieces, []]),
        weight_decay=group["weight_decay"],
        momentum=group["momentum"],
        lr=group["lr"],
        dampening=0.0,
        nesterov=False,
        maximize=False,
        is_first_step=False,
    )


def stacked(params: Any, grads: Any, state: State, group: Group) -> None:
    """Update the runs of a stack at once, each with its own rates."""
    direction = (params * group["weight_decay"]).add_(grads)
    if "momentum_buffer" in state:
        direction = state["momentum_buffer"].mul_(group["momentum"]).add_(direction)
    params.addcmul_(direction, group["lr"], value=-1)


SGD = UpdateRule(
    update=update,
    stacked=stacked,
    state=(StateTensor("momentum_buffer", needs="momentum"),),
    hyperparameters={"momentum": 0.9},
    decoupled_decay=False,
    lr_scale=sgd_lr_scale,
)
