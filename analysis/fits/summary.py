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
        return {shown(key): as_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset | np.ndarray):
        items = [as_json(item) for item in (value.tolist() if isinstance(value, np.ndarray) else value)]
        return sorted(items, key=str) if isinstance(value, set | frozenset) else items
    return _scalar(value.item() if isinstance(value, np.generic) else value)


def _scalar(value: Any) -> Any:
    """A number, truth value or text as JSON can hold it; None for one that is not finite or missing."""
    pd = sys.modules.get("pandas")
    if (pd and (value is pd.NA or value is pd.NaT)) or (isinstance(value, float) and not math.isfinite(value)):
        return None
    return value if value is None or isinstance(value, bool | int | float | str) else shown(value)


def shown(value: Any) -> str:
    """A value in a sentence, without its type: the parts of a list by commas, a date as in ISO 8601."""
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, tuple | list | set | frozenset):
        parts = sorted(value, key=str) if isinstance(value, set | frozenset) else value
        return ", ".join(map(shown, parts))
    return str(value.isoformat()) if hasattr(value, "isoformat") else str(value)
