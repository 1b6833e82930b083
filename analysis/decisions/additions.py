"""Small additions to a design: more sizes, more lengths, more seeds; and the cheapest one that would answer."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from analysis.decisions import expected
from analysis.decisions.expected import Cells, Expected
from analysis.fits.thresholds import LEAST_BUDGETS, LEAST_SIZES
from analysis.numbers import short

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from analysis.decisions.assumption import Assumption

Array = NDArray[np.float64]

MOST_ADDED, MOST_REHEARSED = 3, 12
"""Values that an addition appends to one end of an axis; designs whose isoFLOP minima are rehearsed."""
SEEDS = (1, 2, 3, 5)


@dataclass(frozen=True)
class Space:
    """A design as a product of sizes, lengths and seeds, and how other values of these become cells.

    Attributes:
        size, length: the word for an axis, singular: "width", "budget".
        sizes, lengths: the values of the design, rising.
        seeds: runs per cell.
        build: from sizes, lengths and seeds to cells; None where an added cell would hardly be trained.
        round_size: the nearest size that can be built.
        unit: what is written after a length, as " epochs".
        price: FLOPs of all runs of a cell over those of its seeds, above 1 where other settings vary as well.
    """

    size: str
    sizes: tuple[float, ...]
    length: str
    lengths: tuple[float, ...]
    seeds: int
    build: Callable[[Sequence[float], Sequence[float], int], Cells | None]
    round_size: Callable[[float], float] = float
    unit: str = ""
    price: float = 1.0


@dataclass(frozen=True)
class Addition:
    """More sizes, lengths and seeds, the FLOPs that they cost, and the exponent to expect of the larger design.

    `seeds` is the number of runs per cell of the whole design.
    """

    text: str
    sizes: tuple[float, ...]
    lengths: tuple[float, ...]
    seeds: int
    flops: float
    expected: Expected

    def __str__(self) -> str:
        return f"{self.text}; {short(self.flops)} FLOPs more, {self.expected.quantity} {self.expected}"


class Larger(NamedTuple):
    """A larger design: the added sizes and lengths, the seeds, and all cells."""

    sizes: tuple[float, ...]
    lengths: tuple[float, ...]
    seeds: int
    cells: Cells


def cheapest(
    cells: Cells, assumed: Assumption, space: Space, *, floor: bool = True, level: float = 0.95
) -> Addition | None:
    """The cheapest addition after which both the surface and the isoFLOP optimum, or one law, answer; or None."""
    rehearsed = 0
    for larger in sorted(larger_designs(space), key=lambda one: one.cells.cost):
        best = _main(larger.cells, assumed, floor=floor, level=level)
        if best is None or not best.answers:
            continue
        if larger.cells.shares_budgets and not _has_minima(larger.cells, assumed):
            continue
        if rehearsed == MOST_REHEARSED:
            return None
        rehearsed += 1
        best = _rehearsed(larger.cells, assumed, best, floor=floor, level=level)
        if not best.answers:
            continue
        cost = space.price * (larger.cells.cost - cells.cost)
        return Addition(_words(space, larger), *larger[:3], cost, best)
    return None


def _main(cells: Cells, assumed: Assumption, *, floor: bool, level: float) -> Expected | None:
    """The exponent that the design is for, by information alone: cheap to compute."""
    varied = _varied(cells)
    if len(varied) == 2 and floor:
        return expected.surface(cells, assumed, level)[-1]
    return expected.line(cells, assumed, varied[-1], floor=floor, level=level, rehearse=False) if varied else None


def _rehearsed(cells: Cells, assumed: Assumption, best: Expected, *, floor: bool, level: float) -> Expected:
    """The exponent that the design is for, where information alone gives `best`."""
    if cells.shares_budgets:
        return expected.optimum(cells, assumed, level)
    varied = _varied(cells)
    return (
        best if len(varied) == 2 and floor else expected.line(cells, assumed, varied[-1], floor=floor, level=level)
    )


def _varied(cells: Cells) -> list[str]:
    return [x for x in ("n", "d") if cells.distinct(x) > 1]


def _has_minima(cells: Cells, assumed: Assumption) -> bool:
    """Whether, without noise, enough budgets have enough sizes and the lowest inside."""
    curves = expected.isoflop_curves(cells, assumed)
    good = [u.size >= LEAST_SIZES and 0 < log_y.argmin() < u.size - 1 for u, log_y, _ in curves]
    return bool(sum(good) >= LEAST_BUDGETS)


def larger_designs(space: Space) -> Iterator[Larger]:
    """Every design that a small addition makes of a space."""
    more = [seeds for seeds in SEEDS if seeds > space.seeds]
    axes = _extended(space.sizes, space.round_size), _extended(space.lengths, float)
    for (sizes, lengths), seeds in itertools.product(itertools.product(*axes), [space.seeds, *more]):
        added = (
            tuple(sorted({*sizes} - {*space.sizes})),
            tuple(sorted({*lengths} - {*space.lengths})),
        )
        cells = space.build(sizes, lengths, seeds)
        if cells is not None and (any(added) or seeds > space.seeds):
            yield Larger(*added, seeds, cells)


def _words(space: Space, larger: Larger) -> str:
    seeds = f"{larger.seeds} seeds instead of {space.seeds}" if larger.seeds > space.seeds else ""
    parts = [_added(space.size, larger.sizes), _added(space.length, larger.lengths, space.unit), seeds]
    return ", ".join(part for part in parts if part)


def _added(word: str, values: Sequence[float], unit: str = "") -> str:
    if not values:
        return ""
    shown = ", ".join(short(value) for value in values)
    return f"+{len(values)} {word}{'s' if len(values) > 1 else ''} ({shown}{unit})"


def _extended(values: tuple[float, ...], rounded: Callable[[float], float]) -> list[list[float]]:
    """An axis as it is, and with at most three values more: beyond its ends in its own ratio, and between them."""
    low, high = values[0], values[-1]
    ratio = (high / low) ** (1 / (len(values) - 1)) if len(values) > 1 else 2.0
    middles = [rounded((first * second) ** 0.5) for first, second in itertools.pairwise(values)]
    axes = []
    for between, below, above in itertools.product((middles, []), range(MOST_ADDED + 1), range(MOST_ADDED + 1)):
        if len(between) + below + above <= MOST_ADDED:
            beyond = [
                *(low / ratio**k for k in range(1, below + 1)),
                *(high * ratio**k for k in range(1, above + 1)),
            ]
            whole = sorted([*values, *between, *map(rounded, beyond)])
            if len(set(whole)) == len(whole) and whole not in axes:
                axes.append(whole)
    return axes


def space_of(cells: Cells) -> Space | None:
    """The space of cells that are a full product of sizes and budgets, or of sizes and examples; else None."""
    shared = cells.shares_budgets
    lengths, seeds = np.unique(cells.budget if shared else cells.d), int(cells.runs.max())
    sizes = np.unique(cells.n)
    if sizes.size * lengths.size != cells.n.size or np.ptp(cells.runs):
        return None
    scale, power = cells.price()

    def build(sizes: Sequence[float], lengths: Sequence[float], seeds: int) -> Cells:
        n, length = (part.ravel() for part in np.meshgrid(sizes, lengths, indexing="ij"))
        price = scale * n**power
        d = length / price if shared else length
        runs = np.full(n.size, seeds)
        return Cells(n, d, price * d, runs, length if shared else np.full(n.size, np.nan))

    return Space("size", tuple(sizes), "budget" if shared else "length", tuple(lengths), seeds, build)
