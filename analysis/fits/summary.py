"""How results present themselves: as text, in a notebook and as JSON."""

from __future__ import annotations

import dataclasses
import html
import math
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np


class Summary:
    """Base of the dataclasses that a question is answered with; a subclass defines `summary()`.

    Attributes:
        warnings: what a reader must know, one sentence each.
        reasons: why the answer is not supported; empty when `supported`.
    """

    warnings: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()

    @property
    def supported(self) -> bool:
        """Whether the data support the answer."""
        return not self.reasons

    def summary(self) -> str:
        """The answer as a few lines of text."""
        raise NotImplementedError

    def cautions(self) -> list[str]:
        """A line for each warning that is not a reason."""
        return [f"  caution: {text}" for text in self.warnings if text not in self.reasons]

    def to_dict(self) -> dict[str, Any]:
        """The fields by name, as JSON can hold them; numbers that are not finite are None."""
        names = [field.name for field in dataclasses.fields(self)]  # type: ignore[arg-type]  # of the subclass
        if "reasons" in names:
            names.append("supported")
        return {name: as_json(getattr(self, name)) for name in names}

    def __str__(self) -> str:
        return self.summary()

    def _repr_html_(self) -> str:
        """The summary for a notebook, escaped: column names come from strangers' files."""
        return f"<pre>{html.escape(self.summary())}</pre>"


def as_json(value: Any) -> Any:
    """A value as JSON can hold it: a table is a list of its rows, a result its `to_dict()`."""
    pd = sys.modules.get("pandas")  # what is not imported has made no table
    if pd and isinstance(value, pd.DataFrame):
        return [as_json(row) for row in value.to_dict("records")]
    if hasattr(value, "to_dict"):
        return value.to_dict()
    if dataclasses.is_dataclass(value):
        return {field.name: as_json(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): as_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(item) for item in value]
    plain = value.item() if isinstance(value, np.generic) else value
    return None if (pd and value is pd.NA) or (isinstance(plain, float) and not math.isfinite(plain)) else plain
