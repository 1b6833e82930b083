"""The smallest run of each of the paper's sweep files, trained and compared with the figures of the paper.

`ISOFLOP_DATA=... ./run python benchmarks/bench_paper.py sweeps/paper-*.yaml [--precision bf16] [--most 1e15]`

From every file, the run with the fewest FLOPs whose data set is present and that does not begin with another run,
up to `--most` FLOPs. With `--precision` the run differs from the file's, and the output says so. `--prices` prints
what each file costs on two GPUs instead, and trains nothing.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import torch

from orchestrator.sweep.planner import plan, run_flops
from orchestrator.sweep.reader import load_sweep
from orchestrator.text import duration
from trainer import RunSpec, cost, model_name, train
from trainer.data.datasets import UNSEEN

RATES = {"RTX A5000, 24 GB": 450.0, "H100, 80 GB": 450.0 * 2.62e4 / 4.01e5}
"""Seconds of an epoch of ImageNet-21k with B-12/Wi-1024 at 64x64: the paper's, and by the images a second of the
paper (2.62e4) and of an H200 without augmentation (4.01e5, bf16, batches of 16384, n = 1, 2026-11-28)."""

EXAMPLES = 11_801_680
"""Training images of ImageNet-21k."""


def print_prices(files: list[Path]) -> None:
    """Print the FLOPs of each file, and its time on the GPUs of RATES at the FLOP/s of a large model."""
    largest = RunSpec(
        dataset="imagenet21k", depth=12, width=1024, resolution=64, inputs=12_288, classes=11_230, steps=1
    )
    epoch = EXAMPLES * cost.flops_per_example(cost.shape_of(largest))
    print("| sweep | runs | FLOPs | " + " | ".join(RATES) + " |\n|---|---|---|" + "---|" * len(RATES))
    for file in files:
        planned = plan(load_sweep(file), decode=False)
        times = " | ".join(duration(planned.flops / epoch * seconds) for seconds in RATES.values())
        print(f"| `{file.name}` | {len(planned.runs)} | {planned.flops:.3g} | {times} |")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--precision", choices=("fp32", "bf16"))
    parser.add_argument("--most", type=float, default=1e15)
    parser.add_argument("--prices", action="store_true")
    asked = parser.parse_args()
    if asked.prices:
        print_prices(asked.files)
        return
    torch.set_num_threads(1)
    print("| sweep | run | epochs | lr, batch | precision | FLOPs | error | seconds | GFLOP/s |")
    print("|---|---|---|---|---|---|---|---|---|")
    for file in asked.files:
        planned = plan(load_sweep(file), decode=False)
        here = [run for run in planned.runs if run.fingerprint != UNSEEN and not run.parent]
        here = [run for run in here if run_flops(run) <= asked.most]
        if not here:
            print(f"| {planned.sweep} | none: no data here, or above {asked.most:g} FLOPs |", flush=True)
            continue
        run = min(here, key=run_flops)
        if asked.precision:
            run = replace(run, precision=asked.precision)
        end = train(run, device="cpu", evaluations=2)
        print(
            f"| {planned.sweep} | {model_name(run)} on {run.dataset}, {run.augment} | {run.epochs:.1f} | "
            f"{run.lr:g}, {run.batch_size} | {run.precision} | {end.flops:.3g} | {end.error:.4f} | "
            f"{end.seconds:.0f} | {end.flops / end.seconds / 1e9:.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
