"""A plan on a machine: its runs in stacks, in the order in which to start them, and how long they will take."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from orchestrator.scheduling.order import in_order
from orchestrator.sweep.planner import run_flops
from trainer import cost
from trainer import trunk as ladder
from trainer.spec import RunSpec, model_name, stack_key

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from orchestrator.host.speed import Speed
    from orchestrator.sweep.planner import Plan


def bundles(
    runs: Sequence[RunSpec],
    begun: Callable[[RunSpec], int] = lambda _: 0,
    speed: Speed | None = None,
    slots: int = 1,
) -> list[list[RunSpec]]:
    """Runs grouped into stacks, each trained as one model, in the order in which to start them.

    Runs of different lengths that share their beginning (trainer.trunk) stay in one bundle.

    They are ordered by `orchestrator.scheduling.order`. Stacks are as large as pays by the measured `speed`, by a
    rule of thumb without, and small enough that each of `slots` workers has one. `begun` tells the step at which
    a run goes on; only runs of one step share a stack.
    """
    groups: dict[Any, list[list[RunSpec]]] = {}
    for family in ladder.families(runs):
        key = (stack_key(family[0]), *((run.steps, begun(run)) for run in family))
        groups.setdefault(key, []).append(family)
    made: list[list[RunSpec]] = []
    for group in groups.values():
        first = group[0][0]
        if speed is None:
            size = cost.stack_size(cost.shape_of(first), first.batch_size, len(group))
        else:
            size = speed.stack_size(first, len(group))
        parts = max(-(-len(group) // size), min(len(group), slots // len(groups)))  # 20 as 10 + 10, not 16 + 4
        made += [[run for family in group[i::parts] for run in family] for i in range(parts)]
    return in_order(made, _price, _price if speed is None else speed.seconds, slots)


def _price(bundle: Sequence[RunSpec]) -> int:
    return sum(ladder.charged_flops(bundle).values())


def predicted_seconds(runs: Sequence[RunSpec], speed: Speed, slots: int) -> float:
    """Seconds that the runs will take on `slots` workers of the measured speed, start-up not included.

    The larger of the mean load and the longest bundle: what a schedule of longest-first comes close to.
    """
    times = [speed.seconds(bundle) for bundle in bundles(runs, speed=speed, slots=slots)]
    return max(sum(times) / slots, max(times, default=0.0))


def table_of(planned: Plan, speed: Speed | None, slots: int) -> list[dict[str, Any]]:
    """The plan as rows, one a cell, in the order of the file; numbers unrounded, times None where unmeasured."""
    rows, stages = [], {run.stage for run in planned.runs}
    for runs in planned.cells.values():
        first = runs[0]
        shape = cost.shape_of(first)
        bundle_share = bundles(runs, speed=speed)
        rows.append(
            {
                **({"stage": first.stage} if len(stages) > 1 else {}),
                "model": model_name(first),
                "dataset": first.dataset,
                "dataset_size": first.dataset_size,
                "lr": first.lr,
                "batch_size": first.batch_size,
                "steps": first.steps,
                "epochs": first.epochs or 0.0,
                "params": cost.params(shape).total,
                "flops": run_flops(first),
                "runs": len(runs),
                "memory": cost.memory_bytes(shape, first.batch_size, first.optimizer) * len(bundle_share[0]),
                "seconds": None if speed is None else sum(map(speed.seconds, bundle_share)) / slots,
            }
        )
    return rows
