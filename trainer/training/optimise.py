"""The update of a stack's parameters: groups of one learning rate, their optimiser, clipping and schedules."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from trainer.optimizers import OPTIMIZERS
from trainer.training.cuda_graphs import captured
from trainer.trunk import cooldown_steps

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from trainer.families import Slot
    from trainer.optimizers import Arrange, Group, State, StateTensor, Tensors, UpdateRule
    from trainer.spec import RunSpec
    from trainer.training.cuda_graphs import Batch, Engine


PIECES = 36
"""Tensors in one launch of a fused kernel. The kernel gives every 65,536 numbers of a tensor to one multiprocessor,
which leaves most of a GPU idle with a small model; a captured step cuts small tensors into so many pieces."""
FLAT = 2**18
"""Parameters of a run up to which runs of unlike rates are updated at once on CUDA (`UpdateRule.stacked`). A fused
kernel for each run moves a third of the bytes; by calculation its launch takes an H200 as long as about so many."""


class Optimizer:
    """Parameter groups, each of one tensor with rates of its own, and their state by tensor.

    Not a torch.optim class: the first of those imports torch's compiler (a second per process), and they spend more
    Python on a small group than its update takes. Groups whose rates are the same at every step are updated
    together. If `flat`, the same group of every run is updated at once, each run with its own rates: by default on
    CUDA where there are several launches otherwise and runs are small. On a CPU one run after the other, which a
    cache holds, is faster (docs/log.md). On CUDA the learning rates are on the device, where a captured step reads
    them.
    """

    def __init__(self, groups: Sequence[dict[str, Any]], rule: UpdateRule, *, flat: bool | None = None) -> None:
        self.param_groups, self._rule = list(groups), rule
        self.state: dict[torch.Tensor, dict[str, torch.Tensor]] = {}
        self._checked = False
        (first,) = self.param_groups[0]["params"]
        alike: dict[Any, list[dict[str, Any]]] = {}
        for number, group in enumerate(self.param_groups):
            alike.setdefault(group.get("alike", number), []).append(group)
        self._together = [([p for group in some for p in group["params"]], some[0]) for some in alike.values()]
        small = first.device.type == "cuda" and len(alike) > 1 and len(first) <= FLAT
        self._flat = self._is_stackable() and (small if flat is None else flat)
        self._stretches: list[_Stretch] = []
        self._rates: torch.Tensor | None = None
        if first.device.type == "cuda" or self._flat:
            self._rates = torch.zeros(len(self.param_groups), device=first.device)
            for group, rate in zip(self.param_groups, self._rates.unbind(), strict=True):
                group["lr"] = rate

    def set_rates(self, rates: Sequence[float]) -> None:
        """Set the learning rate of every run; a group's is its `scale` times that of its run."""
        scaled = [rates[group["run"]] * group["scale"] for group in self.param_groups]
        if self._rates is not None:
            self._rates.copy_(torch.tensor(scaled), non_blocking=True)
            return
        for group, rate in zip(self.param_groups, scaled, strict=True):
            group["lr"] = rate

    @torch.no_grad()
    def step(self, arrange: Arrange = list) -> None:
        """Update every parameter from its gradient; `arrange` may cut the tensors into pieces (`in_pieces`)."""
        if self._flat:
            self._step_flat()
            return
        for params, group in self._together:
            states = [self._state_of(p, group) for p in params]
            self._rule.update(params, [p.grad for p in params], states, group, arrange)
            self._check(states, group)

    def _step_flat(self) -> None:
        """Update all runs at once. The first step moves their state, new or restored, into buffers of all runs."""
        if not self._stretches:
            runs = len({group["run"] for group in self.param_groups})
            each = len(self.param_groups) // runs
            self._stretches = [self._stretch(self.param_groups[i::each], i, each) for i in range(each)]
        assert self._rule.stacked is not None
        for stretch in self._stretches:
            self._rule.stacked(stretch.values, stretch.gradients, stretch.state, stretch.group)

    def _is_stackable(self) -> bool:
        """Whether the rule can update all runs at once, and these keep the same state."""
        kept = {tuple(tensor.name for tensor in self._rule.state_with(group)) for group in self.param_groups}
        return self._rule.stacked is not None and len(kept) == 1

    def _stretch(self, groups: Sequence[dict[str, Any]], number: int, each: int) -> _Stretch:
        """The group of this number of every run; a run has `each`."""
        params = [p for group in groups for p in group["params"]]
        states = [self._state_of(p, group) for p, group in zip(params, groups, strict=True)]
        state = {name: torch.stack([own[name] for own in states]) for name in states[0]}
        for k, p in enumerate(params):
            self.state[p] = {name: value[k] for name, value in state.items()}
        names = groups[0].keys() - {"params", "run", "scale", "alike"}
        columns = {name: torch.stack([_scalar(group[name], params[0]) for group in groups]) for name in names}
        assert self._rates is not None
        columns["lr"] = self._rates[number::each]
        return _Stretch(
            _buffer(params),
            _buffer([p.grad for p in params if p.grad is not None]),
            {name: value if value.dim() > 1 else value.unsqueeze(1) for name, value in state.items()},
            {name: value.unsqueeze(1) for name, value in columns.items()},
        )

    def _state_of(self, p: torch.Tensor, group: dict[str, Any]) -> dict[str, torch.Tensor]:
        """The state of a parameter tensor, created at its first update."""
        if p not in self.state:
            self.state[p] = {tensor.name: _new(tensor, p) for tensor in self._rule.state_with(group)}
        return self.state[p]

    def _check(self, states: Sequence[dict[str, torch.Tensor]], group: dict[str, Any]) -> None:
        """TypeError after the first update if the state is not as declared, so that checkpoints are complete."""
        if self._checked:
            return
        self._checked = True
        declared = {tensor.name for tensor in self._rule.state_with(group)}
        if undeclared := {name for state in states for name in state.keys() ^ declared}:
            names = ", ".join(sorted(undeclared))
            raise TypeError(f"an optimizer must keep the state that it declares; update differs in {names}")


class _Stretch(NamedTuple):
    """The parameters [K, n] of one learning rate in every run, their gradients, state and rates [K, 1]."""

    values: torch.Tensor
    gradients: torch.Tensor
    state: State
    group: Group


def _buffer(rows: Sequence[torch.Tensor]) -> torch.Tensor:
    """The tensor [K, n] whose rows these are: views of one memory, at equal distances."""
    first = rows[0]
    step = (rows[1].data_ptr() - first.data_ptr()) // first.itemsize if len(rows) > 1 else len(first)
    buffer = first.as_strided((len(rows), len(first)), (step, 1))
    assert all(row.data_ptr() == own.data_ptr() for row, own in zip(rows, buffer, strict=True))
    return buffer


def _scalar(value: torch.Tensor | float, like: torch.Tensor) -> torch.Tensor:
    return torch.as_tensor(value, dtype=torch.float32, device=like.device)


def _new(tensor: StateTensor, p: torch.Tensor) -> torch.Tensor:
    """The first value of a state tensor."""
    dtype = getattr(torch, tensor.dtype)
    if tensor.start == "scalar":
        return torch.zeros((), dtype=dtype, device=p.device)
    return p.detach().to(dtype, copy=True) if tensor.start == "copy" else torch.zeros_like(p, dtype=dtype)


def in_pieces(lists: list[Tensors]) -> list[Tensors]:
    """Lists of tensors of the same lengths, cut into about PIECES pieces; scalars are repeated for each piece."""
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


def make_optimizer(
    specs: Sequence[RunSpec],
    rows: Sequence[torch.Tensor],
    slots: Sequence[Slot],
    begins: Sequence[int] = (),
    *,
    flat: bool | None = None,
) -> Optimizer:
    """The optimiser of a stack: each run's row has its own groups, one for each stretch of one learning rate.

    `begins` are the steps from which the runs go on, 0 by default. A group has its `run`'s number and its `scale`,
    the learning rate in units of the run's. Weight decay acts on all parameters, biases and norms included, as in
    the paper's code. `flat`: see Optimizer.
    """
    rule, groups = OPTIMIZERS.get(specs[0].optimizer), []
    for run, (spec, row) in enumerate(zip(specs, rows, strict=True)):
        for start, end, scale, decay in _stretches(spec, rule, slots, len(row)):
            part = row[start:end]
            assert row.grad is not None
            part.grad = row.grad[start:end]
            group = {"params": [part], "run": run, "scale": scale, "weight_decay": spec.weight_decay * decay}
            group |= rule.hyperparameters_of(spec)
            own = (value for name, value in group.items() if name not in ("params", "run"))
            alike = (*_schedule(spec, begins[run] if begins else 0), *own)
            groups.append({**group, "lr": spec.lr, "alike": alike})
    return Optimizer(groups, rule, flat=flat)


def _schedule(spec: RunSpec, begin: int) -> tuple[Any, ...]:
    """What the learning rates of a run that goes on from step `begin` depend on."""
    if spec.schedule == "constant" and not spec.warmup:
        return spec.lr, spec.schedule
    return spec.lr, spec.schedule, spec.warmup, spec.cooldown, spec.steps, begin


class Update:
    """The update of a step: gradients are clipped, then the optimiser is called with the step's learning rates.

    If the gradients come from a CUDA graph, this is one too from the second step on: a stack's update is several
    kernels per run, each shorter than its launch.
    """

    def __init__(self, specs: Sequence[RunSpec], rows: Sequence[torch.Tensor], optimizer: Optimizer) -> None:
        self._specs, self._rows, self._optimizer = specs, rows, optimizer
        self._replay: Callable[[Batch], None] | None = None
        self._begun = False

    def __call__(self, steps: Sequence[int], engine: Engine) -> None:
        """Update the parameters, each run at its own step (from 0), whose gradients were computed by `engine`."""
        self._optimizer.set_rates(
            [spec.lr * lr_factor(spec, step) for spec, step in zip(self._specs, steps, strict=True)]
        )
        if engine == "graph" and self._begun and self._replay is None:
            self._replay = captured(lambda _: self._eager(in_pieces), ())
        if self._replay is None:
            self._eager()
            self._begun = True  # the state exists, and kernels are loaded
        else:
            self._replay(())

    def _eager(self, arrange: Arrange = list) -> None:
        clip(self._specs, self._rows)
        self._optimizer.step(arrange)


def clip(specs: Sequence[RunSpec], rows: Sequence[torch.Tensor]) -> None:
    """Scale the gradient of each run with `clip` to a norm of at most that, over all its parameters."""
    for spec, row in zip(specs, rows, strict=True):
        if spec.clip is not None:
            assert row.grad is not None
            row.grad.mul_((spec.clip / (torch.linalg.vector_norm(row.grad) + 1e-6)).clamp_(max=1.0))


def head_gain(spec: RunSpec) -> float:
    """The factor of the head's initial values: muP's variance is 1 / fan_in^2 instead of 1 / fan_in."""
    return math.sqrt(spec.base_width / spec.width) if spec.param == "mup" else 1.0


def _stretches(
    spec: RunSpec, rule: UpdateRule, slots: Sequence[Slot], end: int
) -> list[tuple[int, int, float, float]]:
    """(start, end, learning rate, weight decay) of the stretches of a row, the last two in units of the run's."""
    stretches: list[tuple[int, int, float, float]] = []
    for slot in slots:
        if spec.trains == "head" and slot.group != "head":
            continue
        scale = rule.lr_scale(slot.role, spec.width / spec.base_width) if spec.param == "mup" else 1.0
        own = scale * {"embed": spec.lr_embed, "head": spec.lr_head}.get(slot.group, spec.lr_body)
        decay = 1 / scale if rule.decoupled_decay else 1.0  # the product with the learning rate stays
        if stretches and stretches[-1][2:] == (own, decay):
            stretches[-1] = (stretches[-1][0], end, own, decay)
        else:
            if stretches:
                stretches[-1] = (stretches[-1][0], slot.start, *stretches[-1][2:])
            stretches.append((slot.start, end, own, decay))
    return stretches


def lr_factor(spec: RunSpec, step: int) -> float:
    """The schedule at a step (from 0), in [0, 1]; the learning rate is `spec.lr` times this.

    A run that has ended and whose row is still updated keeps the rate of its last step.
    Every schedule begins with a linear warm-up over `warmup` of the steps. `cosine` then falls to 0 at the end
    (Loshchilov & Hutter 2017), `wsd` stays at 1 and falls linearly to 0 over the last `cooldown` of the steps
    (Hu et al. 2024; Hägele et al. 2024), `linear` falls linearly to 0 from the warm-up on, `constant` stays.
    """
    assert spec.steps is not None
    warm, step = round(spec.warmup * spec.steps), min(step, spec.steps - 1)
    if step < warm:
        return (step + 1) / (warm + 1)
    if spec.schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * (step - warm) / (spec.steps - warm)))
    if spec.schedule == "linear":
        return (spec.steps - step) / (spec.steps - warm)
    if spec.schedule == "wsd":
        return min(1.0, (spec.steps - step) / cooldown_steps(spec))
    return 1.0
