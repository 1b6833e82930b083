"""The stacks of a plan or a queue: which runs train as one model, which stack starts first, how long they take."""

from __future__ import annotations

import bisect
import heapq
import itertools
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, TypeVar

from orchestrator.host.speed import TYPICAL
from orchestrator.scheduling import memory as admission
from orchestrator.sweep.planner import run_flops
from trainer import cost
from trainer.spec import LENGTHS, SETTINGS, RunSpec, model_name, stack_key
from trainer.trunk import by_recipe, charged_flops

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized

    from orchestrator.host.speed import Speed
    from orchestrator.scheduling.budget import Budget
    from orchestrator.scheduling.memory import DeviceMemory
    from orchestrator.scheduling.write_buffer import Move
    from orchestrator.sweep.planner import Plan

T = TypeVar("T", bound="Sized")
U = TypeVar("U")
Recipes: TypeAlias = "list[list[RunSpec]]"
"""Runs of one shape, those of a recipe together (trainer.trunk.by_recipe)."""

SCOUT = 0.05
"""Least share of the FLOPs that the scout takes."""

TENTH = 0.1
"""Share of the time within which half of the runs are to be done, where the cheapest half takes no more."""

WITHIN = 1.05
"""Factor of the least possible time within which everything ends in spite of the scout."""


def group_into_stacks(
    runs: Sequence[RunSpec],
    begun: Callable[[RunSpec], int] = lambda _: 0,
    speed: Speed = TYPICAL,
    slots: int = 1,
) -> list[list[RunSpec]]:
    """Group runs into stacks, each trained as one model, in the order in which they start (`start_order`).

    Runs of one shape share a stack whatever their recipes and, where that pays, their lengths. Runs that share
    their beginning (trainer.trunk) stay together. Stacks are as large as pays by the `speed` of the machine, and
    smaller where some of `slots` workers would have nothing to do at the end. `begun` returns the step at which a
    run goes on.
    """
    groups: dict[Any, list[list[RunSpec]]] = {}
    for recipe in by_recipe(runs):
        groups.setdefault(stack_key(recipe[0]), []).append(recipe)

    def seconds(stack: Recipes) -> float:
        return speed.seconds(_flat(stack))

    stacks = list[Recipes]()
    for group in groups.values():
        group.sort(key=lambda recipe: _length(recipe) - begun(recipe[0]), reverse=True)
        size = speed.stack_size(group[0][0], len(group))
        mixed = _even(group, size)
        apart = [stack for _, same in itertools.groupby(group, _length) for stack in _even(list(same), size)]
        alike = apart == mixed or sum(map(seconds, apart)) <= sum(map(seconds, mixed))
        stacks += apart if alike else mixed
    return start_order(list(map(_flat, _spread(stacks, seconds, slots))), _price, speed.seconds, slots)


def _flat(recipes: Recipes) -> list[RunSpec]:
    return [run for recipe in recipes for run in recipe]


def _length(recipe: Sequence[RunSpec]) -> int:
    return recipe[-1].steps or 0


def _even(recipes: Recipes, size: int) -> list[Recipes]:
    """Return parts of nearly equal size, at most `size`: 20 as 10 + 10, not 16 + 4."""
    parts = -(-len(recipes) // size)
    ends = [len(recipes) * part // parts for part in range(parts + 1)]
    return [recipes[begin:end] for begin, end in itertools.pairwise(ends)]


def _spread(stacks: Sequence[Recipes], seconds: Callable[[Recipes], float], slots: int) -> list[Recipes]:
    """Return stacks of which the longest are halved for as long as all of them end sooner on so many workers."""
    best = by_time = sorted(((seconds(stack), stack) for stack in stacks), key=_time)
    end, least = makespan(map(_time, reversed(best)), slots), WITHIN * _total(best) / slots
    fruitless = 0
    while end > least and fruitless < slots and len(longest := by_time[-1][1]) > 1:
        middle = len(longest) // 2
        splits = (longest[0::2], longest[1::2]), (longest[:middle], longest[middle:])
        halves = min(([(seconds(half), half) for half in split] for split in splits), key=_total)
        by_time = sorted([*by_time[:-1], *halves], key=_time)
        sooner = makespan(map(_time, reversed(by_time)), slots)
        fruitless += 1
        if sooner < end:
            best, end, fruitless = by_time, sooner, 0
    return [stack for _, stack in best]


def _time(timed: tuple[float, Recipes]) -> float:
    return timed[0]


def _total(timed: Iterable[tuple[float, Recipes]]) -> float:
    return sum(map(_time, timed))


def shares(stack: Sequence[RunSpec], seconds: float) -> dict[str, float]:
    """Return what each run of a stack has of its seconds, by run_id: as of the FLOPs."""
    prices = charged_flops(stack)
    total = sum(prices.values())
    return {run_id: seconds * price / total if total else seconds / len(stack) for run_id, price in prices.items()}


def _price(stack: Sequence[RunSpec]) -> int:
    return sum(charged_flops(stack).values())


_IN_ROWS = {"family", "depth", "width", "expansion", "dataset", "dataset_size", "lr", "batch_size", *LENGTHS}
"""Settings that every row of a plan shows."""


def plan_rows(
    planned: Plan, speed: Speed = TYPICAL, seconds: Mapping[str, float] | None = None
) -> list[dict[str, Any]]:
    """Return the plan as rows, one per cell, in the order of the file, with a column for every setting that varies.

    `memory` is the closed form of the cell's first stack. `seconds` are those that each run adds, by run_id
    (forecast.Forecast.shares); without them times are None.
    """
    rows, stages = [], {run.stage for run in planned.runs}
    varied = [key for key in planned.varies if key in SETTINGS and key not in _IN_ROWS]
    for runs in planned.cells.values():
        first = runs[0]
        shape = cost.shape_of(first)
        stacks = group_into_stacks(runs, speed=speed)
        rows.append(
            {
                **({"stage": first.stage} if len(stages) > 1 else {}),
                "model": model_name(first),
                "dataset": first.dataset,
                "dataset_size": first.dataset_size,
                "lr": first.lr,
                **{key: getattr(first, key) for key in varied},
                "batch_size": first.batch_size,
                "steps": first.steps,
                "epochs": first.epochs or 0.0,
                "params": cost.params(shape).total,
                "flops": run_flops(first),
                "runs": len(runs),
                "memory": admission.form(stacks[0]),
                "seconds": None if seconds is None else sum(seconds[run.run_id] for run in runs),
            }
        )
    return rows


class Chosen(NamedTuple):
    """A stack that is about to start, the place that it was given, and the sweep that it is the smoke test of."""

    number: int
    runs: Sequence[RunSpec]
    place: str
    smoke_test: str = ""


def choose(
    waiting: list[list[RunSpec]], places: list[str], memory: DeviceMemory, budget: Budget, numbers: Iterator[int]
) -> tuple[list[Chosen], list[Move]]:
    """Take the stacks that start now from those that wait; returns them, and the runs that a limit blocks.

    The first in line that has no place waits, and nothing overtakes it. `places` are those of free slots; the
    chosen stacks' are taken out. A stack too large for any place is halved.
    """
    from orchestrator.scheduling.write_buffer import Move

    chosen, blocked = list[Chosen](), list[Move]()
    while waiting and places:
        recipes = by_recipe(stack := waiting[0])
        if len(recipes) > 1 and not memory.fits(stack):
            waiting[:1] = [_flat(recipes[0::2]), _flat(recipes[1::2])]
            continue
        place = memory.give(number := next(numbers), stack, places)
        if place is None:
            break  # until one of those in training has ended
        waiting.pop(0)
        paid, reason = budget.affordable(stack)
        if reason:
            blocked += [Move(run.run_id, "blocked", reason) for run in stack if run not in paid]
        if paid:
            budget.reserve(charged_flops(paid))
            chosen.append(Chosen(number, paid, place))
            places.remove(place)
        else:
            memory.take_back(number)
    return chosen, blocked


def start_order(
    stacks: Sequence[T], price: Callable[[T], float], seconds: Callable[[T], float], slots: int = 1
) -> list[T]:
    """Return a scout of the cheapest stacks, cheapest first, then the others, longest first.

    The scout is SCOUT of all FLOPs (`price`), or half of the runs where these take at most TENTH of the time; it
    is halved for as long as it makes everything late. Longest first alone ends within 4/3 of the best (Graham
    1969), in practice within a few per cent.
    """
    timed = sorted(((seconds(stack), i) for i, stack in enumerate(stacks)))
    cheap, times = [stacks[i] for _, i in timed], [time for time, _ in timed]
    prices = list(itertools.accumulate(map(price, cheap)))
    runs = list(itertools.accumulate(map(len, cheap)))
    latest = WITHIN * max(sum(times) / slots, max(times, default=0.0))
    scouts = bisect.bisect_left(prices, SCOUT * prices[-1]) + 1 if cheap else 0
    half = bisect.bisect_left(runs, runs[-1] / 2) + 1 if cheap else 0
    if half > scouts and sum(times[:half]) <= TENTH * sum(times):
        scouts = half
    while scouts and makespan(_turned(times, scouts), slots) > latest:
        scouts //= 2
    return _turned(cheap, scouts)


def _turned(cheap: list[U], scouts: int) -> list[U]:
    """The first `scouts` as they are, the others from the last down."""
    return cheap[:scouts] + cheap[: scouts - 1 if scouts else None : -1]


def makespan(times: Iterable[float], slots: int) -> float:
    """Return when the last ends, on workers that each take the next."""
    free = [0.0] * slots
    for seconds in times:
        heapq.heapreplace(free, free[0] + seconds)
    return max(free)
