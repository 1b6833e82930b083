"""Stack against solo: speed-up of K runs of one shape when they train as one model.

`./run python benchmarks/bench_stacks.py [--batch 32] [--rounds 5] [--widths 16 64 256]`

B-MLP of 2 blocks on digits, AdamW, one thread. In every round the K runs are trained one after another and as one
stack, in turn; the gain is the ratio of the training seconds, its median over rounds with the smallest and largest.
The last column is the stack size that the calibration (`isoflop doctor`) would choose for 64 runs, and its gain.

`--tiny` times sixteen runs of width 32 on digits, 20 epochs each, from the start of Python to the last result: one
process for each run, two at a time, against one process with one stack.
"""

import argparse
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from orchestrator.host.speed import keep, known_speed, measure
from trainer import RunSpec, train
from trainer.data.datasets import describe, resolve

SIZES = (1, 2, 4, 8, 16, 32, 64)


def seconds(specs: list[RunSpec]) -> float:
    return sum(result.seconds for result in train(specs, device="cpu", evaluations=2))


def gains(width: int, batch: int, rounds: int) -> dict[int, np.ndarray]:
    steps = int(np.clip(1e5 / width**1.5, 12, 150))
    runs = [RunSpec(width=width, batch_size=batch, examples=steps * batch, seed=seed) for seed in range(max(SIZES))]
    train(runs[0], device="cpu", evaluations=2)
    found: dict[int, list[float]] = {size: [] for size in SIZES}
    for _ in range(rounds):
        for size in SIZES:
            alone = sum(seconds([run]) for run in runs[: min(size, 2)]) * size / min(size, 2)
            found[size].append(alone / seconds(runs[:size]))
    return {size: np.array(values) for size, values in found.items()}


TINY = """
import sys, torch
from trainer import RunSpec, train
torch.set_num_threads(1)
train([RunSpec(width=32, epochs=20, batch_size=32, seed=int(seed)) for seed in sys.argv[1:]], device="cpu")
"""


def tiny(rounds: int) -> None:
    def process(*seeds: int) -> None:
        subprocess.run([sys.executable, "-c", TINY, *map(str, seeds)], check=True)

    def apart() -> None:
        with ThreadPoolExecutor(2) as two:
            list(two.map(process, range(16)))

    found: dict[str, list[float]] = {"a process each": [], "one stack": []}
    for _ in range(rounds):
        for name, work in (("a process each", apart), ("one stack", lambda: process(*range(16)))):
            began = time.perf_counter()
            work()
            found[name].append(time.perf_counter() - began)
    for name, seconds in found.items():
        print(f"- sixteen runs, {name}: {np.median(seconds):.1f} s ({min(seconds):.1f} to {max(seconds):.1f})")
    gain = np.divide(*found.values())
    print(
        f"- one stack is done {np.median(gain):.1f} x sooner ({gain.min():.1f} to {gain.max():.1f}), n = {rounds}"
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--widths", type=int, nargs="+", default=[16, 32, 64, 128, 256, 512, 1024])
    asked = parser.parse_args()
    torch.set_num_threads(1)
    if asked.tiny:
        tiny(asked.rounds)
        return
    speed = known_speed()
    if speed is None:
        keep(speed := measure("cpu"))
    print(f"Batch {asked.batch}, {asked.rounds} rounds: gain, median (smallest to largest)\n")
    print("| width | " + " | ".join(f"K = {size}" for size in SIZES) + " | automatic |\n|---" + "|---" * 8 + "|")
    for width in asked.widths:
        found = gains(width, asked.batch, asked.rounds)
        probe = RunSpec(width=width, batch_size=asked.batch, epochs=1)
        chosen = speed.stack_size(resolve(probe, describe(probe)), 64)
        cells = [f"{np.median(v):.2f} ({v.min():.2f} to {v.max():.2f})" for v in found.values()]
        nearest = max(size for size in SIZES if size <= chosen)
        print(f"| {width} | {' | '.join(cells)} | K = {chosen}: {np.median(found[nearest]):.2f} |", flush=True)


if __name__ == "__main__":
    main()
