"""The paper's experiments at small width: `ISOFLOP_DATA=... ./run python benchmarks/bench_paper_small.py`.

Trains the sweeps `sweeps/small-*.yaml`, and below two that need data sets made here: CIFAR-10 with its pixels in
another order, and 40 classes of Tiny ImageNet (`--tiny ARCHIVE`, class folders of 64x64 images), the latter also
through FFCV if it is installed. Prints the tables of docs/paper.md from the results table `--store`; the same
command resumes. `--only NAME` trains some of them; `--tables` prints what there is.
"""

from __future__ import annotations

import argparse
import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd

import orchestrator
from trainer import RunSpec
from trainer.data import datasets
from trainer.rng import stream

SWEEPS = Path(__file__).parents[1] / "sweeps"
SHIPPED = ("small-scratch", "small-scratch-cifar100", "small-batch-size", "small-transfer", "small-scaling")

PIXELS = """\
sweep: small-pixels
data: {{dataset: cifar10, augment: [none, flip+crop], mixup: 0}}
model: {{name: [S-6/Wi-64, B-6/Wi-64]}}
train: {{preset: scratch, batch_size: 256, lr: 2e-4}}
budget: {{epochs: 20}}
seeds: 2
cells:
"""
SHUFFLED = "  - {{data: {{dataset: shuffled, path: {path}, augment: {augment}}}, model: {{name: {name}}}}}\n"

TINY = """\
sweep: small-tiny
data: {{dataset: cifar100}}
model: {{name: [S-6/Wi-128, B-6/Wi-128]}}
train: {{preset: pretrain, batch_size: 256, lr: 1e-4}}
budget: {{epochs: 40}}
then:
  - {{stage: probe, after: train, data: {{dataset: tiny40, path: {path}, resolution: 32}},
     train: {{preset: probe, batch_size: 256, lr: 1e-3}}, budget: {{epochs: 10}}}}
  - {{stage: finetune, after: train, data: {{dataset: tiny40, path: {path}, resolution: 32}},
     train: {{preset: finetune, batch_size: 256}}, budget: {{epochs: 40}}}}
  - {{stage: tta, after: finetune, train: {{preset: tta}}}}
"""
NATIVE = """\
sweep: small-tiny-{loader}
data: {{dataset: {dataset}, path: {path}, loader: {loader}, augment: [none, flip+resized-crop]}}
model: {{name: [S-6/Wi-64, B-6/Wi-64]}}
train: {{preset: scratch, batch_size: 256, lr: 2e-4}}
budget: {{epochs: 20}}
"""


def shuffled(folder: Path) -> Path:
    """CIFAR-10 as an .npz file, the pixels of every image in one other order."""
    path = folder / "cifar10-shuffled.npz"
    if path.exists():
        return path
    arrays = datasets.load(RunSpec(dataset="cifar10", examples=1))
    assert isinstance(arrays.inputs, np.ndarray)
    assert arrays.info.image is not None
    images = np.asarray(arrays.inputs).reshape(-1, *arrays.info.image)
    side, _, channels = arrays.info.image
    order = np.random.default_rng(stream("pixels", 0)).permutation(side * side)
    images = images.reshape(len(images), side * side, channels)[:, order].reshape(images.shape)
    train, labels = arrays.train, arrays.labels
    x, y = (images[:train], images[train:]), (labels[:train], labels[train:])
    np.savez(path, x_train=x[0], y_train=y[0], x_test=x[1], y_test=y[1])
    return path


def betons(archive: Path, folder: Path) -> Path:
    """The archive as .beton files, written by the command."""
    out = folder / "tiny40"
    if not out.exists():
        words = [sys.executable, "-m", "orchestrator", "data", "convert", str(archive), str(out)]
        subprocess.run(words, check=True)
    return out


def sweeps(folder: Path, tiny: Path | None) -> dict[str, orchestrator.Sweep]:
    """Every sweep by name; data sets that are to be made are made."""
    found = {name: orchestrator.load_sweep(SWEEPS / f"{name}.yaml") for name in SHIPPED}
    path = shuffled(folder)
    cells = [
        SHUFFLED.format(path=path, augment=augment, name=name)
        for augment in ("none", "flip+crop")
        for name in ("S-6/Wi-64", "B-6/Wi-64")
    ]
    texts = [PIXELS.format() + "".join(cells)]
    if tiny is not None:
        texts += [TINY.format(path=tiny), NATIVE.format(dataset="tiny40", path=tiny, loader="auto")]
        if importlib.util.find_spec("ffcv"):
            texts += [NATIVE.format(dataset="tiny40-ffcv", path=betons(tiny, folder), loader="ffcv")]
    for text in texts:
        sweep = orchestrator.read_sweep(text)
        found[sweep.sweep] = sweep
    return found


def print_table(store: str, sweep: str) -> None:
    """Print the mean error of each cell of a sweep with the spread over seeds."""
    frame = orchestrator.results(store, sweep=sweep)
    done = frame[frame["state"] == "done"]
    done = done.assign(epochs=done["epochs"].round().astype(int))
    names = ["stage", "dataset", "model", "augment", "dataset_size", "batch_size", "lr", "epochs"]
    stages = done.groupby("stage")
    varied = [name for name in names if name == "stage" or stages[name].nunique().max() > 1]
    cells = done.groupby(varied, sort=False)["error"].agg(["mean", "std", "count"]).reset_index()
    columns = [cells[name].map("{:g}".format if cells[name].dtype.kind == "f" else str) for name in varied]
    spread = cells["std"].map(lambda value: "" if pd.isna(value) else f" ± {100 * value:.1f}")
    columns += [cells["mean"].map(lambda value: f"{100 * value:.1f}") + spread, cells["count"].astype(str)]
    print(f"\n{sweep}: {len(done)} of {len(frame)} runs, {done['flops'].sum():.3g} FLOPs\n")
    print("| " + " | ".join([*varied, "error (%)", "n"]) + " |\n|" + "---|" * len(columns))
    for row in zip(*columns, strict=True):
        print("| " + " | ".join(row) + " |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", default="paper-small.db")
    parser.add_argument("--tiny", type=Path, help="archive of 40 classes of Tiny ImageNet")
    parser.add_argument("--only", nargs="+", help="names of sweeps")
    parser.add_argument("--slots", type=int)
    parser.add_argument("--tables", action="store_true", help="train nothing")
    asked = parser.parse_args()
    folder = Path(asked.store).resolve().parent
    for name, sweep in sweeps(folder, asked.tiny and asked.tiny.resolve()).items():
        if asked.only and name not in asked.only:
            continue
        if not asked.tables:
            orchestrator.run(sweep, asked.store, slots=asked.slots)
        print_table(asked.store, name)


if __name__ == "__main__":
    main()
