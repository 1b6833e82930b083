"""The forward pass of a stack of `torch.nn.Module`s of one shape."""

from __future__ import annotations

import logging
import warnings
from typing import TYPE_CHECKING

import torch
from torch.func import functional_call, vmap

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from torch import nn

    Weights = Mapping[str, torch.Tensor]

log = logging.getLogger("isoflop")


class StackedModule:
    """Called with the parameters of K modules and a batch each, returns their logits [K, B, classes].

    By `vmap` if the module allows it: then one run and many use the same kernels. On a CPU a stack's numbers are
    compared with those of its runs alone, once for each size of a batch; if a bit differs, runs go one by one.
    """

    def __init__(self, module: nn.Module, name: str) -> None:
        self._module, self._name = module, name
        self._by_vmap: bool | None = None
        self._equal: dict[tuple[Any, ...], bool] = {}

    def __call__(self, weights: Weights, x_KBI: torch.Tensor) -> torch.Tensor:
        """Logits [K, B, classes] of weights by name, each [K, ...], and examples [K, B, inputs]."""
        if self._by_vmap is None:
            self._by_vmap = self._allows_vmap(weights, x_KBI)
        if not self._by_vmap:
            return self._looped(weights, x_KBI)
        return self._batched(weights, x_KBI) if self._stacks(weights, x_KBI) else self._apart(weights, x_KBI)

    def _alone(self, weights: dict[str, torch.Tensor], x_BI: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = functional_call(self._module, weights, (x_BI,))
        return logits

    def _batched(self, weights: Weights, x_KBI: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = vmap(self._alone, randomness="error")(dict(weights), x_KBI)
        return logits

    def _apart(self, weights: Weights, x_KBI: torch.Tensor) -> torch.Tensor:
        """By vmap, run by run."""
        rows = zip(*(value.tensor_split(len(x_KBI)) for value in weights.values()), strict=True)
        singles = zip(rows, x_KBI.tensor_split(len(x_KBI)), strict=True)
        return torch.cat([self._batched(dict(zip(weights, row, strict=True)), x) for row, x in singles])

    def _looped(self, weights: Weights, x_KBI: torch.Tensor) -> torch.Tensor:
        """Without vmap, run by run."""
        rows = zip(*(value.unbind() for value in weights.values()), strict=True)
        singles = zip(rows, x_KBI, strict=True)
        return torch.stack([self._alone(dict(zip(weights, row, strict=True)), x) for row, x in singles])

    def _allows_vmap(self, weights: Weights, x_KBI: torch.Tensor) -> bool:
        try:
            with torch.no_grad(), warnings.catch_warnings():
                warnings.simplefilter("error")  # an operation without a batching rule is a loop with a warning
                self._batched({name: value[:1] for name, value in weights.items()}, x_KBI[:1])
        except (RuntimeError, ValueError, UserWarning) as error:
            self._say(f"torch.func.vmap says: {str(error).splitlines()[0]}")
            return False
        return True

    def _stacks(self, weights: Weights, x_KBI: torch.Tensor) -> bool:
        """Whether a stack gives the very numbers of its runs alone; on GPUs bits may differ anyway."""
        if len(x_KBI) == 1 or x_KBI.device.type != "cpu":
            return True
        key = (*x_KBI.shape, torch.is_grad_enabled(), torch.is_autocast_enabled("cpu"))
        if key not in self._equal:
            both = [_numbers(forward, weights, x_KBI) for forward in (self._batched, self._apart)]
            self._equal[key] = all(map(torch.equal, *both))
            if not self._equal[key]:
                self._say("in a stack their last bits would differ")
        return self._equal[key]

    def _say(self, reason: str) -> None:
        log.warning("%s: the runs of a stack are computed one by one: %s", self._name, reason)


def _numbers(
    forward: Callable[[Weights, torch.Tensor], torch.Tensor], weights: Weights, x_KBI: torch.Tensor
) -> list[torch.Tensor]:
    """Logits and, in training, gradients."""
    logits = forward(weights, x_KBI)
    trained = [value for value in weights.values() if value.requires_grad and torch.is_grad_enabled()]
    if not trained:
        return [logits]
    return [logits.detach(), *torch.autograd.grad(logits.square().sum(), trained)]
