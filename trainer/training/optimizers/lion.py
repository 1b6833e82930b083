"""LION (Chen et al. 2023, algorithm 2): the sign of an interpolated momentum, decoupled weight decay.

`update = sign(beta1 m + (1 - beta1) g)`; `p = p (1 - lr weight_decay) - lr update`; `m = beta2 m + (1 - beta2) g`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainer.optimizers import StateTensor, UpdateRule, adam_lr_scale

if TYPE_CHECKING:
    from typing import Any

    from trainer.optimizers import Arrange, Group, State, Tensors


def update(params: Tensors, grads: Tensors, states: list[State], group: Group, _arrange: Arrange) -> None:
    """Update parameters and their momentum in place."""
    import torch

    lr, beta1, beta2 = group["lr"], group["beta1"], group["beta2"]
    for p, grad, state in zip(params, grads, states, strict=True):
        direction = state["momentum"].mul(beta1).add_(grad, alpha=1 - beta1).sign_()
        p.mul_(1 - lr * group["weight_decay"])
        p.addcmul_(direction, lr, value=-1) if isinstance(lr, torch.Tensor) else p.add_(direction, alpha=-lr)
        state["momentum"].mul_(beta2).add_(grad, alpha=1 - beta2)


def stacked(params: Any, grads: Any, state: State, group: Group) -> None:
    """Update the runs of a stack at once, each with its own rates."""
    lr, momentum = group["lr"], state["momentum"]
    direction = momentum.mul(group["beta1"]).addcmul_(grads, 1 - group["beta1"]).sign_()
    params.mul_(1 - lr * group["weight_decay"]).addcmul_(direction, lr, value=-1)
    momentum.mul_(group["beta2"]).addcmul_(grads, 1 - group["beta2"])


LION = UpdateRule(
    update=update,
    stacked=stacked,
    state=(StateTensor("momentum"),),
    hyperparameters={"beta1": 0.9, "beta2": 0.99},  # as in the paper's recipes
    lr_scale=adam_lr_scale,
)
