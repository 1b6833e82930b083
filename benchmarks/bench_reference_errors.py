"""Errors of the trainer against those of the official model classes, which are constants of this file.

`./run python benchmarks/bench_reference_errors.py CIFAR10.tar.gz`

AdamW 1e-3, weight decay 0.05, constant learning rate, no augmentation. CIFAR-10: batch size 512, 10 epochs, three
seeds; digits: batch size 64, 50 epochs, five seeds. About three minutes on two cores.
"""

import sys

import numpy as np

from trainer import RunSpec, train

CIFAR = {"dataset": "cifar10", "batch_size": 512, "epochs": 10, "weight_decay": 0.05}
DIGITS = {"dataset": "digits", "batch_size": 64, "epochs": 50, "weight_decay": 0.05}
CASES = [
    ("digits, S-MLP 2x64", {**DIGITS, "family": "s-mlp", "depth": 2, "width": 64}, 5, "2.50 +- 0.28"),
    ("CIFAR-10, S-MLP 3x256", {**CIFAR, "family": "s-mlp", "depth": 3, "width": 256}, 3, "46.2 +- 0.8"),
    ("CIFAR-10, B-MLP 2x128", {**CIFAR, "family": "b-mlp", "depth": 2, "width": 128}, 3, "45.8 +- 0.5"),
]


def main(path: str | None) -> None:
    print("| task | params | error %, mean +- sd | seeds | reference % | examples/s |\n|---|---|---|---|---|---|")
    for name, fields, seeds, reference in CASES:
        where = path if fields["dataset"] == "cifar10" else None
        if fields["dataset"] == "cifar10" and path is None:
            continue
        results = [train(RunSpec(**fields, path=where, seed=seed), evaluations=2) for seed in range(seeds)]
        errors = 100 * np.array([result.error for result in results])
        speed = np.mean([result.examples / result.seconds for result in results])
        spread = f"{errors.mean():.2f} +- {errors.std(ddof=1):.2f}"
        print(f"| {name} | {results[0].params:,} | {spread} | {seeds} | {reference} | {speed:,.0f} |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else None)
