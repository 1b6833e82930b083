"""Training on a GPU: stacks against solo runs and a plain loop, memory, slots, energy, predicted times.

`./run python benchmarks/bench_gpu.py [stacks memory slots energy speed] [--rounds 3]`

B-MLP of 2 blocks, AdamW, batches of 512 random images of CIFAR's size, resident on the GPU. In every round a step
is timed for all arms in turn, as the difference of a long and a short training; one-off costs (capturing graphs,
drawing subsets) are a separate column. The plain loop is a torch module of the same layers with torch's fused
AdamW, its data on the GPU too. Numbers are medians over rounds (smallest to largest). The share is relative to a
large matrix product on this GPU in the same precision, measured in the same run.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bench_throughput import plain
from torch import nn

from orchestrator.host.calibration import measure
from orchestrator.host.usage import UsageMeter
from orchestrator.scheduling.memory import DeviceMemory, data_bytes, form
from orchestrator.workers import ray_cluster as cluster
from orchestrator.workers.worker import Worker
from trainer import RunSpec, cost, train
from trainer.data.datasets import describe, resolve

BATCH, SHORT, LONG = 512, 100, 400
ARMS = [
    *((64, size, "bf16") for size in (1, 4, 16, 64)),
    *((256, size, "bf16") for size in (1, 4, 16)),
    *((1024, size, "bf16") for size in (1, 4)),
    *((64, 16, "fp32"), (1024, 1, "fp32")),
]


def spec(path: str, width: int = 64, precision: Any = "bf16", steps: int = SHORT, **said: Any) -> RunSpec:
    return RunSpec(
        dataset="random",
        path=path,
        width=width,
        depth=2,
        batch_size=BATCH,
        examples=BATCH * steps,
        precision=precision,
        **said,
    )


def resolved(runs: Sequence[RunSpec]) -> list[RunSpec]:
    return [resolve(run, describe(run)) for run in runs]


def write_images(folder: str) -> str:
    """50,000 random images of CIFAR's size."""
    draw, file = np.random.default_rng(0), Path(folder) / "random.npz"
    images = draw.integers(0, 256, (51_024, 32, 32, 3), np.uint8)
    labels = draw.integers(0, 10, len(images))
    np.savez(file, x_train=images[:50_000], y_train=labels[:50_000], x_test=images[50_000:], y_test=labels[50_000:])
    return str(file)


def said(values: Sequence[float], form: str = ".3g") -> str:
    return f"{np.median(values):{form}} ({min(values):{form}} to {max(values):{form}})"


# ceilings


def seconds_of(work: Callable[[], Any], times: int) -> float:
    for _ in range(3):
        work()
    torch.cuda.synchronize()
    began = time.perf_counter()
    for _ in range(times):
        work()
    torch.cuda.synchronize()
    return (time.perf_counter() - began) / times


def product(precision: str) -> float:
    """FLOP/s of a large matrix product."""
    torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    a, b = torch.randn(2, 8192, 8192, device="cuda", dtype=dtype)
    return 2 * 8192**3 / seconds_of(lambda: a @ b, 5 if precision == "fp32" else 20)


def ceilings() -> dict[str, float]:
    found = {precision: product(precision) for precision in ("fp32", "tf32", "bf16")}
    held = torch.empty(2**30, device="cuda", dtype=torch.uint8).random_()
    other = torch.empty_like(held)
    found["copy"] = 2 * 2**30 / seconds_of(lambda: other.copy_(held), 20)
    products = ", ".join(f"{name} {found[name] / 1e12:.0f} TFLOP/s" for name in ("fp32", "tf32", "bf16"))
    print(f"\nCeilings: {products}; copy {found['copy'] / 1e12:.2f} TB/s, read and written\n", flush=True)
    return found


# stacks


def plain_step(width: int, precision: str, images: np.ndarray, labels: np.ndarray) -> float:
    """Seconds of a step of the usual loop."""
    torch.backends.cuda.matmul.allow_tf32 = False
    model = plain(width).cuda()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    inputs, targets = torch.from_numpy(images).cuda(), torch.from_numpy(labels).cuda()
    criterion = nn.CrossEntropyLoss()

    def step() -> None:
        rows = torch.randint(0, len(inputs), (BATCH,), device="cuda")
        x = inputs[rows].float().sub_(120).mul_(1 / 64)
        with torch.autocast("cuda", torch.bfloat16, enabled=precision == "bf16"):
            loss = criterion(model(x), targets[rows])
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return seconds_of(step, LONG)


def our_step(runs: Sequence[RunSpec]) -> tuple[float, float, str]:
    """Seconds of a step, seconds beside the steps, and the engine."""
    found = []
    for steps in (SHORT, LONG):
        results = train([replace(run, examples=BATCH * steps) for run in runs], device="cuda", evaluations=2)
        found.append(sum(result.seconds for result in results))
    step = (found[1] - found[0]) / (LONG - SHORT)
    return step, found[0] - SHORT * step, results[0].engine


def stacks(path: str, rounds: int) -> None:
    peaks = ceilings()
    with np.load(path) as held:
        images, labels = held["x_train"], held["y_train"]
    steps: dict[Any, list[float]] = {}
    starts: dict[Any, list[float]] = {}
    engines: dict[Any, str] = {}
    pairs = sorted({(width, precision) for width, _, precision in ARMS})
    for round_ in range(rounds + 1):  # the first warms
        for width, precision in pairs:
            steps.setdefault((width, 0, precision), []).append(plain_step(width, precision, images, labels))
        for arm in ARMS:
            width, size, precision = arm
            step, start, engines[arm] = our_step([spec(path, width, precision, seed=k) for k in range(size)])
            steps.setdefault(arm, []).append(step)
            starts.setdefault(arm, []).append(start)
        if not round_:
            steps, starts = {}, {}
    print("| width | precision | runs | engine | step, ms | start, ms | examples/s | on solo | on plain | share |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for arm in ARMS:
        width, size, precision = arm
        ms = np.array(steps[arm]) * 1e3
        price = cost.flops_per_example(cost.Shape("b-mlp", 2, width, 3072, 10))
        solo = size * np.array(steps.get((width, 1, precision), [np.nan])) * 1e3 / ms
        usual = size * np.array(steps[width, 0, precision]) * 1e3 / ms
        share = size * BATCH * price / (np.median(ms) / 1e3) / peaks[precision]
        start, rate = np.median(starts[arm]) * 1e3, size * BATCH / np.median(ms) * 1e3
        cells = [width, precision, size, engines[arm], said(ms), f"{start:.0f}", f"{rate:.3g}"]
        print("|", *(f"{cell} |" for cell in [*cells, said(solo), said(usual), f"{share:.1%}"]))
    sys.stdout.flush()


# memory


def in_use() -> float:
    """Bytes of the GPU that all processes hold."""
    query = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
    return float(subprocess.check_output(query)) * 2**20


def memory_of(path: str, width: int, size: int, precision: str) -> dict[str, float]:
    """Bytes of a fresh process after training, against what admission says of it."""
    before = in_use()
    runs = resolved([spec(path, width, precision, seed=k) for k in range(size)])
    train(runs, device="cuda", evaluations=2)
    held = torch.cuda.max_memory_reserved()
    own = torch.cuda.memory_reserved()
    return {
        "form": form(runs),
        "data": data_bytes(runs[0], "cuda"),
        "allocated": torch.cuda.max_memory_allocated(),
        "held": held,
        "cuda": in_use() - before - own,
        "admitted": DeviceMemory(list).bytes(runs, "cuda"),
    }


def memory(path: str) -> None:
    """`held` and `cuda` are what a worker takes of the GPU, `admitted` what admission sets aside for the first."""
    names = ("form", "data", "allocated", "held", "cuda", "admitted")
    print("DeviceMemory, MiB\n\n| width | runs | precision |", " | ".join(names), "| admitted / taken |")
    print("|---" * (4 + len(names)) + "|")
    for arm in [(64, 1, "bf16"), (64, 16, "bf16"), (64, 64, "bf16"), (1024, 4, "bf16"), (4096, 1, "fp32")]:
        command = [sys.executable, __file__, "--memory", json.dumps([path, *arm])]
        text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        found = json.loads(text.splitlines()[-1])
        cells = [*arm, *(f"{found[name] / 2**20:.0f}" for name in names)]
        over = found["admitted"] / (found["held"] + found["cuda"])
        print("|", *(f"{cell} |" for cell in [*cells, f"{over:.2f}"]), flush=True)


# slots


def slots(path: str, rounds: int) -> None:
    """What several workers on one GPU reach together, by the measurement that the calibration makes."""
    began, ray = time.perf_counter(), cluster.start(8, 1)
    worker = ray.remote(num_cpus=0, num_gpus=1 / 8)(Worker)
    crew = [worker.remote("cuda") for _ in range(8)]
    ray.get([one.warm.remote() for one in crew])
    print(
        f"Slots: aggregate FLOP/s in units of one worker's; 8 workers warm in {time.perf_counter() - began:.0f} s\n"
    )
    print("| width | runs | precision | one worker, TFLOP/s | 2 | 4 | 8 |\n|---|---|---|---|---|---|---|")
    for width, size, precision in [(64, 1, "bf16"), (64, 16, "bf16"), (1024, 1, "bf16"), (1024, 1, "fp32")]:
        runs = resolved([spec(path, width, precision, steps=100_000, seed=k) for k in range(size)])
        paces: dict[int, list[float]] = {}
        for _ in range(rounds):
            for count in (1, 2, 4, 8):
                found = ray.get([one.pace.remote(runs, 2.0) for one in crew[:count]])
                paces.setdefault(count, []).append(sum(found))
        more = [said(np.divide(paces[count], paces[1]), ".2f") for count in (2, 4, 8)]
        alone = f"{np.median(paces[1]) / 1e12:.3g}"
        print("|", *(f"{cell} |" for cell in [width, size, precision, alone, *more]), flush=True)
    ray.shutdown()


# predicted times


def speed(path: str) -> None:
    """What `isoflop plan` would say of a stack, against what it takes."""
    began, known = time.perf_counter(), measure("cuda")
    print(f"Speed, measured in {time.perf_counter() - began:.0f} s: {known}\n")
    print("| width | runs | precision | step as predicted, ms | as timed | size of stacks |")
    print("|---|---|---|---|---|---|")
    for width, size, precision in ARMS:
        runs = resolved([spec(path, width, precision, steps=LONG, seed=k) for k in range(size)])
        predicted, step = known.seconds(runs) / LONG, our_step(runs)[0]
        times = [f"{predicted * 1e3:.3g}", f"{step * 1e3:.3g}"]
        print(
            "|",
            *(f"{cell} |" for cell in [width, size, precision, *times, known.stack_size(runs[0], 64)]),
            flush=True,
        )


# energy


def energy(path: str) -> None:
    """Joules by our meter against the power that nvidia-smi says meanwhile."""
    query = ["nvidia-smi", "--query-gpu=power.draw", "--format=csv,noheader,nounits", "-lms", "100"]
    for width, size in ((64, 1), (64, 64), (4096, 1)):
        watch = subprocess.Popen(query, stdout=subprocess.PIPE, text=True)
        runs = [spec(path, width, "bf16", steps=100_000, seed=k) for k in range(size)]
        meter, began = UsageMeter(), time.perf_counter()
        until = began + 4
        results = train(runs, device="cuda", evaluations=2, should_stop=lambda end=until: time.perf_counter() > end)
        seconds, joules = time.perf_counter() - began, meter.read().energy or float("nan")
        watch.terminate()
        assert watch.stdout is not None
        watts = [float(line) for line in watch.stdout if line.strip()]
        per_joule = sum(result.flops for result in results) / joules
        print(
            f"- energy, width {width}, {size} runs: {joules:.0f} J in {seconds:.1f} s by the meter, "
            f"{np.mean(watts) * seconds:.0f} J by {len(watts)} readings of nvidia-smi; {per_joule:.3g} FLOP/J",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("parts", nargs="*", default=["stacks", "memory", "slots", "energy", "speed"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--memory", type=json.loads)
    options = parser.parse_args()
    if not torch.cuda.is_available():
        parser.error("this benchmark needs a CUDA device, and torch finds none")
    if options.memory:
        print(json.dumps(memory_of(*options.memory)))
        return
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, {time.strftime('%Y-%m-%d')}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        path = write_images(folder)
        for part in options.parts:
            began = time.perf_counter()
            if part in ("stacks", "slots"):
                {"stacks": stacks, "slots": slots}[part](path, options.rounds)
            else:
                {"memory": memory, "energy": energy, "speed": speed}[part](path)
            print(f"\n({part}: {time.perf_counter() - began:.0f} s)\n", flush=True)


if __name__ == "__main__":
    main()
