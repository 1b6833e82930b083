"""The smallest run of each of the paper's sweep files, trained and compared with the figures of the paper.

`ISOFLOP_DATA=... ./run python benchmarks/bench_paper.py sweeps/paper-*.yaml [--precision bf16] [--most 1e15]`

From every file, the run with the fewest FLOPs whose data set is present and that does not begin with another run,
up to `--most` FLOPs. With `--precision` the run differs from the file's, and the output says so.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import torch

from orchestrator.sweep.planner import plan, run_flops
from orchestrator.sweep.reader import load_sweep
from trainer import model_name, train
from trainer.data.datasets import UNSEEN


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--precision", choices=("fp32", "bf16"))
    parser.add_argument("--most", type=float, default=1e15)
    asked = parser.parse_args()
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
