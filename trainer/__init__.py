"""Train one MLP, or a stack of them, to the end of a compute budget.

    >>> import trainer
    >>> result = trainer.train(trainer.RunSpec(dataset="digits", width=32, epochs=5))

`train` imports torch when it is first used, so that planning stays fast.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trainer.data.datasets import describe, resolve
    from trainer.result import Record, RunResult
    from trainer.spec import RunSpec, SpecError, model_name, parse_model_name
    from trainer.training.inference import measure_inference
    from trainer.training.loop import train

__all__ = [
    "Record",
    "RunResult",
    "RunSpec",
    "SpecError",
    "describe",
    "measure_inference",
    "model_name",
    "parse_model_name",
    "resolve",
    "train",
]


_HOME = {
    **dict.fromkeys(("Record", "RunResult"), "result"),
    **dict.fromkeys(("RunSpec", "SpecError", "model_name", "parse_model_name"), "spec"),
    "train": "training.loop",
    "measure_inference": "training.inference",
    "describe": "data.datasets",
    "resolve": "data.datasets",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'trainer' has no attribute {name!r}")
    return getattr(importlib.import_module(f"trainer.{_HOME[name]}"), name)
