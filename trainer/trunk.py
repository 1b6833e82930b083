"""Trunks: the steps that runs of different budgets have in common, trained once, to the last bit.

With a constant learning rate a shorter run is the beginning of a longer one. With warm-up-stable-decay it is so up
to its cool-down, which branches off (Hägele et al. 2024): five doubling budgets at a cool-down of a fifth cost 1.19
of the longest, where training each from scratch costs 1.94. Cosine and linear schedules, and warm-ups (shares of
the steps here), share nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from trainer import cost

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from trainer.spec import RunSpec


@dataclass(frozen=True)
class Segment:
    """Runs that train together as one stack from step `begin` on, where the segment before hands over its state."""

    runs: tuple[RunSpec, ...]
    begin: int


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


def segments(runs: Iterable[RunSpec]) -> list[Segment]:
    """The order of training: runs of one length and one beginning together, each after its shorter ones."""
    groups: dict[tuple[int, int], list[RunSpec]] = {}
    for recipe in by_recipe(runs):
        begin = 0
        for run in recipe:
            groups.setdefault((_steps(run), begin), []).append(run)
            begin = shared_steps(run)
    return [Segment(tuple(group), begin) for (_, begin), group in sorted(groups.items(), key=lambda item: item[0])]


def charged_flops(runs: Sequence[RunSpec]) -> dict[str, int]:
    """Training FLOPs that each run adds when all are trained together, by run_id; rule `exact`."""
    return {
        run.run_id: (_steps(run) - segment.begin) * run.batch_size * cost.flops_per_example(cost.shape_of(run))
        for segment in segments(runs)
        for run in segment.runs
    }


def _steps(run: RunSpec) -> int:
    assert run.steps is not None
    return run.steps
