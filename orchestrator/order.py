"""In which order bundles start: a cheap scout, so that mistakes show early, and then the longest first."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

T = TypeVar("T")

SCOUT = 0.05
"""Share of the FLOPs that goes cheapest first."""


def in_order(bundles: Sequence[T], price: Callable[[T], float], seconds: Callable[[T], float]) -> list[T]:
    """The cheapest bundles up to SCOUT of all FLOPs (`price`), cheapest first; then those that take longest first.

    The makespan on equal workers is that of longest first, at most 4/3 of the best (Graham 1969) and in practice a
    few per cent above it, whatever the scout's order: it is over before the first long bundle is.
    """
    cheap = sorted(bundles, key=price)
    limit, spent, scouts = SCOUT * sum(map(price, cheap)), 0.0, 0
    while scouts < len(cheap) and spent < limit:
        spent += price(cheap[scouts])
        scouts += 1
    return cheap[:scouts] + sorted(cheap[scouts:], key=seconds, reverse=True)
