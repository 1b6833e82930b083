"""Optimisers and learning-rate schedules by name. Every run of a stack is a parameter group of its own."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch

from trainer.ladder import cooldown_steps

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from trainer.model import Slot
    from trainer.spec import RunSpec


class Lion(torch.optim.Optimizer):
    """LION (Chen et al. 2023, algorithm 2): the sign of an interpolated momentum, decoupled weight decay.

    `update = sign(beta1 m + (1 - beta1) g)`; `p = p (1 - lr weight_decay) - lr update`;
    `m = beta2 m + (1 - beta2) g`. Betas (0.9, 0.99), as in the paper's recipes.
    """

    def __init__(
        self,
        params: Any,
        lr: float = 1e-4,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "betas": betas})

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


def make_optimizer(
    specs: Sequence[RunSpec], rows: Sequence[torch.Tensor], slots: Sequence[Slot]
) -> torch.optim.Optimizer:
    """The optimiser of a stack: run k's row is groups of its own, one for each stretch of one learning rate.

    A group knows its `run` and its `scale`, the learning rate in units of the run's. AdamW has eps 1e-8. Weight
    decay acts on all parameters, biases and norms included, as in the paper's code.
    """
    first, groups = specs[0], []
    for run, (spec, row) in enumerate(zip(specs, rows, strict=True)):
        for start, end, scale, decay in _stretches(spec, slots, len(row)):
            part = row[start:end]
            assert row.grad is not None
            part.grad = row.grad[start:end]
            group = {"params": [part], "run": run, "scale": scale, "weight_decay": spec.weight_decay * decay}
            groups.append({**group, "lr": spec.lr, **_own(spec)})
    fused = rows[0].device.type in ("cpu", "cuda")
    match first.optimizer:
        case "adamw":
            return torch.optim.AdamW(groups, fused=fused)
        case "sgd":
            return torch.optim.SGD(groups, fused=fused)
        case "lion":
            return Lion(groups)


def _own(spec: RunSpec) -> dict[str, Any]:
    if spec.optimizer == "sgd":
        return {"momentum": spec.momentum}
    beta2 = 0.999 if spec.optimizer == "adamw" else 0.99
    return {
        "betas": (0.9 if spec.beta1 is None else spec.beta1, beta2 if spec.beta2 is None else spec.beta2),
    }


def set_rates(optimizer: torch.optim.Optimizer, specs: Sequence[RunSpec], step: int) -> None:
    """Give every group its learning rate at a step."""
    rates = [spec.lr * lr_factor(spec, step) for spec in specs]
    for group in optimizer.param_groups:
        group["lr"] = rates[group["run"]] * group["scale"]


def clip(specs: Sequence[RunSpec], rows: Sequence[torch.Tensor]) -> None:
    """Scale the gradient of each run that asks for it to a norm of at most `spec.clip`, over all its parameters."""
    for spec, row in zip(specs, rows, strict=True):
        if spec.clip is not None:
            assert row.grad is not None
            row.grad.mul_((spec.clip / (torch.linalg.vector_norm(row.grad) + 1e-6)).clamp_(max=1.0))


def head_gain(spec: RunSpec) -> float:
    """What multiplies the head's start values: muP's variance is 1 / fan_in^2 in place of 1 / fan_in."""
    return math.sqrt(spec.base_width / spec.width) if spec.param == "mup" else 1.0


def _stretches(spec: RunSpec, slots: Sequence[Slot], end: int) -> list[tuple[int, int, float, float]]:
    """(start, end, learning rate, weight decay) of the stretches of a row, the last two in units of the run's."""
    found: list[tuple[int, int, float, float]] = []
    for slot in slots:
        if spec.trains == "head" and not slot.name.startswith("head."):
            continue
        scale = _mup_scale(spec, slot.name)
        own = scale * {"embed": spec.lr_embed, "head": spec.lr_head}.get(slot.name.split(".")[0], spec.lr_body)
        decay = 1 / scale if spec.optimizer != "sgd" else 1.0  # the product with the learning rate stays
        if found and found[-1][2:] == (own, decay):
            found[-1] = (found[-1][0], end, own, decay)
        else:
            if found:
                found[-1] = (found[-1][0], slot.start, *found[-1][2:])
            found.append((slot.start, end, own, decay))
    return found


def _mup_scale(spec: RunSpec, name: str) -> float:
    """A parameter's learning rate in units of the run's (Yang et al. 2022, Tensor Programs V, table 3).

    With AdamW and LION, matrices whose input is a width learn at base_width / width and everything else at 1;
    with SGD, the head's weights at base_width / width, matrices from width to width at 1, and vectors of a
    width and the embedding at width / base_width.
    """
    if spec.param == "standard":
        return 1.0
    wider = spec.width / spec.base_width
    layer, _, kind = name.rpartition(".")
    if kind == "weight" and layer == "head":
        return 1 / wider
    matrix = kind == "weight" and layer != "embed"
    if spec.optimizer == "sgd":
        return 1.0 if matrix or layer == "head" else wider
    return 1 / wider if matrix else 1.0


def lr_factor(spec: RunSpec, step: int) -> float:
    """The schedule at a step (from 0), in [0, 1]; the learning rate is `spec.lr` times this.

    Every schedule begins with a linear warm-up over `warmup` of the steps. `cosine` then falls to 0 at the end
    (Loshchilov & Hutter 2017), `wsd` stays at 1 and falls linearly to 0 over the last `cooldown` of the steps
    (Hu et al. 2024; Hägele et al. 2024), `linear` falls linearly to 0 from the warm-up on, `constant` stays.
    """
    assert spec.steps is not None
    warm = round(spec.warmup * spec.steps)
    if step < warm:
        return (step + 1) / (warm + 1)
    if spec.schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * (step - warm) / (spec.steps - warm)))
    if spec.schedule == "linear":
        return (spec.steps - step) / (spec.steps - warm)
    if spec.schedule == "wsd":
        return min(1.0, (spec.steps - step) / cooldown_steps(spec))
    return 1.0
