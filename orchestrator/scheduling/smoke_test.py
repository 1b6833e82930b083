"""The smoke test: before a sweep spends anything, its smallest cell trains a few steps and must beat chance."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from orchestrator.sweep.planner import run_flops
from orchestrator.workers.executor import Failed, Finished, Lost
from trainer import cost
from trainer.spec import stack_key

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from orchestrator.store.table import Table
    from trainer.result import Record
    from trainer.spec import RunSpec

STEPS, FEWEST = 200, 50
"""Steps that a smoke test may take, and with how few chance need not be beaten: then there is none."""

SHARE = 0.01
"""Share of the sweep's FLOPs that it may cost."""

WIDEST = 8
_LOSS, _ERROR = 0.99, 0.9


def smoke_test_of(runs: Sequence[RunSpec]) -> list[RunSpec]:
    """A short training of a sweep's cheapest cell, and of those that differ from it in their recipe only.

    One seed, a constant learning rate, no warm-up, at most STEPS steps and SHARE of the sweep's FLOPs. Empty where
    that is fewer than FEWEST steps: of a sweep that short a mistake costs nothing. Stages of a chain have none:
    they begin with what has been trained.
    """
    first = min((run for run in runs if not run.parent and not run.start), key=run_flops, default=None)
    if first is None or not run_flops(first):
        return []
    alike = [
        run for run in runs if (stack_key(run), run.seed, run.steps) == (stack_key(first), first.seed, first.steps)
    ]
    alike = alike[:: -(-len(alike) // WIDEST)]
    step = first.batch_size * cost.flops_per_example(cost.shape_of(first)) * len(alike)
    steps = min(STEPS, int(SHARE * sum(map(run_flops, runs)) / step))
    if steps < FEWEST:
        return []
    bare = [replace(run, budget=None, epochs=None, schedule="constant", warmup=0.0) for run in alike]
    return [replace(run, examples=steps * first.batch_size, steps=steps) for run in bare]


def beats_chance(records: Iterable[Record], classes: int) -> bool:
    """Whether a record is better than a guess: loss 1 % below ln(classes), or error a tenth below 1 - 1/classes."""
    chance, error = math.log(classes), 1 - 1 / classes
    return any(record.loss <= _LOSS * chance or record.error <= _ERROR * error for record in records)


def verdict(runs: Sequence[RunSpec], event: Finished | Failed | Lost) -> str | None:
    """What is wrong with a smoke test's sweep, in a line; None where one of its recipes beat chance."""
    anyway = "--no-canary goes on all the same"
    if not isinstance(event, Finished):
        return f"the smoke test failed: {event.reason}; {anyway}"
    classes = runs[0].classes or 2
    records = [record for result in event.results for record in result.history]
    if beats_chance(records, classes):
        return None
    best = min((record.loss for record in records), default=math.nan)
    said = f"the smoke test ({len(runs)} recipes of the smallest cell, {runs[0].steps} steps) does not beat chance"
    return f"{said}: best loss {best:.3g}, a guess has {math.log(classes):.3g}; {anyway}"


class SmokeTests:
    """Which sweeps have sent their smoke test and which wait for it; none where they were not `asked` for."""

    def __init__(self, table: Table, *, asked: bool) -> None:
        self._table, self._asked = table, asked
        self._heard: set[str] = set()
        self._away: set[str] = set()
        self._lost: set[str] = set()
        self.waiting: list[tuple[str, list[RunSpec]]] = []

    def hold(self, rows: Iterable[Mapping[str, Any]]) -> set[str]:
        """Of sweeps (rows of `Table.sweeps`), those that are held back until their smoke test is heard."""
        for row in rows if self._asked else ():
            sweep = row["sweep"]
            if row["done"] or row["diverged"] or row["pruned"] or sweep in self._heard | self._away:
                continue
            if runs := smoke_test_of(self._table.queued(sweep)):
                self._away.add(sweep)
                self.waiting.append((sweep, runs))
            else:
                self._heard.add(sweep)
        return set(self._away)

    def next(self) -> tuple[str, list[RunSpec]] | None:
        """A smoke test that is to be sent, if any."""
        return self.waiting.pop(0) if self.waiting else None

    def again(self, sweep: str, runs: list[RunSpec]) -> None:
        """One that could not be sent yet."""
        self.waiting.insert(0, (sweep, runs))

    def heard(self, sweep: str, runs: Sequence[RunSpec], event: Finished | Failed | Lost) -> str | None:
        """What a smoke test that ended says is wrong with its sweep, if anything.

        One whose worker died is sent once more.
        """
        self._away.discard(sweep)
        if isinstance(event, Lost) and sweep not in self._lost:
            self._lost.add(sweep)
            return None
        self._heard.add(sweep)
        return verdict(runs, event)
