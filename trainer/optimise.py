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

    Rule = Callable[[torch.Tensor, torch.Tensor, dict[str, torch.Tensor], dict[str, Any]], None]


class Optimizer:
    """Parameter groups, each of one tensor with rates of its own, and their state by tensor.

    It calls torch's fused kernels itself: the classes of torch.optim import torch's compiler when the first is made
    (a second of every process) and spend more Python on a small group than its update takes.
    """

    def __init__(self, groups: Sequence[dict[str, Any]], rule: Rule) -> None:
        self.param_groups, self._rule = list(groups), rule
        self.state: dict[torch.Tensor, dict[str, torch.Tensor]] = {}

    @torch.no_grad()
    def step(self) -> None:
        """Update every parameter from its gradient."""
        for group in self.param_groups:
            (p,) = group["params"]
            assert p.grad is not None
            self._rule(p, p.grad, self.state.setdefault(p, {}), group)


def adamw(p: torch.Tensor, grad: torch.Tensor, state: dict[str, torch.Tensor], group: dict[str, Any]) -> None:
    """AdamW (Loshchilov & Hutter 2019), eps 1e-8."""
    if not state:
        state |= {"step": torch.zeros((), device=p.device)}
        state |= {name: torch.zeros_like(p) for name in ("exp_avg", "exp_avg_sq")}
    state["step"] += 1
    beta1, beta2 = group["betas"]
    torch._fused_adamw_(
        *([p], [grad], [state["exp_avg"]], [state["exp_avg_sq"]], [], [state["step"]]),
        lr=group["lr"],
        beta1=beta1,
        beta2=beta2,
        weight_decay=group["weight_decay"],
        eps=1e-8,
        amsgrad=False,
        maximize=False,
    )


def sgd(p: torch.Tensor, grad: torch.Tensor, state: dict[str, torch.Tensor], group: dict[str, Any]) -> None:
    """SGD with momentum, weight decay added to the gradient."""
    if not state and group["momentum"]:
        state["momentum_buffer"] = torch.zeros_like(p)
    torch._fused_sgd_(
        *([p], [grad], list(state.values())),
        weight_decay=group["weight_decay"],
        momentum=group["momentum"],
        lr=group["lr"],
        dampening=0.0,
        nesterov=False,
        maximize=False,
        is_first_step=False,
    )


def lion(p: torch.Tensor, grad: torch.Tensor, state: dict[str, torch.Tensor], group: dict[str, Any]) -> None:
    """LION (Chen et al. 2023, algorithm 2): the sign of an interpolated momentum, decoupled weight decay.

    `update = sign(beta1 m + (1 - beta1) g)`; `p = p (1 - lr weight_decay) - lr update`;
    `m = beta2 m + (1 - beta2) g`. Betas (0.9, 0.99), as in the paper's recipes.
    """
    if not state:
        state["momentum"] = torch.zeros_like(p)
    beta1, beta2 = group["betas"]
    update = state["momentum"].mul(beta1).add_(grad, alpha=1 - beta1).sign_()
    p.mul_(1 - group["lr"] * group["weight_decay"]).add_(update, alpha=-group["lr"])
    state["momentum"].mul_(beta2).add_(grad, alpha=1 - beta2)


RULES: dict[str, Rule] = {"adamw": adamw, "sgd": sgd, "lion": lion}


def make_optimizer(specs: Sequence[RunSpec], rows: Sequence[torch.Tensor], slots: Sequence[Slot]) -> Optimizer:
    """The optimiser of a stack: run k's row is groups of its own, one for each stretch of one learning rate.

    A group knows its `run` and its `scale`, the learning rate in units of the run's. Weight decay acts on all
    parameters, biases and norms included, as in the paper's code.
    """
    groups = []
    for run, (spec, row) in enumerate(zip(specs, rows, strict=True)):
        for start, end, scale, decay in _stretches(spec, slots, len(row)):
            part = row[start:end]
            assert row.grad is not None
            part.grad = row.grad[start:end]
            group = {"params": [part], "run": run, "scale": scale, "weight_decay": spec.weight_decay * decay}
            groups.append({**group, "lr": spec.lr, **_own(spec)})
    return Optimizer(groups, RULES[specs[0].optimizer])


def _own(spec: RunSpec) -> dict[str, Any]:
    if spec.optimizer == "sgd":
        return {"momentum": spec.momentum}
    beta2 = 0.999 if spec.optimizer == "adamw" else 0.99
    return {
        "betas": (0.9 if spec.beta1 is None else spec.beta1, beta2 if spec.beta2 is None else spec.beta2),
    }


def set_rates(optimizer: Optimizer, specs: Sequence[RunSpec], step: int) -> None:
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
