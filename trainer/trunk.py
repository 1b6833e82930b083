"""Trunks: the steps that runs of different budgets have in common, trained once, to the last bit.

With a constant learning rate a shorter run is the beginning of a longer one. With warm-up-stable-decay it is so up
to its cool-down, which branches off (Hägele et al. 2024): five doubling budgets at a cool-down of a fifth cost 1.19
of the longest, where training each from scratch costs 1.94. Cosine and linear schedules, and warm-ups (shares of
the steps here), share nothing.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, NamedTuple

from trainer import cost

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from trainer.spec import RunSpec


REBUILD = 16
"""Steps of a run that take as long as building its stack anew, for each run in it: 5 at width 64, 14 at 16."""


class Phase(NamedTuple):
    """So many steps of a stack of so many runs."""

    rows: int
    steps: int


def shared_steps(spec: RunSpec) -> int:
    """The step up to which every longer run of the same recipe is this very run; 0: nothing is shared."""
    assert spec.steps is not None
    if spec.warmup:
        return 0
    if spec.schedule == "wsd":
        return spec.steps - cooldown_steps(spec)
    return spec.steps if spec.schedule == "constant" else 0


def cooldown_steps(spec: RunSpec) -> int:
    """Steps over which `wsd` brings the learning rate to 0: at least one."""
    assert spec.steps is not None
    return max(1, round(spec.cooldown * spec.steps))


def by_recipe(runs: Iterable[RunSpec]) -> list[list[RunSpec]]:
    """Runs of one recipe and different lengths, shortest first; a run that shares nothing is alone."""
    found: dict[tuple[str, int], list[RunSpec]] = {}
    for run in runs:
        found.setdefault((run.trunk_id if shared_steps(run) else run.run_id, run.accumulate), []).append(run)
    return [sorted(recipe, key=_steps) for recipe in found.values()]


def begins(recipe: Iterable[RunSpec]) -> list[int]:
    """The step from which each run of a recipe, shortest first, trains itself: those before are a shorter one's."""
    shared = [shared_steps(run) for run in recipe]
    return [0, *shared[:-1]]


def shrinks(rows: int, running: int, steps: int) -> bool:
    """Whether a stack of so many rows goes on as a smaller one, where the next run ends after so many steps.

    It does where the rows of ended runs would take longer until then than building the smaller stack.
    """
    return not running or (rows - running) * steps >= REBUILD * running


def phases(runs: Iterable[RunSpec]) -> list[Phase]:
    """How runs of one shape train as one stack, whatever their lengths: a recipe of several lengths in one row.

    A stack goes on as a smaller one where that pays (`shrinks`), and anew where a longer run of a recipe follows a
    shorter one.
    """
    events: dict[int, list[bool]] = {0: []}  # by step: whether each run that ends there is followed by another
    for recipe in by_recipe(runs):
        trained = [_steps(run) - begin for run, begin in zip(recipe, begins(recipe), strict=True)]
        for number, step in enumerate(itertools.accumulate(trained), 1):
            events.setdefault(step, []).append(number < len(recipe))
    running = rows = sum(not followed for ends in events.values() for followed in ends)
    found, done, steps = list[Phase](), 0, sorted(events)
    for step, after in zip(steps, [*steps[1:], steps[-1]], strict=True):
        ends = events[step]
        running -= ends.count(False)
        if any(ends) or shrinks(rows, running, after - step):
            found.append(Phase(rows, step - done))
            done, rows = step, running
    return [phase for phase in found if phase.steps]


def charged_flops(runs: Sequence[RunSpec]) -> dict[str, int]:
    """Training FLOPs that each run adds when all are trained together, by run_id; rule `exact`."""
    return {
        run.run_id: (_steps(run) - begin) * run.batch_size * cost.flops_per_example(cost.shape_of(run))
        for recipe in by_recipe(runs)
        for run, begin in zip(recipe, begins(recipe), strict=True)
    }


def _steps(run: RunSpec) -> int:
    assert run.steps is not None
    return run.steps
