"""Many budgets from one trunk against separate cosine runs: FLOPs saved, and the difference in error.

`./run python benchmarks/bench_schedules.py CIFAR10.tar.gz [--seeds 3] [--out demo/schedules.json]`

B-MLP of 2 blocks, width 64, on CIFAR-10 with flips and crops, AdamW, batch size 512, bf16 if the processor supports
it, budgets from 5 to 80 epochs in steps of the square root of two; the paper's five doubling budgets are every
second one. A tenth of the training split is held out. With seed 0 six learning rates a factor of two apart are
tried: cosine runs take the best of each budget by validation error, the trunk of the warm-up-stable-decay runs
(cool- down over 20 % of the steps) one for all. Reported is the test error of the seeds from 1 on. FLOPs are those
really processed (`trainer.trunk`), without tuning. Finished stacks are stored in the file `--out` and not trained
again.
"""

import argparse
import itertools
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from trainer import RunSpec, train
from trainer.data.datasets import describe, resolve
from trainer.trunk import charged_flops

EPOCHS = [5 * 2 ** (k / 2) for k in range(9)]
RATES = [5e-4 * 2**k for k in range(6)]
Row = dict[str, float]


def stack_of(path: str, schedule: str, lr: float, seed: int) -> list[RunSpec]:
    bf16 = torch.backends.cpu.get_cpu_capability() not in ("DEFAULT", "AVX2")
    spec = RunSpec(
        dataset="cifar10",
        path=path,
        augment="flip+crop",
        validation=0.1,
        depth=2,
        width=64,
        batch_size=512,
        schedule=schedule,
        cooldown=0.2,
        lr=lr,
        weight_decay=0.05,
        precision="bf16" if bf16 else "fp32",
        seed=seed,
        epochs=1,
    )
    return [replace(spec, epochs=epochs) for epochs in EPOCHS]


def trained(path: str, schedule: str, lr: float, seed: int, file: Path, only: list[int] | None = None) -> list[Row]:
    """One row a budget, in the order of EPOCHS or `only` some of them; from the file where it is there already."""
    held = json.loads(file.read_text()) if file.exists() else {}
    key = f"{schedule} {lr:g} {seed}" + ("" if only is None else f" {only}")
    if key not in held:
        stack = stack_of(path, schedule, lr, seed)
        results = train([stack[k] for k in only or range(len(stack))], device="cpu", evaluations=4)
        columns = ("val_error", "error", "loss", "flops", "seconds")
        rows = [{name: getattr(result, name) for name in columns} for result in results]
        print(f"# {key}:", *(f"{100 * row['error']:.2f}" for row in rows), flush=True)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps({**held, key: rows}, indent=1))
        return rows
    return held[key]


def charged(path: str, schedule: str, every: int) -> int:
    """FLOPs really spent on every so many-th of the budgets."""
    runs = [resolve(run, describe(run)) for run in stack_of(path, schedule, RATES[0], 0)[::every]]
    return sum(charged_flops(runs).values())


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("path")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("demo/schedules.json"))
    asked = parser.parse_args()
    torch.set_num_threads(1)

    def rows(schedule: str, lr: float, seed: int) -> list[Row]:
        return trained(asked.path, schedule, lr, seed, asked.out)

    tried = {s: np.array([[r["val_error"] for r in rows(s, lr, 0)] for lr in RATES]) for s in ("wsd", "cosine")}
    trunk = RATES[int(np.log(tried["wsd"]).mean(1).argmin())]
    best = [RATES[k] for k in tried["cosine"].argmin(0)]
    seeds = range(1, asked.seeds + 1)
    wsd = np.array([[r["error"] for r in rows("wsd", trunk, seed)] for seed in seeds])
    cosine = np.empty((len(seeds), len(EPOCHS)))
    for (i, seed), lr in itertools.product(enumerate(seeds), sorted(set(best))):
        mine = [k for k, chosen in enumerate(best) if chosen == lr]
        cosine[i, mine] = [r["error"] for r in trained(asked.path, "cosine", lr, seed, asked.out, mine)]
    print(f"\nTest error in %, mean +- sd of {len(seeds)} seeds; the trunk's learning rate is {trunk:g}\n")
    print("| epochs | cosine, its rate | warm-up-stable-decay | difference +- its standard error |")
    print("|---|---|---|---|")
    for k, epochs in enumerate(EPOCHS):
        a, b = 100 * cosine[:, k], 100 * wsd[:, k]
        error = np.sqrt((a.var(ddof=1) + b.var(ddof=1)) / len(seeds))
        print(f"| {epochs:.1f} | {a.mean():.2f} +- {a.std(ddof=1):.2f}, {best[k]:g} | "
              f"{b.mean():.2f} +- {b.std(ddof=1):.2f} | {b.mean() - a.mean():+.2f} +- {error:.2f} |")  # fmt: skip
    for name, every in (("five doubling budgets", 2), ("nine budgets in steps of the square root of two", 1)):
        saved = charged(asked.path, "cosine", every) / charged(asked.path, "wsd", every)
        print(f"- {name}: separate cosine runs process {saved:.2f} x the FLOPs")


if __name__ == "__main__":
    main()
