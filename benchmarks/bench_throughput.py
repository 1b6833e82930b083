"""Training throughput on CIFAR-10 against the paper's loop (FFCV) and against a plain DataLoader.

`./run ffcv`, then `./run python benchmarks/bench_throughput.py CIFAR10.tar.gz [--rounds 3]`

B-MLP of 2 blocks, batch size 512, no augmentation (which both peers would do on the CPU), AdamW. Every measurement
is a process of its own, arms in turn in every round: images per CPU second (user and system time of the process and
its children, after the first 20 steps) and the wall-clock seconds of the first hundred steps from the start of
training on, compilation and loading included, imports not. Ratios are ours over the peer's, median (smallest to
largest). The peers train a plain nn.Module of the same layers with torch's unfused AdamW, like the paper's code.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from trainer import RunSpec
from trainer.data import datasets

BATCH, SKIPPED = 512, 20
HAS_BF16 = torch.backends.cpu.get_cpu_capability() not in ("DEFAULT", "AVX2")  # without: emulated, ten times slower
OURS = ("ours fp32", "ours bf16") if HAS_BF16 else ("ours fp32",)
PEERS = ("ffcv", "dataloader")


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.block = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return z + self.block(self.norm(z))


def plain(width: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(3072, width), Block(width), Block(width), nn.Linear(width, 10))


def cpu_seconds() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in used)


def of_a_plain_loop(batches: Iterator[Any], width: int, steps: int) -> dict[str, float]:
    """Train a plain module; marks of CPU and wall time at steps 0, SKIPPED, 100 and the end."""
    model, criterion = plain(width), nn.CrossEntropyLoss()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    marks = {}
    for step, (x, y) in enumerate(batches):
        if step in (SKIPPED, 100, steps):
            marks[step] = (time.perf_counter(), cpu_seconds())
        if step == steps:
            break
        loss = criterion(model(x), y)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        loss.item()
    return marks


def endless(make: Callable[[], Any]) -> Iterator[Any]:
    while True:
        yield from make()


def ours(spec: RunSpec, steps: int) -> dict[str, float]:
    """The same marks in our loop, taken where it asks for the next batch."""
    from trainer.training import loop

    marks, real = {}, loop.Batches

    class Marked(real):  # type: ignore[misc, valid-type]
        def rows(self, at: Sequence[int]) -> Any:
            if (step := at[0]) in (SKIPPED, 100, steps):
                marks[step] = (time.perf_counter(), cpu_seconds())
            return super().rows(at)

    loop.Batches = Marked
    loop.train(spec, device="cpu", evaluations=2, should_stop=lambda: steps in marks)
    return marks


def arm(name: str, path: str, width: int, steps: int) -> dict[str, float]:
    torch.manual_seed(0)
    spec = RunSpec(
        dataset="cifar10", path=path, width=width, depth=2, batch_size=BATCH, examples=BATCH * (steps + 65)
    )
    began = time.perf_counter()
    if name.startswith("ours"):
        marks = ours(RunSpec(**{**vars_of(spec), "precision": name.split()[1]}), steps)
    else:
        make = ffcv_loader(Path(path).parent / "bench.beton") if name == "ffcv" else plain_loader(spec)
        marks = of_a_plain_loop(endless(make), width, steps)
    images = (steps - SKIPPED) * BATCH
    return {
        "images per CPU-second": images / (marks[steps][1] - marks[SKIPPED][1]),
        "images per second": images / (marks[steps][0] - marks[SKIPPED][0]),
        "first hundred steps": marks[100][0] - began,
    }


def vars_of(spec: RunSpec) -> dict[str, Any]:
    return {name: getattr(spec, name) for name in RunSpec.__dataclass_fields__}


def plain_loader(spec: RunSpec) -> Callable[[], Any]:
    """A Dataset of one image at a time, uint8 to float and normalised as by ToTensor and Normalize."""
    arrays = datasets.load(spec)
    mean, std = (torch.from_numpy(np.ravel(v)).view(3, 1, 1) for v in (arrays.mean / 255, arrays.std / 255))

    class Images(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return arrays.train

        def __getitem__(self, i: int) -> tuple[torch.Tensor, int]:
            image = torch.from_numpy(arrays.inputs[i].reshape(32, 32, 3)).permute(2, 0, 1).float().div_(255)
            return (image - mean) / std, int(arrays.labels[i])

    loader = torch.utils.data.DataLoader(
        Images(), BATCH, shuffle=True, num_workers=2, drop_last=True, persistent_workers=True
    )
    return lambda: loader


def ffcv_loader(beton: Path) -> Callable[[], Any]:
    """The paper's pipeline without its augmentations: decode, to tensor, to float, normalise."""
    import ffcv.transforms as t
    from ffcv.fields.basics import IntDecoder
    from ffcv.fields.rgb_image import SimpleRGBImageDecoder
    from ffcv.loader import Loader, OrderOption

    mean, std = np.array([125.3, 123.0, 113.9]), np.array([63.0, 62.1, 66.7])
    image = [SimpleRGBImageDecoder(), t.NormalizeImage(mean, std, np.float32), t.ToTensor(), t.ToTorchImage()]
    label = [IntDecoder(), t.ToTensor(), t.Squeeze()]
    loader = Loader(
        str(beton), BATCH, num_workers=2, order=OrderOption.RANDOM, drop_last=True, os_cache=True,
        pipelines={"image": image, "label": label},
    )  # fmt: skip
    return lambda: loader


def write_beton(path: str, beton: Path) -> None:
    from ffcv.fields import IntField, RGBImageField
    from ffcv.writer import DatasetWriter

    arrays = datasets.load(RunSpec(dataset="cifar10", path=path, epochs=1))

    class Images:
        def __len__(self) -> int:
            return arrays.train

        def __getitem__(self, i: int) -> tuple[np.ndarray, int]:
            return np.array(arrays.inputs[i]).reshape(32, 32, 3), int(arrays.labels[i])

    fields = {"image": RGBImageField(write_mode="raw"), "label": IntField()}
    DatasetWriter(str(beton), fields, num_workers=1).from_indexed_dataset(Images())


def gemm_peak(width: int, dtype: torch.dtype) -> float:
    """FLOP/s of this machine's own matrix product on the layer from width to 4 x width, all threads; best of 20."""
    torch.set_num_threads(len(os.sched_getaffinity(0)))  # FFCV, which wrote the file, has left one
    a, b = torch.randn(BATCH, width, dtype=dtype), torch.randn(width, 4 * width, dtype=dtype)
    best = 0.0
    for _ in range(20):
        began, n = time.perf_counter(), max(1, int(2e9 / (8 * BATCH * width**2)))
        for _ in range(n):
            a @ b
        best = max(best, n * 8 * BATCH * width**2 / (time.perf_counter() - began))
    return best


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("path")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--widths", type=int, nargs="+", default=[64, 256, 1024])
    parser.add_argument("--arm")
    parser.add_argument("--steps", type=int, default=0)
    asked = parser.parse_args()
    if asked.arm:
        print(json.dumps(arm(asked.arm, asked.path, asked.widths[0], asked.steps)))
        return
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / Path(asked.path).name
        source.symlink_to(Path(asked.path).absolute())
        write_beton(str(source), Path(folder) / "bench.beton")
        for width in asked.widths:
            report(width, str(source), asked.rounds)


def report(width: int, path: str, rounds: int) -> None:
    from trainer.cost import Shape, flops_per_example

    steps = {64: 400, 256: 250}.get(width, 110)
    found: dict[str, list[dict[str, float]]] = {name: [] for name in (*OURS, *PEERS)}
    peaks: dict[torch.dtype, list[float]] = {torch.float32: [], torch.bfloat16: []}
    for _ in range(rounds):
        for name, runs in found.items():
            command = [sys.executable, __file__, path, "--arm", name, f"--widths={width}", f"--steps={steps}"]
            said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            runs.append(json.loads(said.splitlines()[-1]))
        for dtype, values in peaks.items():
            values.append(gemm_peak(width, dtype))
    price = flops_per_example(Shape("b-mlp", 2, width, 3072, 10))
    print(f"\nWidth {width}, {rounds} rounds of {steps} steps\n")
    print("| | images per CPU-second | images/s | first 100 steps, s | share of GEMM peak |\n|---|---|---|---|---|")
    for name, runs in found.items():
        columns = ("images per CPU-second", "images per second", "first hundred steps")
        medians = {column: np.median([run[column] for run in runs]) for column in columns}
        peak = peaks[torch.bfloat16 if name.endswith("bf16") else torch.float32]
        share = medians["images per second"] * price / np.median(peak)
        cells = f"{medians[columns[0]]:,.0f} | {medians[columns[1]]:,.0f} | {medians[columns[2]]:.2f}"
        print(f"| {name} | {cells} | {share:.0%} |")
    for mine in OURS:
        for peer in PEERS:
            print(f"- {mine} / {peer}: {ratio(found, mine, peer, 'images per CPU-second')} per CPU-second; "
                  f"first hundred steps {ratio(found, peer, mine, 'first hundred steps')} sooner")  # fmt: skip


def ratio(found: dict[str, list[dict[str, float]]], over: str, under: str, column: str) -> str:
    values = [a[column] / b[column] for a, b in zip(found[over], found[under], strict=True)]
    return f"{np.median(values):.2f} x ({min(values):.2f} to {max(values):.2f})"


if __name__ == "__main__":
    main()
