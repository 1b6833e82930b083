"""Rate of training with augmentation as a share of the rate without, by recipe and width, side by side in one run.

`./run python benchmarks/bench_augment.py [PATH] [--device cpu] [--rounds 7] [--widths 32 64 128] [--part full]`

On a CPU (one thread): B-MLP of 2 blocks, AdamW, batch size 256, CPU time. On CUDA: B-6/Wi-1024 on images of 32 x 32
at batch size 4096, and with `--part full` B-12/Wi-1024 on images of 64 x 64 at batch size 16384, LION in bf16, wall
time. Images are random, or those of a data set at PATH. In every round each recipe trains as many steps as
`none`, one after the other; figures are medians over rounds of the time with over the time without (smallest to
largest), after a round that warms. What is drawn for 64 steps is part of it.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from trainer import RunSpec
from trainer.data import datasets
from trainer.data.batches import BLOCK, Batches, loader_of, on_device
from trainer.host.allocator import keep_freed_memory
from trainer.training.gradients import Gradients, precision
from trainer.training.optimise import Update, make_optimizer
from trainer.training.stack import Stack

RECIPES: dict[str, dict[str, Any]] = {
    "none": {},
    "flip+crop": {"augment": "flip+crop"},
    "resized-crop": {"augment": "resized-crop"},
    "mixup": {"mixup": 0.8},
    "flip+resized-crop+mixup": {"augment": "flip+resized-crop", "mixup": 0.8},
}
LARGE = {"precision": "bf16", "optimizer": "lion", "lr": 5e-5, "label_smoothing": 0.3, "width": 1024}
PARTS: dict[str, dict[str, Any]] = {
    "cifar": {**LARGE, "depth": 6, "batch_size": 4096},
    "full": {**LARGE, "depth": 12, "batch_size": 16384},
}


def write_images(folder: str, side: int, classes: int) -> str:
    """20,000 random images."""
    draw, file = np.random.default_rng(0), Path(folder) / f"random{side}.npz"
    x, y = draw.integers(0, 256, (21_000, side, side, 3), np.uint8), np.arange(21_000) % classes
    np.savez(file, x_train=x[:20_000], y_train=y[:20_000], x_test=x[20_000:], y_test=y[20_000:])
    return str(file)


def stepper(spec: RunSpec, device: torch.device, runs: int) -> Callable[[int], float]:
    """A function that trains so many steps more and returns the seconds that they took."""
    info = datasets.describe(spec)
    specs = [datasets.resolve(replace(spec, seed=seed), info) for seed in range(runs)]
    arrays = datasets.load(spec)
    data = on_device(arrays, device, loader_of(specs[0], arrays, device))
    batches = Batches(data, specs, [datasets.split(arrays, one) for one in specs])
    stack = Stack(specs, device)
    gradients = Gradients(stack, batches, specs, precision(specs[0], device))
    update = Update(specs, stack.rows, make_optimizer(specs, stack.rows, stack.slots))
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    step = 0

    def train(steps: int) -> float:
        nonlocal step
        wait(device)
        began = clock()
        for _ in range(steps):
            gradients([step] * runs)
            update([step] * runs, gradients.engine)
            step += 1
        wait(device)
        return clock() - began

    return train


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def measure(common: dict[str, Any], device: torch.device, runs: int, rounds: int) -> None:
    """Print a row of a table for each recipe."""
    arms = {
        name: stepper(RunSpec(**common, examples=10**9, **recipe), device, runs) for name, recipe in RECIPES.items()
    }
    times: dict[str, list[float]] = {name: [] for name in arms}
    for _ in range(rounds + 1):
        for name, train in arms.items():
            times[name].append(train(BLOCK))
    for name in arms:
        own, plain = np.array(times[name][1:]), np.array(times["none"][1:])
        ratio, rate = own / plain, BLOCK * common["batch_size"] * runs / np.median(own)
        spread = f"{np.median(ratio):.2f} ({ratio.min():.2f} to {ratio.max():.2f})"
        print(
            f"| {common['width']} | {name} | {np.median(own) / BLOCK * 1e3:.2f} | {rate:.3g} | {spread} |",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("path", nargs="?")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--widths", type=int, nargs="+", default=[32, 64, 128])
    parser.add_argument("--part", choices=PARTS, default="cifar")
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda needs a CUDA device, and torch finds none")
    device = torch.device(options.device)
    if device.type == "cpu":
        torch.set_num_threads(1)
        keep_freed_memory()
        settings = [{"width": width, "depth": 2, "batch_size": options.batch_size} for width in options.widths]
    else:
        settings = [PARTS[options.part]]
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    versions = f"torch {torch.__version__}, {time.strftime('%Y-%m-%d')}"
    print(f"{name}, {versions}, {options.runs} runs, {options.rounds} rounds\n")
    print("| width | recipe | step, ms | examples/s | time / time without |\n|---|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        full = device.type != "cpu" and options.part == "full"
        path = options.path or write_images(folder, 64 if full else 32, 11_230 if full else 10)
        for common in settings:
            measure({**common, "dataset": "random", "path": path}, device, options.runs, options.rounds)


if __name__ == "__main__":
    main()
