"""The table of another lab as the runs of a sweep: what findings on runs need, added to a file's rows."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from analysis import read_table, recognise
from analysis.approaches.curves import by_budget
from analysis.checks.parts import attempt
from analysis.fits.thresholds import LEAST_SIZES
from analysis.table.rows import run_states

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

    from analysis.table.foreign.roles import Recognised


MOST = 0.9
"""Share of the budgets that must have sizes enough for a minimum; those at the corners of a grid have not."""


def foreign_runs(path: str, x: Sequence[str] = (), y: str = "") -> Recognised:
    """The runs in a file or folder, as `analysis.recognise` names them, with `sweep`, `state` and `budget`.

    Runs of almost the same compute share a `budget`, where they are isoFLOP curves.

    Raises:
        ReadError: it is no table, or its columns are not clear.
        OSError: it cannot be read.
    """
    known = recognise(read_table(path), x, y)
    frame = known.frame.reset_index(drop=True)
    state = run_states(frame)
    frame = frame.assign(sweep=Path(path).stem, state="done" if state is None else state)
    return known.of(frame if "budget" in frame else _with_budgets(frame))


def _with_budgets(frame: pd.DataFrame) -> pd.DataFrame:
    """The table with the mean compute of each isoFLOP curve, where it has curves."""
    if "flops" not in frame or "params" not in frame:
        return frame
    group, _ = attempt(lambda: by_budget(frame, "flops"))
    if group is None or (frame["params"].groupby(group).nunique() >= LEAST_SIZES).mean() < MOST:
        return frame
    return frame.assign(budget=frame["flops"].groupby(group).transform("mean"))


def fingerprint(path: str) -> str:
    """The SHA-256 of a file, in hex; empty for a folder."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest() if Path(path).is_file() else ""
