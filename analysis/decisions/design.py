"""What a design can show before it runs: expected intervals, refusals, the cheapest addition that would answer."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from analysis.decisions import expected
from analysis.decisions.additions import Addition, cheapest, space_of
from analysis.decisions.assumption import Assumption, assume
from analysis.decisions.expected import Cells, Expected
from analysis.fits import thresholds
from analysis.fits.summary import Summary
from analysis.numbers import short

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd

    from analysis.decisions.additions import Space

Array = NDArray[np.float64]

LEAST_STEPS, LEAST_EPOCHS = 100, 0.1
"""Steps and epochs below which a cell is hardly trained."""


@dataclass(frozen=True, eq=False)
class Design(Summary):
    """What a design can show.

    Attributes:
        assumed: the law and the noise that it is judged by.
        laws: the expected exponents of error against params, examples, FLOPs.
        surface: alpha, beta and the params exponent of a surface; empty where params or examples do not vary.
        optimum: the exponent of the best params in FLOPs from isoFLOP minima; None where budgets are not shared.
        addition: the cheapest addition after which the params exponent (of one law, its exponent) would answer
            (`Expected.answers`); None if it does without, or no small addition is enough.
        level: of the intervals.
        warnings: what to change, one line each.
        reasons: the refusals of the params exponent of the surface and of the optimum, or of the one law.
    """

    assumed: Assumption
    laws: tuple[Expected, ...]
    surface: tuple[Expected, ...]
    optimum: Expected | None
    addition: Addition | None
    level: float
    warnings: tuple[str, ...]
    reasons: tuple[str, ...]

    @property
    def asks(self) -> bool:
        """Whether the design varies params or examples, so that there is an exponent to expect."""
        return bool(self.laws)

    def summary(self) -> str:
        """A line for each exponent, then warnings and the addition, at most 80 columns; empty if none is asked."""
        if not self.asks:
            return ""
        if all(np.isnan(e.half) for e in (*self.laws, *self.surface)):
            text = f"this design has no law to show: {self.reasons[0]}"
            more = [] if self.addition is None else [f"cheapest addition that would answer: {self.addition}"]
            return "\n".join([text, *(textwrap.fill(line, 80, **_INDENT) for line in more)])
        lines = [f"assumed: {self.assumed}", *(f"error against {e.quantity}: {_words(e)}" for e in self.laws)]
        lines += _surface_lines(self.surface)
        if self.optimum is not None:
            lines.append(f"best params against FLOPs (isoFLOP minima): {_words(self.optimum)}")
        lines += [f"warning: {text}" for text in self.warnings]
        if self.addition is not None:
            lines.append(f"cheapest addition that would answer: {self.addition}")
        head = f"what this design can show ({100 * self.level:g} % intervals to expect)"
        return "\n".join([head, *(textwrap.fill(line, 80, **_INDENT) for line in lines)])


_INDENT: dict[str, Any] = {"initial_indent": "  ", "subsequent_indent": "    ", "break_on_hyphens": False}


def _words(e: Expected) -> str:
    return str(e) if e.refused else f"exponent {e}"


def _surface_lines(surface: tuple[Expected, ...]) -> list[str]:
    if not surface:
        return []
    if len({e.refused for e in surface}) == 1 and surface[0].refused:
        return [f"surface of params and examples: {surface[0].refused}"]
    known = surface if not surface[2].refused else surface[:2]
    return [f"surface of params and examples: {', '.join(f'{e.quantity} {e}' for e in known)}"]


def expect(
    frame: pd.DataFrame | Mapping[str, Any],
    n: str = "params",
    d: str = "examples",
    *,
    flops: str = "flops",
    budget: str = "budget",
    earlier: pd.DataFrame | Mapping[str, Any] | None = None,
    y: str = "error",
    level: float = 0.95,
) -> Design:
    """What a planned table can show: the interval to expect of every exponent, and what a fit would refuse.

    Args:
        frame: one row per planned run; rows that agree in all columns used here are repeats. With columns `steps`
            and `epochs`, runs that hardly train are named.
        n: column of sizes.
        d: column of examples; if absent, flops / (6 n).
        flops: column of compute; if absent, 6 n d.
        budget: column of the shared budgets of isoFLOP curves; if absent, none are shared.
        earlier: runs made before, with columns `n`, `d`, `y`, and `cell_id` where there are repeats. They tell the
            noise and, if they determine it, the law; otherwise both are defaults (`analysis.decisions.assumption`).
        y: column that was measured.
        level: nominal coverage.

    Raises:
        ValueError: a column is missing or not positive.
    """
    cells = cells_of(frame, (n, d, flops, budget))
    runs = None if earlier is None else earlier_runs(earlier, (n, d, y))
    warnings: list[str] = []
    if "steps" in frame and "epochs" in frame:
        labels = [f"{n} {short(float(size))}" for size in frame[n]]
        steps, epochs = (np.asarray(frame[name], dtype=float) for name in ("steps", "epochs"))
        warnings = undertrained(labels, steps, epochs, "runs")
    assumed = assume(cells.n, cells.d, runs)
    return judge(cells, assumed, space=space_of(cells), warnings=tuple(warnings), level=level)


def cells_of(frame: pd.DataFrame | Mapping[str, Any], names: tuple[str, str, str, str]) -> Cells:
    """The cells of a table of planned runs; `names` are the columns n, d, flops, budget."""
    n, d, flops, budget = names
    if n not in frame or (d not in frame and flops not in frame):
        raise ValueError(f"columns {n!r} and {d!r} (or {flops!r}) are needed; found {', '.join(map(str, frame))}")
    size = np.asarray(frame[n], dtype=float)
    seen = np.asarray(frame[d] if d in frame else np.asarray(frame[flops], dtype=float) / (6 * size), dtype=float)
    paid = np.asarray(frame[flops] if flops in frame else 6 * size * seen, dtype=float)
    shared = np.asarray(frame[budget], dtype=float) if budget in frame else np.full(size.size, np.nan)
    if not (size.size and np.all(size > 0) and np.all(seen > 0) and np.all(paid > 0)):
        raise ValueError(f"{n!r}, {d!r} and {flops!r} must be positive, in at least one row")
    table = np.stack([size, seen, paid, np.nan_to_num(shared, nan=-1.0)])
    _, first, runs = np.unique(table, axis=1, return_index=True, return_counts=True)
    return Cells(size[first], seen[first], paid[first], runs, shared[first])


def earlier_runs(frame: pd.DataFrame | Mapping[str, Any], names: tuple[str, str, str]) -> dict[str, Array]:
    """Earlier runs as `assume` takes them: those that are done, each once."""
    from analysis.table.rows import measured  # imports pandas, which a plan does without

    table = measured(frame, names).table
    n, d, y = (table[name].to_numpy(dtype=float) for name in names)
    cell = table["cell_id"] if "cell_id" in table else np.arange(n.size)
    return {"n": n, "d": d, "y": y, "cell": np.asarray(cell).astype(str)}


def judge(
    cells: Cells,
    assumed: Assumption,
    *,
    space: Space | None = None,
    floor: bool = True,
    warnings: tuple[str, ...] = (),
    level: float = 0.95,
) -> Design:
    """What cells can show under an assumed law, with the cheapest addition from `space` that would answer.

    Without a `floor` only error against examples is a law.
    """
    varied = [x for x in ("n", "d") if cells.distinct(x) > 1]
    varied = varied if floor else [x for x in varied if x == "d"]
    empty = Design(assumed, (), (), None, None, level, warnings, ())
    if not varied or max(map(cells.levels, varied)) < thresholds.LEAST_VALUES:
        return empty
    if len(varied) == 1:
        laws: tuple[Expected, ...] = (expected.line(cells, assumed, varied[0], floor=floor, level=level),)
        main = laws
        found = replace(empty, laws=laws)
    else:
        found = _of_two(cells, assumed, empty)
        main = (found.surface[-1], *([found.optimum] if found.optimum else []))
    reasons = tuple(dict.fromkeys(e.refused for e in main if e.refused))
    addition = None
    answered = all(e.answers for e in main)
    if space is not None and not answered:
        addition = cheapest(cells, assumed, space, floor=floor, level=level)
    own = (*warnings, *edges(cells, assumed), *aligned(cells), *_unrepeated(cells))
    if not answered and addition is None:
        own = (*own, _NO_GRID if space is None else _NONE_SMALL)
    return replace(found, addition=addition, warnings=own, reasons=reasons)


_NO_GRID = "no addition was looked for: the runs are not a full grid of sizes and lengths (or budgets)"
_NONE_SMALL = "no addition of a few sizes, lengths (or budgets) and seeds would answer"


def _of_two(cells: Cells, assumed: Assumption, empty: Design) -> Design:
    laws = tuple(expected.frontier(cells, assumed, x, empty.level) for x in expected.NAMES)
    best = expected.optimum(cells, assumed, empty.level) if cells.shares_budgets else None
    return replace(empty, laws=laws, surface=expected.surface(cells, assumed, empty.level), optimum=best)


def edges(cells: Cells, assumed: Assumption) -> list[str]:
    """The budgets whose best size, under the assumed law, is the smallest or largest that they have."""
    if not cells.shares_budgets:
        return []
    ends: dict[str, list[float]] = {"smallest": [], "largest": []}
    every, curves = np.unique(cells.budget), expected.isoflop_curves(cells, assumed)
    for budget, (u, log_y, _) in zip(every, curves, strict=True):
        best = int(log_y.argmin())
        if u.size > 1 and best in (0, u.size - 1):
            ends["smallest" if best == 0 else "largest"].append(float(budget))
    return [
        f"at {len(budgets)} of {every.size} budgets ({_listed(budgets)}) the {end} model is expected to be the "
        f"best: add {'smaller' if end == 'smallest' else 'larger'} ones"
        for end, budgets in ends.items()
        if budgets
    ]


def _listed(values: list[float]) -> str:
    texts = [short(value) for value in values]
    return ", ".join(texts if len(texts) < 4 else [*texts[:2], "...", texts[-1]])


def aligned(cells: Cells) -> list[str]:
    """A warning where params and examples vary together."""
    logs = np.log(np.stack([cells.n, cells.d]))
    if np.any(np.ptp(logs, axis=1) == 0):
        return []
    r = float(np.corrcoef(logs)[0, 1])
    if abs(r) < thresholds.ALIGNED:
        return []
    return [
        f"params and examples vary together (correlation {r:.3f}): train each size on several numbers of examples"
    ]


def _unrepeated(cells: Cells) -> list[str]:
    if cells.runs.max() > 1:
        return []
    return ["one run per cell: the noise cannot be measured; repeat some cells with another seed"]


def is_undertrained(steps: Array | float, epochs: Array | float) -> Any:
    """Whether a cell trains too little to tell anything."""
    return (steps < LEAST_STEPS) | (epochs < LEAST_EPOCHS)


def undertrained(labels: list[str], steps: Array, epochs: Array, unit: str = "cells") -> list[str]:
    """A warning on cells (or what `unit` says) that hardly train; names the least trained by its label."""
    few = np.asarray(is_undertrained(steps, epochs))
    if not few.any():
        return []
    worst = int(np.flatnonzero(few)[np.argmin(steps[few])])
    what = f"{int(steps[worst])} steps, {short(epochs[worst], 2)} epochs"
    cells = f"{int(few.sum())} of {few.size} {unit} train fewer than {LEAST_STEPS} steps or {LEAST_EPOCHS:g} epochs"
    return [f"{cells} ({labels[worst]}: {what}): leave them out, raise the budget or lower the batch size"]
