"""The models that a sweep's families can be built as, with params and FLOPs in closed form."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from trainer import cost
from trainer.spec import RunSpec, model_name

if TYPE_CHECKING:
    from collections.abc import Iterator

_WIDEST = 1 << 15
_AN_OCTAVE = 8
_BEYOND = 4.0
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


def run_grid(frame: pd.DataFrame) -> pd.DataFrame:
    """Runs that would extend a table: models and examples of its range, extended by a factor of 4.

    Columns `model`, `params`, `examples`, `flops`, in steps of about 2^(1/2).
    """
    table = model_grid(frame)
    low, high = frame["params"].min() / _BEYOND, frame["params"].max() * _BEYOND
    table = table[(table["params"] >= low) & (table["params"] <= high)].sort_values("params")
    step = np.floor(np.log2(table["params"].to_numpy(dtype=float)) * 2)
    table = table[np.concatenate([[True], np.diff(step) > 0])][["model", "params", "flops_per_example"]]
    ends = np.log2([frame["examples"].min() / _BEYOND, frame["examples"].max() * _BEYOND])
    examples = np.round(2 ** np.arange(ends[0], ends[1] + 0.5, 0.5))
    every: pd.DataFrame = table.loc[table.index.repeat(len(examples))].assign(
        examples=np.tile(examples, len(table))
    )
    every["flops"] = every.pop("flops_per_example") * every["examples"]
    return every
