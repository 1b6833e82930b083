"""Families whose models are `torch.nn.Module`s: parameters, FLOPs and stacks are derived from the module itself.

    def make(inputs: int, classes: int, depth: int, width: int) -> torch.nn.Module: ...

The module maps examples [B, inputs] to logits [B, classes]. Its first and last submodules that hold parameters are
the input layer and the head, unless parameters are named `embed.*` and `head.*`. If `make` takes `expansion` or
`activation`, it is called with those, too. Training FLOPs of one example are what
`make.flops(inputs=..., classes=..., depth=..., width=...)` says, or else counted (`trainer.model.counted`).

Random layers, buffers that change and buffers that depend on the seed are refused: a run must be a function of its
seed, and a checkpoint holds parameters only.
"""

from __future__ import annotations

import functools
import inspect
import math
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from trainer.families import MODULE_PARAMETERS, Family, Slot
from trainer.model.counted import UntrainableError, count
from trainer.model.stacked_module import StackedModule
from trainer.rng import stream
from trainer.spec import SpecError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from trainer.cost import Costs, Shape
    from trainer.families import Drop, Group

SMALL = 10**7
"""Parameters up to which FLOPs are counted on the CPU; on the meta device torch imports its compiler (seconds)."""
_ORDER: tuple[Group, ...] = ("embed", "body", "head")


class ModuleFamily(Family):
    """A family whose models a function or a class makes.

    Its methods raise SpecError if a model cannot be made or trained.
    """

    def __init__(self, make: Callable[..., Any]) -> None:
        self._make = make
        self.letter = str(getattr(make, "__name__", type(make).__name__))
        self.settings = frozenset({"expansion", "activation"} & inspect.signature(make).parameters.keys())

    def costs(self, shape: Shape) -> Costs:
        """Parameters and activations of the module, FLOPs by `make.flops` or counted."""
        rule = getattr(self._make, "flops", None)
        flops = None if rule is None or shape.probe else int(rule(**self._settings(shape)))
        try:
            slots = self.slots(shape)
            device = "cpu" if sum(math.prod(slot.shape) for slot in slots) < SMALL else "meta"
            return count(self.module(shape, 0, device), slots, shape, flops)
        except UntrainableError as error:
            raise self._refusal(str(error)) from error

    def slots(self, shape: Shape) -> list[Slot]:
        """Every parameter: those of the input layer, of the body, then of the head."""
        return _slots(self, shape)

    def initial_row(self, shape: Shape, seed: int, head_gain: float = 1.0) -> torch.Tensor:
        """Initial parameters [n]: those that the module has when torch's generator has the run's seed."""
        values = dict(self.module(shape, stream(seed, "init")).named_parameters())
        gains = {slot.name: head_gain if slot.role == "head.weight" else 1.0 for slot in self.slots(shape)}
        with torch.no_grad():
            return torch.cat([(values[name] * gain).flatten() for name, gain in gains.items()])

    def forward(
        self, weights: Mapping[str, torch.Tensor], x_KBI: torch.Tensor, shape: Shape, drop: Drop | None = None
    ) -> torch.Tensor:
        """Logits [K, B, classes] of one module with the parameters of each run."""
        assert drop is None, "RunSpec refuses dropout for these families"
        return _stacked(self, shape, x_KBI.device)(weights, x_KBI)

    def module(self, shape: Shape, seed: int, device: torch.device | str = "cpu") -> nn.Module:
        """One model."""
        with torch.random.fork_rng(devices=[]), torch.device(device):
            torch.manual_seed(seed)
            try:
                module = self._make(**self._settings(shape))
            except Exception as error:
                raise self._refusal(f"{self._settings(shape)}: {type(error).__name__}: {error}") from error
        if not isinstance(module, nn.Module):
            raise self._refusal(f"found {type(module).__name__}; it must make a torch.nn.Module")
        for name, value in module.named_parameters():
            if value.dtype != torch.float32 or not value.requires_grad:
                raise self._refusal(f"{name} is {value.dtype} or frozen; a parameter is trained and float32")
        return module

    def stacked(self, shape: Shape, device: torch.device) -> StackedModule:
        """What computes the logits of a stack."""
        module, other = self.module(shape, 0), dict(self.module(shape, 1).named_buffers())
        for name, value in module.named_buffers():
            if not torch.equal(value, other[name]):
                raise self._refusal(f"buffer {name} depends on the seed; make it a parameter, or a constant")
        return StackedModule(module.to(device), self.letter)

    def _settings(self, shape: Shape) -> dict[str, Any]:
        return {name: getattr(shape, name) for name in (*MODULE_PARAMETERS, *sorted(self.settings))}

    def _refusal(self, message: str) -> SpecError:
        return SpecError("family", f"{self.letter}: {message}")


@functools.lru_cache(maxsize=1)
def _stacked(family: ModuleFamily, shape: Shape, device: torch.device) -> StackedModule:
    return family.stacked(shape, device)


@functools.lru_cache(maxsize=1024)
def _slots(family: ModuleFamily, shape: Shape) -> list[Slot]:
    sizes = {name: tuple(value.shape) for name, value in family.module(shape, 0, "meta").named_parameters()}
    groups = _groups(list(sizes))
    slots, start = [], 0
    for name in sorted(sizes, key=lambda name: _ORDER.index(groups[name])):
        slots.append(Slot(name, sizes[name], start, group=groups[name]))
        start += math.prod(sizes[name])
    return slots


def _groups(names: list[str]) -> dict[str, Group]:
    """The part of the model that each parameter belongs to."""
    owners = {name: name.rpartition(".")[0] for name in names}
    tops = {name: name.partition(".")[0] for name in names}
    if {"embed", "head"} <= set(tops.values()):
        return {name: _as_group(top == "head", top == "embed") for name, top in tops.items()}
    first, last = owners[names[0]], owners[names[-1]]
    return {name: _as_group(owner == last, owner == first) for name, owner in owners.items()}


def _as_group(head: bool, embed: bool) -> Group:  # noqa: FBT001
    return "head" if head else "embed" if embed else "body"
