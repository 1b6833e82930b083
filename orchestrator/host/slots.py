"""Workers that share a GPU: how many pay, measured with the main stack of a sweep and remembered."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from orchestrator.host.machine_cache import code_version, remember, remembered
from orchestrator.host.timings import Kind, kind_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from orchestrator.host.speed import Speed
    from trainer.spec import RunSpec

SLOTS_PER_GPU, MOST_SLOTS_PER_GPU = 4, 8
"""Slots of a GPU where nothing was measured, and the most that are tried (slots_that_pay)."""
GROWTH = 1.1
"""Factor by which twice the slots must raise the aggregate FLOP/s."""
SECONDS = 3.0
"""Seconds of training in which all numbers of slots are tried, beside starting the workers."""
ALIKE = 1.0
"""Distance of two kinds of stacks (timings.Kind) within which the same number of slots pays."""
KEPT = 50
"""Kinds of stacks that are remembered."""


def slots_that_pay(rate: Callable[[int], float], most: int) -> int:
    """Return the number of slots of a device: doubled while the aggregate FLOP/s, `rate(slots)`, grow by GROWTH."""
    slots, best = 1, rate(1)
    while slots < most:
        more = min(most, 2 * slots)
        flops = rate(more)
        if flops < GROWTH * best:
            break
        slots, best = more, flops
    return slots


def seconds_each(most: int) -> float:
    """Return the seconds for which each number of slots up to `most` is tried."""
    return SECONDS / (1 + (most - 1).bit_length())


def main_stack(stacks: Sequence[Sequence[RunSpec]], speed: Speed) -> Sequence[RunSpec]:
    """Return a stack of the kind that takes most of the time; () if there is none."""
    seconds = dict[Kind, float]()
    for stack in stacks:
        seconds[kind_of(stack)] = seconds.get(kind_of(stack), 0.0) + speed.seconds(stack)
    first = {kind_of(stack): stack for stack in reversed(stacks)}
    return first[max(seconds, key=seconds.__getitem__)] if stacks else ()


def known_slots(stack: Sequence[RunSpec]) -> int | None:
    """Return the slots of a GPU that pay for such a stack; None if that was not measured with the present code."""
    known = [entry for entry in reversed(_known()) if entry["code"] == code_version()]
    near = [(kind_of(stack).distance(Kind(*map(tuple, entry["kind"]))), int(entry["slots"])) for entry in known]
    distance, slots = min(near, key=lambda entry: entry[0], default=(ALIKE, 0))  # the newest of several
    return slots if distance < ALIKE else None


def keep_slots(stack: Sequence[RunSpec], slots: int) -> None:
    """Remember the slots of a GPU that pay for such a stack."""
    entry = {"kind": kind_of(stack), "slots": slots, "code": code_version()}
    remember("slots", {"measured": [*_known(), entry][-KEPT:]})


def _known() -> list[dict[str, Any]]:
    measured: list[dict[str, Any]] = remembered("slots").get("measured", [])
    return measured
