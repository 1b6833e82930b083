"""Optimisers and learning-rate schedules by name. Every run of a stack is a parameter group of its own."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from trainer.spec import RunSpec


class Lion(torch.optim.Optimizer):
    """LION (Chen et al. 2023, algorithm 2): the sign of an interpolated momentum, decoupled weight decay.

    `update = sign(beta1 m + (1 - beta1) g)`; `p = p (1 - lr weight_decay) - lr update`;
    `m = beta2 m + (1 - beta2) g`. Betas (0.9, 0.99), as in the paper's recipes.
    """

    def __init__(self, params: Any, lr: float = 1e-4, weight_decay: float = 0.0) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "betas": (0.9, 0.99)})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Update every parameter from its gradient."""
        assert closure is None, "a closure is never evaluated"
        for group in self.param_groups:
            beta1, beta2 = group["betas"]
            for p in group["params"]:
                state = self.state[p]
                momentum = state.setdefault("momentum", torch.zeros_like(p))
                update = momentum.mul(beta1).add_(p.grad, alpha=1 - beta1).sign_()
                p.mul_(1 - group["lr"] * group["weight_decay"]).add_(update, alpha=-group["lr"])
                momentum.mul_(beta2).add_(p.grad, alpha=1 - beta2)


def make_optimizer(specs: Sequence[RunSpec], rows: Sequence[torch.Tensor]) -> torch.optim.Optimizer:
    """The optimiser of a stack: run k's row is group k with its own lr and weight decay.

    AdamW has betas (0.9, 0.999) and eps 1e-8, PyTorch's defaults. Weight decay acts on all parameters, biases
    and norms included, as in the paper's code.
    """
    fused = rows[0].device.type in ("cpu", "cuda")
    groups = [
        {"params": [row], "lr": spec.lr, "weight_decay": spec.weight_decay}
        for spec, row in zip(specs, rows, strict=True)
    ]
    match specs[0].optimizer:
        case "adamw":
            return torch.optim.AdamW(groups, fused=fused)
        case "sgd":
            for spec, group in zip(specs, groups, strict=True):
                group["momentum"] = spec.momentum
            return torch.optim.SGD(groups, fused=fused)
        case "lion":
            return Lion(groups)


def lr_factor(spec: RunSpec, step: int) -> float:
    """The schedule at a step (from 0), in [0, 1]; the learning rate is `spec.lr` times this.

    Every schedule begins with a linear warm-up over `warmup` of the steps. `cosine` then falls to 0 at the end
    (Loshchilov & Hutter 2017), `wsd` stays at 1 and falls linearly to 0 over the last `cooldown` of the steps
    (Hu et al. 2024; Hägele et al. 2024), `constant` stays.
    """
    assert spec.steps is not None
    warm = round(spec.warmup * spec.steps)
    if step < warm:
        return (step + 1) / (warm + 1)
    if spec.schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * (step - warm) / (spec.steps - warm)))
    if spec.schedule == "wsd":
        cool = max(1, round(spec.cooldown * spec.steps))
        return min(1.0, (spec.steps - step) / cool)
    return 1.0
