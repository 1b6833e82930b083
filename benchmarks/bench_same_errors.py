"""Whether a run of ours errs as much as the plain script's of benchmarks/sweep_peers.py: one cell, many seeds.

    ./run python benchmarks/bench_same_errors.py [--case cifar] [--seeds 100] [--width 32] [--epochs 2]

The cell is the first of a case of bench_sweep.py that has this width, trained by `trainer.train` and by
`sweep_peers.trained` with so many seeds, on the same rows seed by seed. Prints the mean error of both, the
difference with its standard error over seeds, and how far errors of seeds spread.
"""

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import bench_sweep
import numpy as np
import sweep_peers
import torch

import trainer
from orchestrator import plan, read_sweep
from trainer.data import datasets


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--case", choices=["quickstart", "cifar"], default="cifar")
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--family", choices=["b-mlp", "s-mlp"], default="b-mlp")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    cells = plan(read_sweep(bench_sweep.CASES[asked.case])).cells.values()
    wanted = (asked.family, asked.width, asked.epochs)
    firsts = {
        (runs[0].family, runs[0].width, round(runs[0].epochs or 0)): runs[0] for runs in reversed(list(cells))
    }
    first = firsts.get(wanted)
    if first is None:
        parser.error(f"{asked.case} has no cell of {asked.family}, width {asked.width}, {asked.epochs} epochs")
    began = time.process_time()
    specs = [replace(first, seed=seed) for seed in range(asked.seeds)]
    arrays = datasets.load(first)
    with tempfile.TemporaryDirectory() as folder:
        bench_sweep.prepared(bench_sweep.CASES[asked.case], Path(folder))
        data = sweep_peers.Data(folder, torch.device("cpu"))
        theirs = np.array([sweep_peers.trained(bench_sweep.for_peers(spec, arrays), data) for spec in specs])
    results = [done for i in range(0, len(specs), 16) for done in trainer.train(specs[i : i + 16], device="cpu")]
    ours = np.array([result.error for result in results])
    gap, error = ours.mean() - theirs.mean(), np.hypot(*(arm.std(ddof=1) for arm in (ours, theirs)))
    error /= np.sqrt(asked.seeds)
    print(f"{asked.case}, {trainer.spec.model_name(first)}, {asked.epochs} epochs, {asked.seeds} seeds, percent:")
    print(f"ours {100 * ours.mean():.3f}, seeds spread by {100 * ours.std(ddof=1):.2f} (standard deviation)")
    print(f"plain script {100 * theirs.mean():.3f}, seeds spread by {100 * theirs.std(ddof=1):.2f}")
    print(f"difference {100 * gap:+.3f} +- {100 * error:.3f} ({gap / error:+.1f} standard errors)")
    print(f"{time.process_time() - began:.0f} s of CPU time")


if __name__ == "__main__":
    main()
