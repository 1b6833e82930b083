"""The speed of this machine: what a stack does, what that costs, the runs per stack that pay."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from orchestrator.host.machine_cache import code_version, remember, remembered
from orchestrator.host.timings import Correction, Corrections, Timings, kind_of, known_timings
from trainer import cost
from trainer.evaluations import evaluated_examples
from trainer.trunk import phases

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from trainer.spec import RunSpec

MOST = 128
"""Most runs in a stack. 128 take 0.8 of the CPU time of 64 at width 16, 0.9 to 1.0 at 32 and 1.1 at 64, and 256 no
less (batch 32, one core)."""
NEARLY = 1.05
"""A stack's size is the smallest whose cost per run is within this factor of the best."""
MODEL, OLDER = 0.2, 0.5
"""Least uncertainty of a measured speed, and of one that was measured with other code: by prices alone predictions
were off by 5 to 29 % (benchmarks/bench_predictions.py), however well the prices explain the probes."""


class Work(NamedTuple):
    """What is done, counted; each count has a price in Speed.

    layer: passes through a layer, whatever its size; run: steps of single runs; value: activations; weight:
    parameters that the optimiser updates; read: values of examples that are read and normalised; moved, resampled,
    mixed: those that are flipped or cropped, resized, mixed up; start: runs that begin; drawn: their parameters;
    flop: FLOPs in fp32.
    """

    layer: float = 0.0
    run: float = 0.0
    value: float = 0.0
    weight: float = 0.0
    read: float = 0.0
    moved: float = 0.0
    resampled: float = 0.0
    mixed: float = 0.0
    start: float = 0.0
    drawn: float = 0.0
    flop: float = 0.0

    def plus(self, other: Work, times: float = 1.0) -> Work:
        """Return the sum of this and `times` another."""
        return Work(*(a + times * b for a, b in zip(self, other, strict=True)))


@dataclass(frozen=True)
class Speed:
    """Prices of Work on one worker of a machine, in seconds.

    A FLOP in another precision than fp32 takes the share `flop_share` of one. Fitted by non-negative least squares
    of relative errors to the steps that `orchestrator.host.calibration` timed; `spread` is the relative error left
    of a step. Seconds of stacks are corrected by those of stacks that finished on this machine, if any are
    `learned`.
    """

    device: str
    layer: float
    value: float
    weight: float
    flop: float
    spread: float
    flop_share: Mapping[str, float] = field(default_factory=dict)
    run: float = 0.0
    read: float = 0.0
    moved: float = 0.0
    resampled: float = 0.0
    mixed: float = 0.0
    start: float = 0.0
    drawn: float = 0.0
    code: str = ""
    learned: Corrections | None = field(default=None, compare=False, repr=False)

    def modelled(self, work: Sequence[float]) -> float:
        """Return the seconds of this work."""
        prices: Iterator[float] = (getattr(self, name) for name in Work._fields)
        return sum(price * count for price, count in zip(prices, work, strict=True))

    def work(self, stack: Sequence[RunSpec]) -> Work:
        """Return what training a stack does, evaluations included; what its runs share counts once.

        FLOPs in a faster precision count as fewer.
        """
        return stack_work(stack, self.flop_share.get(stack[0].precision, 1.0))

    def seconds(self, stack: Sequence[RunSpec]) -> float:
        """Return the seconds of a stack, evaluations included."""
        return self.modelled(self.work(stack)) * self.correction(stack).factor

    def correction(self, stack: Sequence[RunSpec]) -> Correction:
        """Return the factor on the modelled seconds of such a stack, and the uncertainty of the product."""
        return Correction(1.0, self.spread) if self.learned is None else self.learned.at(kind_of(stack))

    def after(self, timings: Timings) -> Speed:
        """Return this, corrected by stacks that finished on this machine."""
        return replace(self, learned=Corrections(timings.ratios(self.modelled), self.spread))

    def stack_size(self, run: RunSpec, wanted: int) -> int:
        """Return how many runs of this shape to train as one stack: `wanted`, MOST or a power of two.

        The smallest with which a run costs at most NEARLY of what it costs in the best, so that stacks are no
        larger than they gain by; 1 where even the best gains less than that.
        """
        most = min(wanted, MOST)
        sizes = [*(size for size in (1, 2, 4, 8, 16, 32, 64) if size < most), most]
        if not cost.stackable(cost.shape_of(run), run.batch_size) or wanted < 2:
            return 1
        share = self.flop_share.get(run.precision, 1.0)
        each = [self.modelled(step_work(run, size, share)) / size for size in sizes]
        best: float = min(each)
        return sizes[next(i for i, price in enumerate(each) if price <= NEARLY * best)]

    @property
    def flops_per_second(self) -> float:
        """FLOP/s of a model so wide that its products take all the time."""
        return 1 / self.flop if self.flop else float("inf")

    def to_dict(self) -> dict[str, Any]:
        """Return the prices as plain data, without what was learned."""
        return asdict(replace(self, learned=None))


KEPT = 3
"""Measurements of this machine that are kept."""
ORDINARY = Work(layer=9, run=8, value=3e5, weight=2e5, read=5e4, flop=1e9)
"""About a step of eight runs of width 64, by which measurements are compared."""
TYPICAL = Speed("cpu", layer=4e-4, value=6e-9, weight=8e-9, flop=2e-11, spread=1.0)
"""Proportions of a step's costs for a machine that was not measured: good for ratios of times, not for times."""


def known_speed() -> Speed | None:
    """Return the speed of this machine, as measured and corrected by stacks that finished; None if neither is."""
    timings = known_timings()
    if not (kept := _measured()):
        return TYPICAL.after(timings) if timings.stacks else None
    measured = sorted(kept, key=lambda speed: speed.modelled(ORDINARY))[(len(kept) - 1) // 2]
    least = MODEL if measured.code == code_version() else OLDER
    return replace(measured, spread=max(measured.spread, least)).after(timings)


def keep(speed: Speed) -> None:
    """Save a measured speed of this machine in the cache, beside the last ones of the same code and device.

    The lower median of KEPT counts, so one that was measured while the machine was busy spoils no prediction.
    """
    alike = [kept for kept in _measured() if (kept.code, kept.device) == (speed.code, speed.device)]
    remember("speed", {"measured": [kept.to_dict() for kept in [*alike, speed][-KEPT:]]})


def _measured() -> list[Speed]:
    try:
        return [Speed(**speed) for speed in remembered("speed").get("measured", [])]
    except TypeError:
        return []


def step_work(run: RunSpec, runs: int, share: float = 1.0) -> Work:
    """Return what one step of a stack of `runs` runs does; a FLOP counts as `share` of one."""
    price = cost.costs(cost.shape_of(run))
    examples = float(runs * run.batch_size)
    read = examples * (run.inputs or 0)
    return Work(
        layer=float(price.layers),
        run=float(runs),
        value=examples * price.values,
        weight=float(runs * price.params.total),
        read=read,
        moved=read if run.augment in MOVED else 0.0,
        resampled=read if run.augment in RESAMPLED else 0.0,
        mixed=read if run.mixup else 0.0,
        flop=examples * price.flops * share,
    )


MOVED, RESAMPLED = ("flip", "crop", "flip+crop"), ("resized-crop", "flip+resized-crop")
"""Augmentations that move pixels, and those that interpolate between them."""


def evaluation_work(run: RunSpec, examples: float, passes: float) -> Work:
    """Return what evaluations on so many examples of all runs do, in so many forward passes, in fp32."""
    price = cost.costs(cost.shape_of(run))
    return Work(
        layer=passes * price.layers / 3,
        value=examples * price.values / 2,
        read=examples * (run.inputs or 0),
        flop=examples * 2 * price.macs,
    )


CHUNK = 1024  # trainer.training.evaluate.CHUNK, which imports torch


def start_work(run: RunSpec, runs: int) -> Work:
    """Return what the start of a stack does."""
    return Work(start=float(runs), drawn=float(runs * cost.params(cost.shape_of(run)).total))


def stack_work(stack: Sequence[RunSpec], share: float = 1.0) -> Work:
    """Return what training a stack does, its evaluations included; a FLOP of a step counts as `share` of one."""
    total = start_work(stack[0], len(stack))
    for phase in phases(stack):
        total = total.plus(step_work(stack[0], phase.rows, share), phase.steps)
    lengths = Counter((run.steps, run.dataset_size) for run in stack)  # all else that counts is alike in a stack
    like = {(run.steps, run.dataset_size): run for run in stack}
    evaluated = {length: evaluated_examples(like[length]) for length in lengths}
    examples = float(sum(evaluated[length] * runs for length, runs in lengths.items()))
    return total.plus(evaluation_work(stack[0], examples, max(evaluated.values()) / CHUNK))
