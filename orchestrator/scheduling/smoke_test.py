"""The smoke test: before a sweep spends anything, its smallest cell trains a few steps and must beat chance."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from orchestrator.scheduling.stacks import Chosen
from orchestrator.sweep.planner import run_flops
from orchestrator.text import count, number
from orchestrator.workers.executor import Failed, Finished, Lost
from trainer import cost
from trainer.spec import stack_key

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from orchestrator.scheduling.memory import DeviceMemory
    from trainer.result import Record
    from trainer.spec import RunSpec

STEPS, FEWEST = 200, 50
"""Most steps of a smoke test, and the fewest with which there is one."""

SHARE = 0.01
"""Most of the sweep's FLOPs that a smoke test may cost, as a share."""

WIDEST = 8
_LOSS, _ERROR = 0.99, 0.9


def smoke_test_of(runs: Sequence[RunSpec]) -> list[RunSpec]:
    """Return short runs of a sweep's cheapest cell, and of at most WIDEST cells that differ in their recipe only.

    They have one seed, a constant learning rate and no warm-up, and take at most STEPS steps and SHARE of the
    sweep's FLOPs. Empty where that is fewer than FEWEST steps, since in a sweep that short a mistake costs nothing.
    Stages of a chain are left out: they begin with trained parameters.
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
    """Return whether a record beats a guess: loss 1 % below ln(classes), or error a tenth below 1 - 1/classes."""
    chance, error = math.log(classes), 1 - 1 / classes
    return any(record.loss <= _LOSS * chance or record.error <= _ERROR * error for record in records)


def verdict(runs: Sequence[RunSpec], event: Finished | Failed | Lost) -> str | None:
    """Return what is wrong with a smoke test's sweep, in a line; None where one of its recipes beats chance."""
    anyway = "--no-canary skips this test"
    if not isinstance(event, Finished):
        return f"the smoke test failed: {event.reason}; {anyway}"
    classes = runs[0].classes or 2
    records = [record for result in event.results for record in result.history]
    if beats_chance(records, classes):
        return None
    best = min((record.loss for record in records if not math.isnan(record.loss)), default=math.nan)
    recipes = f"{count(len(runs), 'recipe')} of the smallest cell, {count(runs[0].steps or 0, 'step')}"
    losses = f"best loss {number(best)}, a guess has {number(math.log(classes))}"
    return f"the smoke test ({recipes}) does not beat chance: {losses}; {anyway}"


class SmokeTests:
    """The smoke tests of sweeps: which wait to start, and which are in training. None where not `asked` for."""

    def __init__(self, *, asked: bool) -> None:
        self._asked = asked
        self._passed: set[str] = set()
        self._held: set[str] = set()
        self._lost: set[str] = set()
        self.waiting: list[tuple[str, list[RunSpec]]] = []

    def holds(self, row: Mapping[str, Any], queued: Sequence[RunSpec]) -> bool:
        """Return whether a sweep, of this row of `Table.sweeps`, is held back until its smoke test ends."""
        sweep, trained = row["sweep"], row["done"] or row["diverged"] or row["pruned"]
        if self._asked and not trained and sweep not in self._passed | self._held:
            if runs := smoke_test_of(queued):
                self._held.add(sweep)
                self.waiting.append((sweep, runs))
            else:
                self._passed.add(sweep)
        return sweep in self._held

    def choose(self, places: list[str], memory: DeviceMemory, numbers: Iterator[int]) -> list[Chosen]:
        """Return the smoke tests that start now, on places of free slots, which are taken out.

        Where one has to wait, no place is left: nothing overtakes it.
        """
        chosen: list[Chosen] = []
        while self.waiting and places:
            (sweep, runs), number = self.waiting[0], next(numbers)
            place = memory.give(number, runs, places)
            if place is None:
                places.clear()
                break
            del self.waiting[0]
            places.remove(place)
            chosen.append(Chosen(number, runs, place, sweep))
        return chosen

    def ended(self, sweep: str, runs: Sequence[RunSpec], event: Finished | Failed | Lost) -> str | None:
        """Return what is wrong with a sweep whose smoke test has ended, if anything.

        One whose worker died is sent once more.
        """
        self._held.discard(sweep)
        if isinstance(event, Lost) and sweep not in self._lost:
            self._lost.add(sweep)
            return None
        self._passed.add(sweep)
        return verdict(runs, event)
