"""Measures the speed of this machine: a few steps of stacks of all kinds, in at most three seconds of training."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from orchestrator.host.machine_cache import code_version
from orchestrator.host.speed import CHUNK, Speed, Work, evaluation_work, start_work, step_work
from trainer.data.cache_entries import cache_root
from trainer.spec import RunSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from trainer.spec import Augment, Device, Precision

SECONDS = 2.0
"""Seconds of steps in which all probes are timed; what is around them takes another."""
FEWEST = 4
"""Steps of a probe that are timed at least."""
ASIDE = 0.3
"""Weight of the time of an evaluation or a start beside that of a step."""
TRAIN, TEST = 2048, 1024
"""Random images that probes train and are tested on."""


class Probe(NamedTuple):
    """A stack that is timed."""

    width: int
    batch: int
    depth: int = 1
    runs: int = 1
    dataset: str = "digits"
    augment: Augment = "none"
    mixup: float = 0.0
    precision: Precision = "fp32"


CPU_PROBES = [
    *(Probe(16, 32), Probe(16, 32, 6), Probe(16, 32, 2, 32), Probe(64, 32, 2, 8), Probe(64, 64, 2)),
    *(Probe(256, 64, 2), Probe(128, 256, 1, 4), Probe(512, 128), Probe(32, 512, 2), Probe(1024, 32)),
    *(Probe(32, 64, 2, 8, "random"), Probe(128, 256, 2, 1, "random")),
    Probe(32, 256, 1, 4, "random", "flip+crop"),
    Probe(32, 256, 1, 1, "random", "flip+resized-crop"),
    Probe(32, 256, 1, 1, "random", "flip+crop", 0.8),
]
GPU_PROBES = [
    *(Probe(16, 32, 2), Probe(64, 512, 2), Probe(64, 512, 6), Probe(1024, 512, 2), Probe(4096, 512, 2)),
    *(Probe(2048, 4096), Probe(16, 32, 2, 64), Probe(64, 512, 2, 16), Probe(256, 512, 2, 8)),
    *(Probe(64, 512, 2, 8, "random"), Probe(256, 2048, 2, 1, "random")),
    Probe(64, 512, 2, 8, "random", "flip+crop"),
    Probe(64, 512, 2, 4, "random", "flip+resized-crop"),
    Probe(64, 512, 2, 4, "random", "flip+crop", 0.8),
]
_PRECISIONS: dict[str, tuple[Precision, ...]] = {"cpu": ("bf16",), "cuda": ("bf16", "tf32")}


class Timed(NamedTuple):
    """What a probe took: seconds of a step, of an evaluation, and of a run's start, with the work of each."""

    rows: list[tuple[Work, float]]

    @property
    def step(self) -> float:
        """Seconds of a step."""
        return self.rows[0][1]


def measure(device: Device = "auto", time_probe: Callable[[Probe, Device, float], Timed] | None = None) -> Speed:
    """Return this machine's speed by timing probes on one worker's share of it.

    On CPUs the time is that of the training thread, which other processes do not lengthen as they do wall time.
    """
    import torch

    from trainer.training.loop import pick_device
    from trainer.training.tracker import device_name

    where = pick_device(device)
    probes = GPU_PROBES if where.type == "cuda" else CPU_PROBES
    wide = max(probes, key=lambda probe: probe.width**2 * probe.batch)
    others = [wide._replace(precision=other) for other in _PRECISIONS.get(where.type, ())]
    timer, share = time_probe or timed, SECONDS / (len(probes) + len(others))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        timer(probes[0], device, 0.0)  # imports, and starts threads
        found = {probe: timer(probe, device, share) for probe in (*probes, *others)}
    finally:
        torch.set_num_threads(threads)
    speed = fitted(device_name(where), [row for probe in probes for row in found[probe].rows])
    products = speed.flop * found[wide].rows[0][0].flop  # seconds of the widest probe's
    saved = {
        str(other.precision): (found[wide].step - found[other].step) / products for other in others if products
    }
    shares = {precision: max(0.01, 1 - share) for precision, share in saved.items()}
    return replace(speed, flop_share=shares, code=code_version())


def fitted(device: str, rows: Sequence[tuple[Work, float]]) -> Speed:
    """Return the speed whose prices explain the seconds of some work with the least relative errors."""
    import numpy as np
    from scipy.optimize import nnls

    design, seconds = np.array([work for work, _ in rows]), np.array([seconds for _, seconds in rows])
    steps = design[:, Work._fields.index("weight")] > 0
    relative, weight = design / seconds[:, None], np.where(steps, 1.0, ASIDE)
    scale = np.where(relative.max(axis=0) > 0, relative.max(axis=0), 1.0)
    solution, _ = nnls(relative / scale * weight[:, None], weight)
    prices: dict[str, Any] = dict(zip(Work._fields, map(float, solution / scale), strict=True))
    left = relative[steps] / scale @ solution - 1
    return Speed(device, **prices, spread=float(np.sqrt(np.mean(left**2))))


def timed(probe: Probe, device: Device, seconds: float) -> Timed:
    """Train a probe for some seconds and return the medians of what it did."""
    import numpy as np

    from trainer.data.datasets import describe, resolve
    from trainer.result import Record
    from trainer.training.loop import pick_device, training

    spec = RunSpec(
        dataset=probe.dataset,
        path=str(random_images()) if probe.dataset == "random" else None,
        examples=probe.batch * 10**6,
        **{name: getattr(probe, name) for name in ("width", "depth", "augment", "mixup", "precision")},
        batch_size=probe.batch,
    )
    run = resolve(spec, describe(spec))
    gpu = pick_device(device).type == "cuda"
    clock, ticks = (_synchronised if gpu else time.thread_time), list[float]()
    begun, evaluated = clock(), 0

    def over() -> bool:
        return len(ticks) >= evaluated + FEWEST and ticks[-1] - ticks[evaluated] >= seconds

    stack = [replace(run, seed=seed) for seed in range(probe.runs)]
    events = training(stack, device=device, evaluations=1, on_step=lambda: ticks.append(clock()), should_stop=over)
    for event in events:  # the first records are of an evaluation after the first step
        if isinstance(event, Record) and not evaluated:
            evaluated = len(ticks)
    steps = np.diff(ticks[evaluated:])
    step = float(np.median(steps[len(steps) // 3 :]))  # by then all is warm, and captured
    tested = run.test_examples or 0
    evaluation = evaluation_work(run, float(probe.runs * tested), -(-tested // CHUNK))
    rows = [(step_work(run, probe.runs), step), (evaluation, ticks[evaluated - 1] - ticks[0])]
    start = ticks[0] - begun - step
    return Timed([*rows, (start_work(run, probe.runs), start)] if start > 0 else rows)


def _synchronised() -> float:
    import torch

    torch.cuda.synchronize()
    return time.perf_counter()


def random_images() -> Path:
    """Return a file of random images of CIFAR's size in the cache, written once."""
    import numpy as np

    file = cache_root() / "probe" / "random.npz"
    if not file.exists():
        draw = np.random.default_rng(0)
        images = draw.integers(0, 256, (TRAIN + TEST, 32, 32, 3), np.uint8)
        labels = draw.integers(0, 10, len(images))
        file.parent.mkdir(parents=True, exist_ok=True)
        aside = file.with_name(f"{os.getpid()}.npz")
        np.savez(
            aside, x_train=images[:TRAIN], y_train=labels[:TRAIN], x_test=images[TRAIN:], y_test=labels[TRAIN:]
        )
        aside.replace(file)
    return file
