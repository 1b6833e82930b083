"""A training step of a stack: examples/s, share of the products in the machine's peak, bytes against its copy rate.

`./run python benchmarks/bench_step.py [--device cpu] [--rounds 9] [--arms 16xB-2/Wi-64@32 ...] [--against TREE]`

An arm is RUNS x MODEL @ BATCH SIZE, with `:SIDE` for random images of that side (3 colours) instead of digits. A
step is gradients and update, as `trainer.train` calls them, timed apart; CPU time of one thread on a CPU, wall time
on CUDA, where precision is bf16. Peak and copy rate are measured in every round, right before the steps. Bytes are
those that cannot be avoided if no cache holds them: weights read twice, gradients, the optimiser's reads and
writes, activations written and read. `--against` measures the checkout TREE in a process of its own, round by round
in turn, and prints the ratio of the whole step, median (smallest to largest).
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from trainer import RunSpec, cost
from trainer.data import datasets
from trainer.data.batches import Batches, on_device
from trainer.optimizers import OPTIMIZERS
from trainer.spec import parse_model_name
from trainer.training.gradients import Gradients, precision
from trainer.training.optimise import Update, make_optimizer
from trainer.training.stack import Stack

CPU = ["16xB-2/Wi-16@32", "16xB-2/Wi-32@32", "16xB-2/Wi-64@32", "16xB-2/Wi-128@32", "1xB-2/Wi-128@32"]
CUDA = ["64xB-2/Wi-64@512:32", "16xB-2/Wi-64@512:32", "16xB-2/Wi-256@512:32", "1xB-12/Wi-1024@16384:64"]
SECONDS = 0.4
"""Of steps in a round."""


class Arm:
    """One stack, ready to be stepped."""

    def __init__(self, name: str, device: torch.device, folder: str) -> None:
        found = re.fullmatch(r"(\d+)x(.+)@(\d+)(?::(\d+))?", name)
        assert found is not None, f"{name!r} is no arm; write it like 16xB-2/Wi-64@32 or 64xB-2/Wi-64@512:32"
        runs, model, batch, side = int(found[1]), parse_model_name(found[2]), int(found[3]), found[4]
        data = {"dataset": "random", "path": images(folder, int(side), batch)} if side else {"dataset": "digits"}
        kind: Any = "bf16" if device.type == "cuda" else "fp32"
        specs = [
            RunSpec(**model, **data, batch_size=batch, examples=batch * 10**6, seed=seed, precision=kind)
            for seed in range(runs)
        ]
        self.specs = [datasets.resolve(spec, datasets.describe(spec)) for spec in specs]
        self.device, self.steps = device, 0
        arrays = datasets.load(self.specs[0])
        splits = [datasets.split(arrays, spec) for spec in self.specs]
        stack = Stack(self.specs, device)
        batches = Batches(on_device(arrays, device, "resident"), self.specs, splits)
        self._gradients = Gradients(stack, batches, self.specs, precision(self.specs[0], device))
        self._update = Update(self.specs, stack.rows, make_optimizer(self.specs, stack.rows, stack.slots))
        self.shape = stack.shape
        for _ in range(3):
            self.step()

    def step(self) -> tuple[float, float]:
        """Seconds of the gradients and of the update."""
        steps, clock = [self.steps] * len(self.specs), clock_of(self.device)
        marks = [clock()]
        self._gradients(steps)
        marks.append(clock())
        self._update(steps, self._gradients.engine)
        self.steps += 1
        return marks[1] - marks[0], clock() - marks[1]

    def round(self) -> dict[str, float]:
        peak, copy = peak_of(self.device), copy_of(self.device)
        steps = [self.step()]
        while sum(map(sum, steps)) < SECONDS or len(steps) < 5:
            steps.append(self.step())
        of_gradients, of_update = np.mean(steps, axis=0)
        return {"gradients": of_gradients, "update": of_update, "peak": peak, "copy": copy}

    @property
    def examples(self) -> int:
        return len(self.specs) * self.specs[0].batch_size

    @property
    def bytes(self) -> int:
        of_state = OPTIMIZERS.get(self.specs[0].optimizer).bytes_per_parameter
        of_parameters = (6 * 4 + 2 * of_state) * cost.params(self.shape).total
        return len(self.specs) * of_parameters + self.examples * 2 * 4 * cost.costs(self.shape).kept


def clock_of(device: torch.device) -> Callable[[], float]:
    if device.type != "cuda":
        return time.thread_time

    def clock() -> float:
        torch.cuda.synchronize()
        return time.perf_counter()

    return clock


def seconds_of(work: Callable[[], Any], device: torch.device, times: int) -> float:
    work()
    began = clock_of(device)()
    for _ in range(times):
        work()
    return (clock_of(device)() - began) / times


def peak_of(device: torch.device) -> float:
    """FLOP/s of a large matrix product in the precision of the arms."""
    size, kind = (8192, torch.bfloat16) if device.type == "cuda" else (384, torch.float32)
    a = torch.randn(size, size, device=device, dtype=kind)
    out = torch.empty_like(a)
    return 2 * size**3 / seconds_of(lambda: torch.mm(a, a, out=out), device, 10)


def copy_of(device: torch.device) -> float:
    """Bytes/s of a large copy, read and written."""
    held = torch.ones(2**30 if device.type == "cuda" else 2**26, dtype=torch.uint8, device=device)
    other = torch.empty_like(held)
    return 2 * held.nbytes / seconds_of(lambda: other.copy_(held), device, 5)


def images(folder: str, side: int, batch: int) -> str:
    """Random images of a side in three colours."""
    file = Path(folder) / f"images-{side}.npz"
    if not file.exists():
        pixels = np.random.default_rng(0).integers(0, 256, (max(batch, 8192) + 256, side, side, 3), np.uint8)
        labels = np.arange(len(pixels)) % 10
        np.savez(file, x_train=pixels[256:], y_train=labels[256:], x_test=pixels[:256], y_test=labels[:256])
    return str(file)


def serve(device: torch.device, folder: str) -> None:
    """Measure one round for each line of standard input, which names an arm."""
    name, arm = "", None
    for line in sys.stdin:
        if arm is None or line.strip() != name:
            name, arm = line.strip(), Arm(line.strip(), device, folder)
        values = {"examples": arm.examples, "bytes": arm.bytes}
        values["flops"] = arm.examples * cost.flops_per_example(arm.shape)
        print(json.dumps(arm.round() | values), flush=True)


class Tree:
    """A process that measures the code of one checkout."""

    def __init__(self, tree: Path, device: str, folder: str) -> None:
        command = [sys.executable, __file__, "--serve", folder, "--device", device]
        environment = {**os.environ, "PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, cwd=tree
        )

    def round(self, arm: str) -> dict[str, float]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(arm, file=self._process.stdin, flush=True)
        values: dict[str, float] = json.loads(self._process.stdout.readline())
        return values


def row(arm: str, rounds: list[dict[str, float]], others: list[dict[str, float]]) -> str:
    def said(values: Any, form: str) -> str:
        return f"{np.median(values):{form}} ({min(values):{form}} to {max(values):{form}})"

    def column(name: str, of: list[dict[str, float]]) -> Any:
        return np.array([values[name] for values in of])

    seconds = column("gradients", rounds) + column("update", rounds)
    rate, moved = column("flops", rounds) / seconds, column("bytes", rounds) / seconds
    cells = [
        arm,
        said(column("examples", rounds) / seconds, ".3g"),
        said(1e6 * column("gradients", rounds), ".0f"),
        said(1e6 * column("update", rounds), ".0f"),
        f"{np.median(rate) / 1e9:.0f} of {np.median(column('peak', rounds)) / 1e9:.0f}",
        f"{np.median(column('bytes', rounds)) / 1e6:.1f}",
        f"{np.median(moved) / 1e9:.1f} of {np.median(column('copy', rounds)) / 1e9:.1f}",
    ]
    if others:
        cells.append(said((column("gradients", others) + column("update", others)) / seconds, ".2f"))
    return f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--arms", nargs="+")
    parser.add_argument("--against", type=Path)
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda needs a CUDA device, and torch finds none")
    torch.set_num_threads(1)
    if asked.serve is not None:
        serve(torch.device(asked.device), asked.serve)
        return
    print(f"{asked.rounds} rounds on {asked.device}: median (smallest to largest)\n")
    columns = ["arm", "examples/s", "gradients, us", "update, us", "products, GFLOP/s", "MB a step", "GB/s of copy"]
    columns += ["times as fast"] if asked.against else []
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    with tempfile.TemporaryDirectory() as folder:
        ours = Tree(Path(__file__).parent.parent, asked.device, folder)
        theirs = Tree(asked.against.resolve(), asked.device, folder) if asked.against else None
        for arm in asked.arms or (CUDA if asked.device == "cuda" else CPU):
            rounds, others = [], []
            for _ in range(asked.rounds):
                if theirs is not None:
                    others.append(theirs.round(arm))
                rounds.append(ours.round(arm))
            print(row(arm, rounds, others), flush=True)


if __name__ == "__main__":
    main()
