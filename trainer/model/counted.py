"""What a `torch.nn.Module` costs, counted in a forward and a backward pass."""

from __future__ import annotations

import math
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from trainer.cost import Costs, Params

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import nn

    from trainer.cost import Shape
    from trainer.families import Slot


EXAMPLES = 2
"""Examples of the pass: one is too few for some modules."""


class UntrainableError(ValueError):
    """A module whose runs could not be a function of their seed, or that does not classify."""


def count(module: nn.Module, slots: Sequence[Slot], shape: Shape, flops: int | None) -> Costs:
    """The costs of a module; `flops` replaces the counted training FLOPs of an example.

    Raises UntrainableError if a pass fails, draws random numbers or changes a buffer.
    """
    heads = {slot.name for slot in slots if slot.group == "head"}
    for name, value in module.named_parameters():
        value.requires_grad_(not shape.probe or name in heads)
    before = [buffer._version for buffer in module.buffers()]  # noqa: SLF001 - torch has no other name for it
    forward, backward = _Watch(module), _Watch(module)
    try:
        with forward, forward.saved_tensors():
            logits = module(torch.zeros(EXAMPLES, shape.inputs, device=next(module.parameters()).device))
        with backward:
            logits.sum().backward()
    except Exception as error:
        raise UntrainableError(f"a pass raised {type(error).__name__}: {error}") from error
    if logits.shape != (EXAMPLES, shape.classes):
        wanted = [EXAMPLES, shape.classes]
        raise UntrainableError(f"logits of {EXAMPLES} examples are {list(logits.shape)}; they must be {wanted}")
    if forward.random:
        raise UntrainableError(
            f"{forward.random} draws random numbers; a LayeredFamily has dropout by the run's seed"
        )
    if before != [buffer._version for buffer in module.buffers()]:  # noqa: SLF001
        raise UntrainableError("a buffer changes in the forward pass, as in BatchNorm; no checkpoint would hold it")
    sizes = {"embed": 0, "body": 0, "head": 0}
    for slot in slots:
        sizes[slot.group] += math.prod(slot.shape)
    return Costs(
        params=Params(**sizes),
        layers=forward.layers,
        macs=forward.flops // 2 // EXAMPLES,
        flops=(forward.flops + backward.flops) // EXAMPLES if flops is None else flops,
        norm_values=0,
        values=forward.values // EXAMPLES,
        kept=forward.kept // EXAMPLES,
        widest=forward.widest // EXAMPLES,
    )


class _Watch(TorchDispatchMode):
    """Counts the products and activations of a pass, and names what draws random numbers.

    FLOPs are those of `torch.utils.flop_counter.FlopCounterMode`, which imports torch's compiler (seconds).
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.flops = self.layers = self.values = self.kept = self.widest = 0
        self.random = ""
        self._weights = {_storage(value) for value in module.parameters()}

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        if torch.Tag.nondeterministic_seeded in func.tags:
            self.random = str(func)
        written = 0 if func.is_view else sum(tensor.numel() for tensor in _tensors(output))
        self.values += written
        if func.overloadpacket in flop_registry:
            read = [tensor.numel() for tensor in _tensors(args) if _storage(tensor) not in self._weights]
            if self.layers:
                self.widest = max(self.widest, written + max(read))
            self.flops += flop_registry[func.overloadpacket](*args, **(kwargs or {}), out_val=output)
            self.layers += 1
        return output

    @contextmanager
    def saved_tensors(self) -> Iterator[None]:
        """Count what autograd keeps for the backward pass, parameters aside."""
        sizes: dict[int, int] = {}

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            if _storage(tensor) not in self._weights:
                sizes[_storage(tensor)] = tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            yield
        self.kept = sum(sizes.values())


def _tensors(values: Any) -> list[torch.Tensor]:
    several = values if isinstance(values, tuple | list) else (values,)
    return [value for value in several if isinstance(value, torch.Tensor)]


def _storage(tensor: torch.Tensor) -> int:
    """Tells tensors that share memory; on the meta device they have no address."""
    return int(tensor.untyped_storage()._cdata)  # noqa: SLF001
