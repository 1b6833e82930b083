"""The models that a sweep's family could be built as: every width worth telling apart, priced in closed form."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trainer import cost
from trainer.spec import RunSpec, model_name

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pandas as pd

_WIDEST = 1 << 15
_AN_OCTAVE = 8
_SHAPE = ("family", "depth", "inputs", "classes", "expansion")


def candidates(frame: pd.DataFrame) -> pd.DataFrame:
    """Models of the families, depths and data of a table's runs, at eight widths an octave from 4 to 32768.

    Columns `model`, `family`, `depth`, `width`, `params` and its groups, `flops_per_example` (rule `exact`).
    """
    import pandas as pd

    shapes = frame[list(_SHAPE)].drop_duplicates().to_dict("records")
    return pd.DataFrame(
        [_row({str(k): v for k, v in shape.items()}, width) for shape in shapes for width in _widths()]
    )


def _widths() -> Iterator[int]:
    width = 4
    while width <= _WIDEST:
        yield width
        width += max(1, (1 << (width.bit_length() - 1)) // _AN_OCTAVE)


def _row(said: dict[str, Any], width: int) -> dict[str, Any]:
    shape = cost.Shape(**said, width=width)
    params, ends = cost.params(shape), ("inputs", "classes")
    named = {name: value for name, value in said.items() if name not in ends}
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
