"""SGD with momentum, weight decay added to the gradient, by torch's fused kernel."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainer.optimizers import StateTensor, UpdateRule, sgd_lr_scale

if TYPE_CHECKING:
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


SGD = UpdateRule(
    update=update,
    state=(StateTensor("momentum_buffer", needs="momentum"),),
    hyperparameters={"momentum": 0.9},
    decoupled_decay=False,
    lr_scale=sgd_lr_scale,
)
