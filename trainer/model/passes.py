"""Forward and backward pass of a recorded model in memory that is allocated once, without autograd.

Axes: K runs, B examples, M features. Products read and write `dtype`, which is fp32 or bf16. With bf16 the weights
are cast once a pass; activations, their gradients and the products that become gradients of weights are bf16;
norms, the sums over a batch and the gradients of all parameters are fp32. These are the rules of autocast.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from trainer.families import Drop, Operation
    from trainer.spec import Activation

    Weights = Mapping[str, torch.Tensor]

EPSILON = 1e-5
"""Of LayerNorm, torch's default."""
WHOLE = 2**13
"""Weights of a layer up to which a CPU computes the gradients of all runs in one product, which is then copied."""


class _Buffer:
    """The gradient of one or more values; `readers` are those whose operation has not read it yet."""

    def __init__(self, tensor: torch.Tensor, reader: int) -> None:
        self.tensor, self.readers = tensor, {reader}


class _State:
    """What the operations of a pass read and write. It knows none of them, so that memory is freed at once."""

    def __init__(self, batch: torch.Tensor) -> None:
        self.values = [batch]
        self.drop: Drop | None = None
        self.masks: dict[int, torch.Tensor] = {}
        self.norms: dict[int, tuple[torch.Tensor, ...]] = {}
        self.add = False
        self._product = batch.new_empty(0)

    def product(self, like: torch.Tensor) -> torch.Tensor:
        """Memory for a product that is then stored in `like`."""
        if self._product.numel() < like.numel():
            self._product = self._product.new_empty(like.numel())
        return self._product[: like.numel()].view(like.shape)

    def store(self, gradient: torch.Tensor, found: torch.Tensor) -> None:
        """Set a gradient, or add to it."""
        gradient.add_(found) if self.add else gradient.copy_(found)

    def store_sum(self, gradient: torch.Tensor, d_KBM: torch.Tensor) -> None:
        """Store the sum over the batch, in the gradient's precision."""
        if self.add:
            gradient.add_(torch.sum(d_KBM, 1, dtype=gradient.dtype))
        else:
            torch.sum(d_KBM, 1, dtype=gradient.dtype, out=gradient)


class Passes:
    """Logits and gradients of K models of one shape on batches of one size.

    `weights` holds the parameters by slot name, each [K, *slot.shape], `gradients` tensors likewise for those that
    are trained. `gradient` [K, B, classes] is where the caller puts the gradient of the logits before `backward`.
    """

    def __init__(
        self,
        operations: Sequence[Operation],
        weights: Weights,
        gradients: Weights,
        batch: int,
        activation: Activation,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self._weights = {name: weight.detach() for name, weight in weights.items()}
        self._gradients, self._operations, self._gelu = gradients, operations, activation == "gelu"
        first = next(iter(weights.values()))
        self._size, self._like, self._dtype = (len(first), batch), first.detach(), dtype
        self._cast = {
            name: weight.to(dtype) if self._in_products(name) else weight for name, weight in self._weights.items()
        }
        self._state = _State(self._new(*self._size, 0))  # the batch comes with every forward pass
        self._values = self._state.values
        self._needs = [False]
        self._forward = [self._forward_of(number, operation) for number, operation in enumerate(operations, 1)]
        self._free: dict[int, list[torch.Tensor]] = {}
        logits = len(operations)
        self._held = {logits: _Buffer(self._new(*self._values[-1].shape), logits)}
        self.gradient = self._held[logits].tensor
        self._backward: list[Callable[[], None]] = []
        for number in range(logits, 0, -1):
            if self._needs[number] and number in self._held:
                self._plan(number, operations[number - 1])

    def forward(self, x_KBI: torch.Tensor, drop: Drop | None = None) -> torch.Tensor:
        """Logits [K, B, classes] of a batch, overwritten by the next call."""
        self._values[0], self._state.drop = x_KBI.to(self._dtype), drop
        if self._dtype != self._like.dtype:
            for name, weight in self._weights.items():
                if self._in_products(name):
                    self._cast[name].copy_(weight)
        for operation in self._forward:
            operation()
        return self._values[-1]

    def backward(self, *, add: bool = False) -> None:
        """Put the gradients of the parameters, of the last forward pass and `gradient`, in place, or add them."""
        self._state.add = add
        for operation in self._backward:
            operation()

    def _new(self, *shape: int) -> torch.Tensor:
        return self._like.new_empty(shape, dtype=self._dtype)

    def _in_products(self, name: str) -> bool:
        """Whether it is a parameter of a linear layer and not of a norm."""
        return name.endswith((".weight", ".bias")) and f"{name.rpartition('.')[0]}.gain" not in self._weights

    def _forward_of(self, number: int, operation: Operation) -> Callable[[], None]:
        """Allocate the result of an operation; return what computes it."""
        trained = any(name.rpartition(".")[0] == operation.name for name in self._gradients)
        self._needs.append(trained or any(self._needs[value] for value in operation.inputs))
        make = {"linear": self._linear, "norm": self._norm, "activation": self._activation, "add": self._sum}
        return make[operation.kind](number, operation)

    def _linear(self, _: int, operation: Operation) -> Callable[[], None]:
        (x,), values = operation.inputs, self._values
        weight, bias = (self._cast[f"{operation.name}.{kind}"] for kind in ("weight", "bias"))
        bias = bias.unsqueeze(1)
        y = self._new(*self._size, weight.shape[2])
        values.append(y)

        def compute() -> None:
            torch.baddbmm(bias, values[x], weight, out=y)

        return compute

    def _norm(self, number: int, operation: Operation) -> Callable[[], None]:
        (x,), values, norms = operation.inputs, self._values, self._state.norms
        gain, bias = (self._weights[f"{operation.name}.{kind}"].unsqueeze(1) for kind in ("gain", "bias"))
        exact = gain.dtype
        y = self._new(*self._size, gain.shape[2])
        values.append(y)

        def compute() -> None:
            z = values[x].to(exact)
            unit, mean, scale = torch.native_layer_norm(z, z.shape[-1:], None, None, EPSILON)
            norms[number] = z, unit, mean, scale
            torch.addcmul(bias, unit, gain, out=y)

        return compute

    def _activation(self, number: int, operation: Operation) -> Callable[[], None]:
        (x,), values, state, gelu = operation.inputs, self._values, self._state, self._gelu
        y = torch.empty_like(values[x])
        values.append(y)

        def compute() -> None:
            if gelu:
                torch.ops.aten.gelu.out(values[x], out=y)
            else:
                torch.clamp_min(values[x], 0, out=y)
            if state.drop is not None:
                state.masks[number] = state.drop(torch.ones_like(y), operation.layer)
                y.mul_(state.masks[number])

        return compute

    def _sum(self, number: int, operation: Operation) -> Callable[[], None]:
        (x, z), values = operation.inputs, self._values
        read_once = sum(other.inputs.count(z) for other in self._operations) == 1
        alone = read_once and z > 0 and self._operations[z - 1].kind == "linear"  # its result is not needed again
        y = values[z] if alone else torch.empty_like(values[z])
        values.append(y)
        assert number == len(values) - 1

        def compute() -> None:
            torch.add(values[x], values[z], out=y)

        return compute

    # The plan of the backward pass: which buffer holds the gradient of which value, and when it is free again.

    def _plan(self, number: int, operation: Operation) -> None:
        make = {
            "linear": self._linear_backward,
            "norm": self._norm_backward,
            "activation": self._activation_backward,
            "add": self._sum_backward,
        }
        step = make[operation.kind](number, operation)
        if step is not None:
            self._backward.append(step)
        held = self._held.pop(number)
        held.readers.discard(number)
        if not held.readers:
            self._free.setdefault(held.tensor.shape[2], []).append(held.tensor)

    def _take(self, features: int) -> torch.Tensor:
        free = self._free.get(features)
        return free.pop() if free else self._new(*self._size, features)

    def _target(self, value: int) -> tuple[torch.Tensor | None, torch.Tensor]:
        """The gradient of a value so far, if there is any, and where its sum with another contribution goes."""
        held = self._held.get(value)
        if held is None:
            self._held[value] = _Buffer(self._take(self._values[value].shape[2]), value)
            return None, self._held[value].tensor
        if held.readers == {value}:
            return held.tensor, held.tensor
        held.readers.discard(value)
        self._held[value] = _Buffer(self._take(held.tensor.shape[2]), value)
        return held.tensor, self._held[value].tensor

    def _linear_backward(self, number: int, operation: Operation) -> Callable[[], None]:
        (x,) = operation.inputs
        d = self._held[number].tensor
        of_weights = self._gradient_of_weights(operation.name, x, d)
        if not self._needs[x]:
            return of_weights
        transposed = self._cast[f"{operation.name}.weight"].transpose(1, 2)
        old, new = self._target(x)

        def compute() -> None:
            of_weights()
            if old is None:
                torch.bmm(d, transposed, out=new)
            else:
                torch.baddbmm(old, d, transposed, out=new)

        return compute

    def _gradient_of_weights(self, name: str, x: int, d: torch.Tensor) -> Callable[[], None]:
        """What computes the gradients of a linear layer from the gradient `d` of its result."""
        if f"{name}.weight" not in self._gradients:
            return lambda: None
        weight, bias = (self._gradients[f"{name}.{kind}"] for kind in ("weight", "bias"))
        plain, on_cpu = self._dtype == weight.dtype, weight.device.type == "cpu"
        by_run = on_cpu and weight[0].numel() > WHOLE
        state, batch = self._state, self._values[x].transpose(1, 2)
        rows = list(zip(batch.unbind(), d.unbind(), weight.unbind(), strict=True)) if x else []

        def compute() -> None:
            state.store_sum(bias, d)
            x_KMB = batch if x else state.values[0].transpose(1, 2)
            if state.add or not plain or (on_cpu and not by_run):
                product = state.product(weight)
                torch.bmm(x_KMB, d, out=product)
                state.store(weight, product)
            elif by_run:
                for x_MB, d_BM, into in rows or zip(x_KMB.unbind(), d.unbind(), weight.unbind(), strict=True):
                    torch.mm(x_MB, d_BM, out=into)
            else:
                torch.bmm(x_KMB, d, out=weight)

        return compute

    def _norm_backward(self, number: int, operation: Operation) -> Callable[[], None]:
        (x,), state = operation.inputs, self._state
        d = self._held[number].tensor
        gain = self._weights[f"{operation.name}.gain"].unsqueeze(1)
        trained = [self._gradients.get(f"{operation.name}.{kind}") for kind in ("gain", "bias")]
        old, new = self._target(x) if self._needs[x] else (None, None)

        def compute() -> None:
            z, unit, mean, scale = state.norms[number]
            of_gain, of_bias = trained
            if of_gain is not None and of_bias is not None:
                state.store_sum(of_bias, d)
                state.store_sum(of_gain, d * unit)
            if new is not None:
                found, *_ = torch.ops.aten.native_layer_norm_backward(
                    d * gain, z, z.shape[-1:], mean, scale, None, None, [True, False, False]
                )
                new.copy_(found) if old is None else torch.add(old, found.to(old.dtype), out=new)

        return compute

    def _activation_backward(self, number: int, operation: Operation) -> Callable[[], None]:
        (x,), values, state, gelu = operation.inputs, self._values, self._state, self._gelu
        held = self._held[number]
        d = held.tensor
        if x not in self._held and held.readers == {number}:
            held.readers.add(x)  # in place
            self._held[x] = held
            old, new = None, d
        else:
            old, new = self._target(x)

        def compute() -> None:
            own = d if state.drop is None else torch.mul(d, state.masks[number])
            out = new if old is None else torch.empty_like(d)
            if gelu:
                torch.ops.aten.gelu_backward.grad_input(own, values[x], grad_input=out)
            else:
                torch.ops.aten.threshold_backward.grad_input(own, values[x], 0, grad_input=out)
            if old is not None:
                torch.add(old, out, out=new)

        return compute

    def _sum_backward(self, number: int, operation: Operation) -> Callable[[], None] | None:
        held = self._held[number]
        steps: list[tuple[torch.Tensor, torch.Tensor]] = []
        for value in operation.inputs:
            if not self._needs[value]:
                continue
            if value not in self._held:
                held.readers.add(value)
                self._held[value] = held
            else:
                old, new = self._target(value)
                assert old is not None
                steps.append((old, new))

        def compute() -> None:
            for old, new in steps:
                torch.add(old, held.tensor, out=new)

        return compute if steps else None
