"""Predicted seconds of sweeps against what they take: six small sweeps and those that ship and are short.

    ./run python benchmarks/bench_predictions.py [--rounds 2] [--only cifar-crop quickstart]

The machine is measured first, in an empty cache. Then each sweep is predicted for one worker, once by the
measured prices alone and once corrected by the stacks that finished before, and trained in this process
(`--executor inline`). Compared are seconds of training: predictions are for a machine without other work, so
the truth is this process's CPU time, the coordinator's included. The second round has each sweep's own stacks
to go by.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path

import torch

import orchestrator
from orchestrator.host.calibration import measure
from orchestrator.host.speed import keep, known_speed
from orchestrator.scheduling.forecast import planned_forecast

ROOT = Path(__file__).resolve().parent.parent
_OWN = """\
sweep: cifar-12
data: {dataset: cifar10, dataset_size: 5000}
model: {family: b-mlp, depth: 2, width: [32, 64, 128]}
train: {optimizer: adamw, lr: [5e-4, 2e-3], batch_size: 256, schedule: cosine}
budget: {epochs: 2}
seeds: 2
---
sweep: cifar-crop
data: {dataset: cifar10, dataset_size: 5000, augment: flip+crop}
model: {family: b-mlp, depth: 2, width: [16, 64]}
train: {optimizer: adamw, lr: 1e-3, batch_size: 256, schedule: cosine}
budget: {epochs: [1, 4]}
seeds: 3
---
sweep: cifar-mixup
data: {dataset: cifar10, dataset_size: 4000, augment: flip+resized-crop, mixup: 0.5}
model: {family: s-mlp, depth: 2, width: [64, 128]}
train: {optimizer: adamw, lr: 1e-3, batch_size: 128, precision: bf16}
budget: {epochs: 4}
seeds: 2
---
sweep: digits-sgd
data: {dataset: digits}
model: {family: s-mlp, depth: 3, width: [32, 64, 128, 256]}
train: {optimizer: sgd, lr: [0.03, 0.1], batch_size: 64, schedule: linear, warmup: 0.1}
budget: {epochs: 10}
seeds: 3
---
sweep: digits-wsd
data: {dataset: digits}
model: {family: b-mlp, depth: 2, width: [32, 96, 72]}
train: {optimizer: lion, lr: 3e-4, batch_size: 32, schedule: wsd}
budget: {epochs: [5, 10, 20]}
seeds: 2
---
sweep: mnist
data: {dataset: mnist, dataset_size: [5000, 20000]}
model: {family: b-mlp, depth: 1, width: [32, 128]}
train: {optimizer: adamw, lr: 1e-3, batch_size: 128}
budget: {epochs: 2}
seeds: 2
"""
OWN = _OWN.split("---\n")
SHIPPED = ("zipf", "search-lr", "search-recipe", "quickstart")


def sweeps():
    texts = [*OWN, *((ROOT / f"sweeps/{name}.yaml").read_text() for name in SHIPPED)]
    read = [orchestrator.read_sweep(text) for text in texts]
    return {sweep.sweep: sweep for sweep in read}


def trained(sweep, planned):
    """CPU seconds of training a sweep in this process."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.process_time()
        train = orchestrator.search if planned.trials else orchestrator.run
        train(sweep, Path(folder) / "t.db", executor="inline", device="cpu", on_progress=lambda _: None)
        return time.process_time() - began


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--only", nargs="+", choices=sweeps())
    asked = parser.parse_args()
    torch.set_num_threads(1)
    plans = {name: orchestrator.plan(sweep) for name, sweep in sweeps().items()}  # decoded in the usual cache
    print("| round | sweep | CPU s | by prices | ratio | corrected | ratio | interval | load |")
    print("|---|---|---|---|---|---|---|---|---|")
    prices = measure("cpu")
    with tempfile.TemporaryDirectory() as cache:
        link = Path(os.environ.get("ISOFLOP_CACHE") or Path.home() / ".cache/isoflop") / "datasets"
        (Path(cache) / "datasets").symlink_to(link)
        os.environ["ISOFLOP_CACHE"] = cache
        keep(prices)
        for number in range(asked.rounds):
            for name, sweep in sweeps().items():
                if asked.only and name not in asked.only:
                    continue
                planned = plans[name]
                bare, now = (planned_forecast(planned, s, "inline", slots=1) for s in (prices, known_speed()))
                cpu = trained(sweep, planned)
                low, high = now.interval
                row = [number + 1, name, f"{cpu:.1f}", f"{bare.training:.1f}", f"{bare.training / cpu:.2f}"]
                row += [f"{now.training:.1f}", f"{now.training / cpu:.2f}", f"{low:.1f} to {high:.1f}"]
                print("|", " | ".join(map(str, [*row, f"{os.getloadavg()[0]:.0f}"])), "|", flush=True)


if __name__ == "__main__":
    main()
