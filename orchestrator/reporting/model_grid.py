"""The models that a sweep's families can be built as, with params and FLOPs in closed form."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from trainer import cost
from trainer.spec import RunSpec, model_name

if TYPE_CHECKING:
    from collections.abc import Iterator

_WIDEST = 1 << 15
_AN_OCTAVE = 8
_SHAPE = ("family", "depth", "inputs", "classes", "expansion")


def knows_models(frame: pd.DataFrame) -> bool:
    """Whether a table says what its models are built of; that of another lab does not."""
    return set(_SHAPE) <= set(frame.columns)


def model_grid(frame: pd.DataFrame) -> pd.DataFrame:
    """Models of the families, depths and data of the runs of a table, at eight widths per octave from 4 to 32768.

    Columns `model`, `family`, `depth`, `width`, `params` and its groups, `flops_per_example` (rule `exact`).
    """
    shapes = frame[list(_SHAPE)].drop_duplicates().to_dict("records")
    return pd.DataFrame(
        [_row({str(k): v for k, v in shape.items()}, width) for shape in shapes for width in _widths()]
    )


def _widths() -> Iterator[int]:
    width = 4
    while width <= _WIDEST:
        yield width
        width += max(1, (1 << (width.bit_length() - 1)) // _AN_OCTAVE)


def _row(fields: dict[str, Any], width: int) -> dict[str, Any]:
    shape = cost.Shape(**fields, width=width)
    params, ends = cost.params(shape), ("inputs", "classes")
    named = {name: value for name, value in fields.items() if name not in ends}
    return {
        "model": model_name(RunSpec(**named, width=width, epochs=1)),
        "family": shape.family,
        "depth": shape.depth,
        "width": width,
        "params": params.total,
        "params_embed": params.embed,
        "params_body": params.body,
        "params_head": params.head,
        "flops_per_example": cost.flops_per_example(shape),
    }
