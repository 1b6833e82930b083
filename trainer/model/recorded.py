"""The operations of a family's forward pass, recorded once by calling it with placeholders. No torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trainer.families import Operation

if TYPE_CHECKING:
    from collections.abc import Callable

    from trainer.families import Kind


class Placeholder:
    """A value in a recorded forward pass. It can be added to another; anything else is an error."""

    def __init__(self, recorder: Recorder, number: int) -> None:
        self._recorder, self.number = recorder, number

    def __add__(self, other: object) -> Any:
        """Record an addition."""
        return self._recorder.add("add", self, other) if isinstance(other, Placeholder) else NotImplemented


class Recorder:
    """Stands for the parameters of a model in its forward pass, and records the operations that use them."""

    def __init__(self) -> None:
        self.operations: list[Operation] = []

    def add(self, kind: Kind, *inputs: Any, name: str = "", layer: int = 0) -> Any:
        """Record an operation on placeholders, return the placeholder of its result."""
        self.operations.append(Operation(kind, tuple(value.number for value in inputs), name, layer))
        return Placeholder(self, len(self.operations))

    def activation(self, value: Any, layer: int) -> Any:
        """Record the activation of a hidden layer, with dropout if there is any."""
        return self.add("activation", value, layer=layer)


def recorded(compute: Callable[..., Any], shape: object) -> tuple[Operation, ...] | None:
    """Return the operations of a forward pass `compute(weights, x, shape, act)` in order, the logits last.

    None if it does anything but call `linear`, `norm` and `act` and add, or uses parameters twice: its gradients
    are then left to autograd.
    """
    recorder = Recorder()
    try:
        logits = compute(recorder, Placeholder(recorder, 0), shape, recorder.activation)
    except Exception:  # noqa: BLE001 - whatever a placeholder cannot do
        return None
    complete = isinstance(logits, Placeholder) and logits.number == len(recorder.operations) > 0
    names = [operation.name for operation in recorder.operations if operation.name]
    complete = complete and len(names) == len(set(names))
    return tuple(recorder.operations) if complete else None
