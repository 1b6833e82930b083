"""The measured speed of this machine: seconds of a step, runs per stack, slots per GPU. Kept in the cache."""

from __future__ import annotations

import json
import os
import platform
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from trainer import cost
from trainer.data.cache_entries import cache_root
from trainer.host.limits import cores
from trainer.spec import RunSpec
from trainer.trunk import segments

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from trainer.spec import Device, Precision

SLOTS_PER_GPU, MOST_SLOTS_PER_GPU = 4, 8
"""Slots of a GPU where nothing was measured, and the most that are tried (slots_that_pay)."""
MOST = 64
"""Most runs in a stack: no measurement gained from more (benchmarks/bench_stacks.py)."""
GROWTH = 1.1
"""Factor by which twice the slots must raise the aggregate FLOP/s."""
NEARLY = 1.1
"""A stack's size is the smallest whose cost per run is within this factor of the best."""


@dataclass(frozen=True)
class Speed:
    """Seconds of a training step on one worker, as a sum of what it does.

    layer: seconds for every layer of a model, whatever its size (kernel starts); value: for every activation;
    weight: for every parameter (the optimiser); flop: for every FLOP in fp32, of which one in another precision
    takes the share `flop_share`. Fitted by non-negative least squares of relative errors to the steps that
    `measure` timed; `spread` is the largest relative error left.
    """

    device: str
    layer: float
    value: float
    weight: float
    flop: float
    spread: float
    flop_share: Mapping[str, float] = field(default_factory=dict)

    def _step_seconds(self, run: RunSpec, runs: int) -> float:
        """Seconds of one step of a stack of `runs` runs of this shape."""
        costs = self.layer, self.value, self.weight, self.flop * self.flop_share.get(run.precision, 1.0)
        return sum(price * count for price, count in zip(costs, step_counts(run, runs), strict=True))

    def seconds(self, stack: Sequence[RunSpec]) -> float:
        """Return the seconds of training a stack, without evaluation; what its runs share counts once."""
        return sum(
            ((segment.runs[0].steps or 0) - segment.begin) * self._step_seconds(segment.runs[0], len(segment.runs))
            for segment in segments(stack)
        )

    def stack_size(self, run: RunSpec, wanted: int) -> int:
        """Return how many runs of this shape to train as one stack: `wanted`, MOST or a power of two.

        The smallest with which a run costs at most NEARLY of what it costs in the best, so that stacks are no
        larger than they gain by; 1 where even the best gains less than that.
        """
        most = min(wanted, MOST)
        sizes = [*(size for size in (1, 2, 4, 8, 16, 32) if size < most), most]
        if not cost.stackable(cost.shape_of(run), run.batch_size) or wanted < 2:
            return 1
        each = [self._step_seconds(run, size) / size for size in sizes]
        best: float = min(each)
        return sizes[next(i for i, price in enumerate(each) if price <= NEARLY * best)]

    @property
    def flops_per_second(self) -> float:
        """FLOP/s of a model so wide that its products take all the time."""
        return 1 / self.flop if self.flop else float("inf")


TYPICAL = Speed("cpu", layer=4e-4, value=6e-9, weight=8e-9, flop=2e-11, spread=1.0)
"""Proportions of a step's costs for a machine that was not measured: good for ratios of times, not for times."""


def step_counts(spec: RunSpec, runs: int) -> tuple[float, float, float, float]:
    """What one step of a stack does: layers, activations, parameters, FLOPs."""
    shape = cost.shape_of(spec)
    price, examples = cost.costs(shape), float(runs * spec.batch_size)
    return float(price.layers), examples * price.values, float(runs * price.params.total), examples * price.flops


def measure(device: Device = "auto") -> Speed:
    """Time a few steps of small and large models on one worker's share of this machine; about ten seconds."""
    import numpy as np
    import torch
    from scipy.optimize import nnls

    from trainer.training.loop import pick_device
    from trainer.training.tracker import device_name

    where = pick_device(device)
    probes = _GPU_PROBES if where.type == "cuda" else _PROBES
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        timed = [time_step(probe, device) for probe in probes]
        wide = max(range(len(probes)), key=lambda i: timed[i][0][-1])
        others = {other: time_step(probes[wide], device, other)[1] for other in _PRECISIONS.get(where.type, ())}
    finally:
        torch.set_num_threads(threads)
    design, seconds = np.array([row for row, _ in timed]), np.array([step for _, step in timed])
    scale = design.max(axis=0)
    solution, _ = nnls(design / scale / seconds[:, None], np.ones(len(seconds)))
    left = design / scale @ solution / seconds - 1
    layer, value, weight, flop = map(float, solution / scale)
    products = flop * design[wide, -1]  # seconds that the widest probe's took
    saved = {str(other): (seconds[wide] - step) / products for other, step in others.items() if products}
    shares = {other: max(0.01, float(1 - share)) for other, share in saved.items()}
    return Speed(device_name(where), layer, value, weight, flop, float(np.abs(left).max()), shares)


def time_step(
    probe: Sequence[int], device: Device, precision: Precision = "fp32"
) -> tuple[tuple[float, ...], float]:
    """What a step of a stack does, and its seconds from the fifth step on: by then all is warm, and captured."""
    from trainer.data.datasets import describe, resolve
    from trainer.training.loop import pick_device, train

    width, batch, depth, runs = probe
    steps = 40 if pick_device(device).type == "cpu" else 240
    spec = RunSpec(width=width, batch_size=batch, depth=depth, examples=steps * batch, precision=precision)
    results = train([replace(spec, seed=seed) for seed in range(runs)], device=device, evaluations=6)
    begun = [next(record for record in result.history if record.step >= _WARM) for result in results]
    last = [result.history[-1] for result in results]
    seconds = sum(end.seconds - begin.seconds for begin, end in zip(begun, last, strict=True))
    return step_counts(resolve(spec, describe(spec)), runs), seconds / (last[0].step - begun[0].step)


_WARM = 5
_PRECISIONS: dict[str, tuple[Precision, ...]] = {"cpu": ("bf16",), "cuda": ("bf16", "tf32")}
_PROBES = [
    *((16, 32, 2, 1), (64, 64, 2, 1), (256, 64, 2, 1), (512, 256, 1, 1), (1024, 64, 1, 1)),
    *((16, 32, 6, 1), (64, 32, 2, 8), (32, 512, 2, 1), (256, 512, 2, 1)),
]
_GPU_PROBES = [
    *((16, 32, 2, 1), (64, 512, 2, 1), (64, 512, 6, 1), (1024, 512, 2, 1), (4096, 512, 2, 1), (2048, 4096, 1, 1)),
    *((16, 32, 2, 64), (64, 512, 2, 16), (256, 512, 2, 8)),
]
"""Width, batch size, depth and number of runs."""


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


def known_speed() -> Speed | None:
    """Return the speed that was measured on this machine, None where none was."""
    try:
        speeds: dict[str, Any] = json.loads(_file().read_text())
        return Speed(**speeds[_machine()])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def keep(speed: Speed) -> None:
    """Save a measured speed of this machine in the cache."""
    file = _file()
    try:
        speeds = json.loads(file.read_text())
    except (OSError, ValueError):
        speeds = {}
    file.parent.mkdir(parents=True, exist_ok=True)
    aside = file.with_suffix(f".{os.getpid()}")
    aside.write_text(json.dumps({**speeds, _machine(): asdict(speed)}, indent=1))
    aside.replace(file)


def _file() -> Path:
    return cache_root() / "speed.json"


def _machine() -> str:
    return f"{platform.node()} {platform.machine()} {cores()} cores"
