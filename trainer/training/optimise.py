"""Optimisers and learning-rate schedules by name. Every run of a stack is a parameter group of its own."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch

from trainer.training.cuda_graphs import captured
from trainer.trunk import cooldown_steps

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from trainer.model.mlp import Slot
    from trainer.spec import RunSpec
    from trainer.training.cuda_graphs import Batch, Engine

    Tensors = list[torch.Tensor]
    States = Sequence[dict[str, torch.Tensor]]
    Group = dict[str, Any]
    Arrange = Callable[[list[Tensors]], list[Tensors]]
    Rule = Callable[[Tensors, Tensors, States, Group, Arrange], None]


PIECES = 36
"""Tensors that one launch of a fused kernel takes. It gives every 65,536 numbers of one to a multiprocessor, and
leaves most of a GPU idle with a small model: a captured step cuts what is small into so many."""


class Optimizer:
    """Parameter groups, each of one tensor with rates of its own, and their state by tensor.

    It calls torch's fused kernels itself: the classes of torch.optim import torch's compiler when the first is made
    (a second of every process) and spend more Python on a small group than its update takes. Groups whose rates are
    the same at every step are updated together. On CUDA the learning rates lie on the device, where a captured step
    finds them.
    """

    def __init__(self, groups: Sequence[dict[str, Any]], rule: Rule) -> None:
        self.param_groups, self._rule = list(groups), rule
        self.state: dict[torch.Tensor, dict[str, torch.Tensor]] = {}
        (first,) = self.param_groups[0]["params"]
        self._rates: torch.Tensor | None = None
        if first.device.type == "cuda":
            self._rates = torch.zeros(len(self.param_groups), device=first.device)
            for group, rate in zip(self.param_groups, self._rates.unbind(), strict=True):
                group["lr"] = rate
        alike: dict[Any, list[dict[str, Any]]] = {}
        for number, group in enumerate(self.param_groups):
            alike.setdefault(group.get("alike", number), []).append(group)
        self._together = [([p for group in some for p in group["params"]], some[0]) for some in alike.values()]

    def set_rates(self, rates: Sequence[float]) -> None:
        """Give every run its learning rate, of which a group's is its `scale`."""
        found = [rates[group["run"]] * group["scale"] for group in self.param_groups]
        if self._rates is not None:
            self._rates.copy_(torch.tensor(found), non_blocking=True)
            return
        for group, rate in zip(self.param_groups, found, strict=True):
            group["lr"] = rate

    @torch.no_grad()
    def step(self, arrange: Arrange = list) -> None:
        """Update every parameter from its gradient; `arrange` may cut what a kernel is given (`in_pieces`)."""
        for params, group in self._together:
            states = [self.state.setdefault(p, {}) for p in params]
            self._rule(params, [p.grad for p in params], states, group, arrange)


def adamw(params: Tensors, grads: Tensors, states: States, group: Group, arrange: Arrange = list) -> None:
    """AdamW (Loshchilov & Hutter 2019), eps 1e-8."""
    for p, state in zip(params, states, strict=True):
        if not state:
            state |= {"step": torch.zeros((), device=p.device)}
            state |= {name: torch.zeros_like(p) for name in ("exp_avg", "exp_avg_sq")}
    steps, means, squares = ([state[name] for state in states] for name in ("step", "exp_avg", "exp_avg_sq"))
    torch._foreach_add_(steps, 1)
    *held, steps = arrange([params, grads, means, squares, steps])
    beta1, beta2 = group["betas"]
    torch._fused_adamw_(
        *(*held, [], steps),
        lr=group["lr"],
        beta1=beta1,
        beta2=beta2,
        weight_decay=group["weight_decay"],
        eps=1e-8,
        amsgrad=False,
        maximize=False,
    )


def in_pieces(lists: list[Tensors]) -> list[Tensors]:
    """Lists of tensors of the same lengths cut into PIECES; those without a length go along with each."""
    first = lists[0]
    size = min(2**16, -(-sum(map(len, first)) // PIECES // 2048) * 2048)
    return [
        [
            tensor[start : start + size] if tensor.dim() else tensor
            for tensor, other in zip(tensors, first, strict=True)
            for start in range(0, len(other), size)
        ]
        for tensors in lists
    ]


def sgd(params: Tensors, grads: Tensors, states: States, group: Group, arrange: Arrange = list) -> None:
    """SGD with momentum, weight decay added to the gradient."""
    for p, state in zip(params, states, strict=True):
        if not state and group["momentum"]:
            state["momentum_buffer"] = torch.zeros_like(p)
    momenta = [[state["momentum_buffer"] for state in states]] if group["momentum"] else []
    held = arrange([params, grads, *momenta])
    torch._fused_sgd_(
        *(held if momenta else [*held, []]),
        weight_decay=group["weight_decay"],
        momentum=group["momentum"],
        lr=group["lr"],
        dampening=0.0,
        nesterov=False,
        maximize=False,
        is_first_step=False,
    )


def lion(params: Tensors, grads: Tensors, states: States, group: Group, _: Arrange = list) -> None:
    """LION (Chen et al. 2023, algorithm 2): the sign of an interpolated momentum, decoupled weight decay.

    `update = sign(beta1 m + (1 - beta1) g)`; `p = p (1 - lr weight_decay) - lr update`;
    `m = beta2 m + (1 - beta2) g`. Betas (0.9, 0.99), as in the paper's recipes.
    """
    lr, (beta1, beta2) = group["lr"], group["betas"]
    for p, grad, state in zip(params, grads, states, strict=True):
        if not state:
            state["momentum"] = torch.zeros_like(p)
        update = state["momentum"].mul(beta1).add_(grad, alpha=1 - beta1).sign_()
        p.mul_(1 - lr * group["weight_decay"])
        p.addcmul_(update, lr, value=-1) if isinstance(lr, torch.Tensor) else p.add_(update, alpha=-lr)
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
            group |= _own(spec)
            alike = (*_schedule(spec), *(value for name, value in group.items() if name not in ("params", "run")))
            groups.append({**group, "lr": spec.lr, "alike": alike})
    return Optimizer(groups, RULES[specs[0].optimizer])


def _schedule(spec: RunSpec) -> tuple[Any, ...]:
    """All that the learning rate of every step depends on."""
    return spec.lr, spec.schedule, spec.warmup, spec.cooldown, spec.steps


def _own(spec: RunSpec) -> dict[str, Any]:
    if spec.optimizer == "sgd":
        return {"momentum": spec.momentum}
    beta2 = 0.999 if spec.optimizer == "adamw" else 0.99
    return {
        "betas": (0.9 if spec.beta1 is None else spec.beta1, beta2 if spec.beta2 is None else spec.beta2),
    }


class Update:
    """What makes the next parameters of a step's gradients: clipping, then the optimiser at its rates.

    Where the gradients come by a CUDA graph this is one too, from the second step on: of a stack it is several
    kernels a run, each shorter than its launch.
    """

    def __init__(self, specs: Sequence[RunSpec], rows: Sequence[torch.Tensor], optimizer: Optimizer) -> None:
        self._specs, self._rows, self._optimizer = specs, rows, optimizer
        self._replay: Callable[[Batch], None] | None = None
        self._begun = False

    def __call__(self, step: int, engine: Engine) -> None:
        """Update the parameters at a step (from 0), whose gradients came by `engine`."""
        self._optimizer.set_rates([spec.lr * lr_factor(spec, step) for spec in self._specs])
        if engine == "graph" and self._begun and self._replay is None:
            self._replay = captured(lambda _: self._eager(in_pieces), ())
        if self._replay is None:
            self._eager()
            self._begun = True  # it has made the optimiser's state, and loaded its kernels
        else:
            self._replay(())

    def _eager(self, arrange: Arrange = list) -> None:
        clip(self._specs, self._rows)
        self._optimizer.step(arrange)


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
