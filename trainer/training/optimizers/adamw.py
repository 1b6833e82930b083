"""AdamW (Loshchilov & Hutter 2019), eps 1e-8, by torch's fused kernel."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainer.optimizers import StateTensor, UpdateRule, adam_lr_scale

if TYPE_CHECKING:
    from typing import Any

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


def stacked(params: Any, grads: Any, state: State, group: Group) -> None:
    """Update the runs of a stack at once, each with its own rates."""
    step, mean, square = state["step"].add_(1), state["exp_avg"], state["exp_avg_sq"]
    lr, beta1, beta2 = group["lr"], group["beta1"], group["beta2"]
    mean.lerp_(grads, 1 - beta1)
    square.lerp_(grads * grads, 1 - beta2)
    root = square.sqrt().div_((1 - beta2**step).sqrt_()).add_(1e-8)
    params.mul_(1 - lr * group["weight_decay"])
    params.addcmul_(mean / root, lr / (1 - beta1**step), value=-1)


ADAMW = UpdateRule(
    update=update,
    stacked=stacked,
    state=(StateTensor("step", "scalar"), StateTensor("exp_avg"), StateTensor("exp_avg_sq")),
    hyperparameters={"beta1": 0.9, "beta2": 0.999},
    lr_scale=adam_lr_scale,
)
