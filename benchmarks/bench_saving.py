"""What checkpoints cost a stack, and the longest that a kill would have cost it.

    ./run python benchmarks/bench_saving.py [--seconds 10] [--rounds 3] [--folder DIR]

Stacks of several sizes train on digits for about so many seconds, alternately with and without checkpoints in a
folder of a file system. `cost` is the CPU time with them over that without them, less 1. `lost` is
the longest time between two saves, or between the last and the end. Medians of the rounds, with the range.
"""

import argparse
import itertools
import os
import statistics
import tempfile
import time
from pathlib import Path

import torch

from trainer import RunSpec, train
from trainer.checkpoints.checkpoints import Checkpoints

STACKS = ((1, 64), (1, 512), (16, 64), (64, 64), (64, 16))


def trained(runs, width, epochs, where):
    """Wall and CPU seconds of a stack, and when it was saved."""
    specs = [
        RunSpec(dataset="digits", width=width, epochs=epochs, batch_size=32, seed=seed) for seed in range(runs)
    ]
    saved, save = [], Checkpoints.save

    def noted(self, states):
        saved.append(time.perf_counter())
        save(self, states)

    Checkpoints.save = noted
    wall, cpu = time.perf_counter(), time.process_time()
    train(specs, device="cpu", checkpoints=where)
    ended, spent = time.perf_counter(), time.process_time() - cpu
    Checkpoints.save = save
    return ended - wall, spent, [wall, *saved, ended]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where a temporary folder for checkpoints is made")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    trained(1, 16, 1, None)
    print("| runs | width | s | saves | cost | lost, s | load |\n|---|---|---|---|---|---|---|")
    for runs, width in STACKS:
        _, each, _ = trained(runs, width, 2, None)
        epochs = max(2, round(2 * asked.seconds / each))
        costs, lost, saves, seconds = [], [], [], []
        for _ in range(asked.rounds):
            with tempfile.TemporaryDirectory(dir=asked.folder) as folder:
                with_wall, with_cpu, moments = trained(runs, width, epochs, Path(folder))
            _, cpu, _ = trained(runs, width, epochs, None)
            costs.append(with_cpu / cpu - 1)
            lost.append(max(after - before for before, after in itertools.pairwise(moments)))
            saves.append(len(moments) - 2)
            seconds.append(with_wall)
        cost = f"{statistics.median(costs):.1%} ({min(costs):.1%} to {max(costs):.1%})"
        row = [runs, width, f"{statistics.median(seconds):.0f}", statistics.median(saves), cost]
        print("|", " | ".join(map(str, [*row, f"{max(lost):.1f}", f"{os.getloadavg()[0]:.0f}"])), "|", flush=True)


if __name__ == "__main__":
    main()
