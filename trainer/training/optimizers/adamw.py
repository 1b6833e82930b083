"""AdamW (Loshchilov & Hutter 2019), eps 1e-8, by torch's fused kernel."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainer.optimizers import StateTensor, UpdateRule, adam_lr_scale

if TYPE_CHECKING:
    from trainer.optimizers import Arrange, Group, State, Tensors


def update(params: Tensors, grads: Tensors, states: list[State], group: Group, arrange: Arrange) -> None:
    """Update parameters and their state in place."""
    import torch

    steps, means, squares = ([state[name] for state in states] for name in ("step", "exp_avg", "exp_avg_sq"))
    torch._foreach_add_(steps, 1)
    *pieces, steps = arrange([params, grads, means, squares, steps])
    torch._fused_adamw_(
        *(*pieces, [], steps),
        lr=group["lr"],
        beta1=group["beta1"],
        beta2=group["beta2"],
        weight_decay=group["weight_decay"],
        eps=1e-8,
        amsgrad=False,
        maximize=False,
    )


ADAMW = UpdateRule(
    update=update,
    state=(StateTensor("step", "scalar"), StateTensor("exp_avg"), StateTensor("exp_avg_sq")),
    hyperparameters={"beta1": 0.9, "beta2": 0.999},
    lr_scale=adam_lr_scale,
)
