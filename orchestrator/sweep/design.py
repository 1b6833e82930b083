"""What a plan can show before it runs: its cells as arrays for `analysis.decisions.design`. Imports numpy."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.decisions import design
from analysis.decisions.additions import Space
from analysis.decisions.assumption import Assumption, assume, few_test_examples
from analysis.decisions.expected import Cells
from analysis.fits.thresholds import ALIGNED
from orchestrator.sweep.planner import run_flops
from orchestrator.sweep.sweep import FIRST_STAGE
from orchestrator.text import number
from trainer import cost
from trainer.data import datasets
from trainer.data.sets import zipf
from trainer.spec import LENGTHS, SETTINGS, RunSpec, SpecError, model_name

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from analysis.decisions.design import Design
    from orchestrator.sweep.planner import Plan

_SCALE = ("width", "depth", "expansion", "dataset_size")
_TUNED = ("lr", "lr_embed", "lr_body", "lr_head", "weight_decay", "momentum", "clip", "label_smoothing")
"""Settings of which the best value counts at each size; runs that differ otherwise are different populations."""
_ALONE = [name for name in SETTINGS if name not in (*_SCALE, *_TUNED, *LENGTHS, "seed", "steps", "parent")]
_NUMBERS = [n for n, field in SETTINGS.items() if field.section == "train" and field.kind.number is not str]


def design_of(plan: Plan, earlier: Mapping[str, NDArray[Any]] | None = None, source: str = "") -> Design | None:
    """What the first stage of a plan can show; None of a search, or where neither params nor examples vary.

    Args:
        plan: the plan.
        earlier: earlier runs, as `analysis.decisions.assumption.assume` takes them.
        source: what to call them.
    """
    names, populations = _populations(plan)
    if not populations:
        return None
    points = _points(_largest(populations))
    cells = _cells(points)
    on_zipf = points[0].run.dataset == "zipf"
    assumed = assume(cells.n, cells.d, earlier, source)
    assumed = _on_zipf(points, assumed) if on_zipf else assumed
    warnings = (*_undertrained(points), *_confounded(points), *_several(names, populations))
    if assumed.noise_from == "default":
        warnings = (*warnings, *few_test_examples(_test_examples(points[0].run)))
    space = _space(points, cells)
    result = design.judge(cells, assumed, space=space, floor=not on_zipf, warnings=warnings)
    return result if result.asks else None


def _test_examples(run: RunSpec) -> int | None:
    """How many examples the error of a run is counted on, None if that is not known without decoding its data."""
    try:
        return datasets.describe(run, decode=False).test_examples
    except SpecError:
        return None


def judged(plan: Plan) -> RunSpec | None:
    """A run of the population that `design_of` judges: earlier runs should be like it; None if it judges none."""
    _, populations = _populations(plan)
    return _largest(populations)[0] if populations else None


def _populations(plan: Plan) -> tuple[list[str], dict[Any, list[RunSpec]]]:
    """The settings that tell populations apart, and the runs of the first stage by these; none of a search.

    Numbers of the recipe do not where each population would have one size and length: they follow the scale.
    """
    runs = [run for run in plan.runs if plan.trials is None and run.stage == FIRST_STAGE]
    populations = _grouped(runs, _ALONE)
    if all(len(_points(own)) == 1 for own in populations.values()):
        names = [name for name in _ALONE if name not in _NUMBERS]
        return names, _grouped(runs, names)
    return _ALONE, populations


def _grouped(runs: Sequence[RunSpec], names: Sequence[str]) -> dict[Any, list[RunSpec]]:
    groups: dict[Any, list[RunSpec]] = {}
    for run in runs:
        groups.setdefault(tuple(getattr(run, name) for name in names), []).append(run)
    return groups


def _largest(populations: Mapping[Any, list[RunSpec]]) -> list[RunSpec]:
    return max(populations.values(), key=len)


@dataclass(frozen=True)
class _Point:
    """A model, a data set's size and a length: one of its runs, how many seeds, which tuned settings were tried."""

    run: RunSpec
    seeds: int
    tuned: tuple[tuple[Any, ...], ...]


def _points(runs: Sequence[RunSpec]) -> list[_Point]:
    """The sizes and lengths of a population; lengths within a tenth are one, whole steps leave them apart."""
    lengths = _merged([_examples(run) for run in runs])
    grouped: dict[Any, list[RunSpec]] = {}
    for run, length in zip(runs, lengths, strict=True):
        grouped.setdefault((*(getattr(run, name) for name in _SCALE), length), []).append(run)
    return [
        _Point(own[0], len({run.seed for run in own}), tuple(_grouped(own, [*_TUNED, *_NUMBERS])))
        for own in grouped.values()
    ]


def _examples(run: RunSpec) -> int:
    assert run.steps is not None
    return run.steps * run.batch_size


def _cells(points: Sequence[_Point]) -> Cells:
    return Cells(
        n=np.array([cost.params(cost.shape_of(p.run)).total for p in points], dtype=float),
        d=np.array([_examples(p.run) for p in points], dtype=float),
        flops=np.array([run_flops(p.run) for p in points], dtype=float),
        runs=np.array([p.seeds for p in points]),
        budget=np.array([p.run.budget or np.nan for p in points]),
    )


def _on_zipf(points: Sequence[_Point], assumed: Assumption) -> Assumption:
    """Error on the Zipf task: a power of the examples alone, whose exponent is known for infinitely many tokens."""
    exponent = zipf.theoretical_exponent(points[0].run.zipf_alpha or zipf.DEFAULT_ALPHA)
    return replace(assumed, A=0.0, B=1.0, beta=exponent, floor=0.0, law_from="theory of the task")


def _undertrained(points: Sequence[_Point]) -> list[str]:
    shared = _kind(points) == "budget"
    budgets = [f" at {number(p.run.budget)} FLOPs" if shared else "" for p in points]
    labels = [model_name(p.run) + budget for p, budget in zip(points, budgets, strict=True)]
    steps = np.array([p.run.steps for p in points])
    epochs = np.array([_examples(p.run) / (p.run.dataset_size or np.inf) for p in points])
    return design.undertrained(labels, steps, epochs)


def _kind(points: Sequence[_Point]) -> str:
    """Which of `budget`, `epochs` and `examples` was declared: a resolved run has all, the others vary more."""
    return min(LENGTHS, key=lambda name: len(set(_merged([getattr(p.run, name) for p in points]))))


def _merged(values: Sequence[float]) -> list[float]:
    """The values, those within a tenth of one another as the largest: whole steps leave equal lengths apart."""
    largest: dict[float, float] = {}
    group: list[float] = []
    for value in sorted(set(values)):
        group = [*group, value] if group and value < 1.1 * group[0] else [value]
        largest |= dict.fromkeys(group, value)
    return [largest[value] for value in values]


def _confounded(points: Sequence[_Point]) -> list[str]:
    """Tuned settings that follow params or examples, so that no fit tells their effects apart."""
    if any(len(p.tuned) > 1 for p in points):
        return []
    axes: dict[str, list[float]] = {
        "params": [cost.params(cost.shape_of(p.run)).total for p in points],
        "examples": [_examples(p.run) for p in points],
    }
    warnings = []
    for name in dict.fromkeys((*_TUNED, *_NUMBERS)):
        values = [float(getattr(p.run, name) or 0.0) for p in points]
        for axis, places in axes.items():
            if min(values) > 0 and len(set(values)) > 1 and len(set(places)) > 1:
                r = float(np.corrcoef(np.log(np.array([values, places])))[0, 1])
                if abs(r) >= ALIGNED:
                    text = f"{name} and {axis} vary together (correlation {r:.2f})"
                    warnings.append(f"{text}: repeat one of the cells with the {name} of another")
    return warnings


def _several(names: Sequence[str], populations: Mapping[Any, list[RunSpec]]) -> list[str]:
    """A note where runs of several populations have a law each; the design is that of the largest."""
    if len(populations) == 1:
        return []
    names = [name for k, name in enumerate(names) if len({key[k] for key in populations}) > 1]
    largest = _largest(populations)[0]
    shown = ", ".join(f"{name} {getattr(largest, name)}" for name in names)
    return [f"{len(populations)} populations differ in {', '.join(names)}: a law each; these figures: {shown}"]


def _space(points: Sequence[_Point], cells: Cells) -> Space | None:
    """Larger designs of the same recipe, by more widths (or depths), lengths and seeds; None if not a full grid."""
    runs, kind = [p.run for p in points], _kind(points)
    widths, depths, subsets = (
        sorted({getattr(run, n) for run in runs}) for n in ("width", "depth", "dataset_size")
    )
    lengths = sorted(set(_merged([getattr(run, kind) for run in runs])))
    if len(points) != len(widths) * len(depths) * len(subsets) * len(lengths):
        return None
    shape, batch = cost.shape_of(runs[0]), runs[0].batch_size
    by_depth = len(widths) == 1 < len(depths)

    planned = {p.run.depth if by_depth else p.run.width for p in points}, set(lengths)

    def build(sizes: Sequence[float], lengths: Sequence[float], seeds: int) -> Cells | None:
        rows = []
        for size, other in itertools.product(sizes, widths if by_depth else depths):
            width, depth = (other, round(size)) if by_depth else (round(size), other)
            model = replace(shape, width=width, depth=depth)
            n, price = cost.params(model).total, cost.flops_per_example(model)
            for subset, length in itertools.product(subsets, lengths):
                seen = {"budget": length / price, "epochs": length * subset, "examples": length}[kind]
                steps = max(seen // batch, 1)
                d, added = steps * batch, not (size in planned[0] and length in planned[1])
                if added and design.is_undertrained(steps, d / (subset or d)):
                    return None
                rows.append((n, d, price * d, length if kind == "budget" else np.nan))
        n, d, flops, budget = np.array(rows, dtype=float).T
        return Cells(n, d, flops, np.full(n.size, seeds), budget)

    return Space(
        size="depth" if by_depth else "width",
        sizes=tuple(depths if by_depth else widths),
        length="budget" if kind == "budget" else "length",
        lengths=tuple(lengths),
        seeds=int(cells.runs.max()),
        build=build,
        round_size=round if by_depth else _round_width,
        unit="" if kind == "budget" else f" {kind}",
        price=max(len(p.tuned) for p in points),
    )


def _round_width(width: float) -> float:
    """The nearest width that trains as a stack: a multiple of 16, below that a whole number."""
    return max(16 * round(width / 16), 16) if width >= 12 else max(round(width), 1)
