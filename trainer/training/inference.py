"""Latency and throughput of the forward pass (paper, appendix)."""

from __future__ import annotations

import math
import statistics
import time
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import torch

from trainer import cost
from trainer.families import family_of
from trainer.spec import RunSpec
from trainer.training.gradients import precision as precision_of
from trainer.training.loop import pick_device
from trainer.training.tracker import device_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from trainer.cost import Shape
    from trainer.spec import Activation, Device, Precision


@dataclass(frozen=True)
class Timing:
    """Times of forward passes at one batch size.

    `latency` is the median over `n` passes in seconds, `low` and `high` are the 5 % and 95 % quantiles.
    `flops_per_second` counts the forward pass only, with 2 FLOPs per multiply-add.
    """

    batch_size: int
    latency: float
    low: float
    high: float
    n: int
    examples_per_second: float
    flops_per_second: float
    device: str
    threads: int
    precision: str


def measure_inference(
    shape: Shape,
    batch_sizes: Sequence[int] = (1, 64, 1024),
    *,
    device: Device = "auto",
    precision: Precision = "fp32",
    activation: Activation = "gelu",
    seconds: float = 1.0,
) -> list[Timing]:
    """Time the forward pass of a model of this shape, with the inputs already on the device.

    Each batch size is warmed up, then timed pass by pass for about `seconds`: at least 5 and at most 1000 passes.
    Parameters and inputs are random, since the time does not depend on their values.

    Raises SpecError if the device does not support the precision.

    Example:
        >>> [timing] = measure_inference(cost.Shape("b-mlp", 2, 64, 3072, 10), [32], device="cpu", seconds=0.1)
        >>> timing.batch_size, timing.n >= 5
        (32, True)
    """
    where = pick_device(device)
    cast = precision_of(RunSpec(precision=precision, epochs=1), where)
    shape = replace(shape, activation=activation)
    family = family_of(shape.family)
    row = family.initial_row(shape, seed=0).to(where)
    weights = {
        slot.name: row[slot.start : slot.start + math.prod(slot.shape)].view(1, *slot.shape)
        for slot in family.slots(shape)
    }
    timings = []
    for size in batch_sizes:
        x = torch.randn(1, size, shape.inputs, device=where)
        with torch.inference_mode(), cast():
            passes = sorted(_passes(partial(family.forward, weights, x, shape), where, seconds))
        latency, n = statistics.median(passes), len(passes)
        timings.append(
            Timing(
                batch_size=size,
                latency=latency,
                low=passes[n // 20],
                high=passes[n - 1 - n // 20],
                n=n,
                examples_per_second=size / latency,
                flops_per_second=2 * cost.macs(shape) * size / latency,
                device=device_name(where),
                threads=torch.get_num_threads(),
                precision=precision,
            )
        )
    return timings


def _passes(once: Callable[[], torch.Tensor], where: torch.device, seconds: float) -> Iterator[float]:
    """Yield the seconds of each pass; the first three are left out."""
    begun, n = time.perf_counter(), -3
    while n < 5 or (n < 1000 and time.perf_counter() - begun < seconds):
        start = time.perf_counter()
        once()
        if where.type == "cuda":
            torch.cuda.synchronize(where)
        elif where.type == "mps":
            torch.mps.synchronize()
        n += 1
        if n > 0:
            yield time.perf_counter() - start
