"""The paper's sweep files from end to end: models, recipes, all stages, on a handful of images of the same shape.

Their data sets are not in the repository and their budgets are for a GPU: what stands in is 24 + 16 images
a set of the right side and channels, two epochs, batches of 8. benchmarks/bench_paper.py runs cells as they are.
"""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

import orchestrator
from orchestrator.cli import main as cli
from orchestrator.sweep.reader import load_sweep
from tests.paths import ROOT
from trainer.data.catalogue import CATALOGUE

FILES = sorted((ROOT / "sweeps").glob("paper-*.yaml"))


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ISOFLOP_CACHE", str(tmp_path / "cache"))


def few_images(name: str, folder: Path) -> str:
    """Writes a data set with the shape of a known one and three classes."""
    side, rng = CATALOGUE[name].side, np.random.default_rng(len(name))
    labels, path = np.arange(40) % 3, folder / f"{name}.npz"
    noise = rng.integers(0, 56, (40, side, side, CATALOGUE[name].channels), dtype=np.uint8)
    images = noise + 100 * labels[:, None, None, None].astype(np.uint8)
    np.savez(path, x_train=images[:24], y_train=labels[:24], x_test=images[24:], y_test=labels[24:])
    return str(path)


def shrunk(section: dict, folder: Path) -> dict:
    """One stage or cell with small data, a short budget and the first model only; otherwise unchanged."""
    data, train, budget = section["data"], section["train"], section["budget"]
    if "dataset" in data:
        data["path"] = few_images(data["dataset"], folder)
        data["dataset"] = f"few-{data['dataset']}"
    if "dataset_size" in data:
        data["dataset_size"] = [12, 24]
    if "name" in section.get("model", {}):
        section["model"]["name"] = section["model"]["name"][:1]
    if train.get("preset") == "tta":
        train["tta"] = 2
    elif train:
        train["batch_size"] = 8
    if "lr" in train:
        train["lr"] = train["lr"][:1]
    if budget:
        budget["epochs"] = [2]
    return section


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_the_smallest_cells_run_through_every_stage(file, tmp_path, monkeypatch):
    declared = load_sweep(file).model_dump(exclude_none=True, mode="json")
    small = shrunk(declared, tmp_path)
    for part in (*small["cells"], *small["then"]):
        shrunk(part, tmp_path)
    small["cells"] = small["cells"][:1]
    (tmp_path / "small.yaml").write_text(json.dumps(small))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["isoflop", "run", "small.yaml", "--executor", "inline", "--device", "cpu"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert not ended.value.code
    frame = orchestrator.results(tmp_path / "isoflop.db")
    assert set(frame["state"]) == {"done"}
    assert frame["error"].between(0, 1).all()
    stages = {"train", *(stage["stage"] for stage in small["then"])}
    assert set(frame["stage"].fillna("train")) == stages
    later = frame[frame["stage"].fillna("train") != "train"]
    assert set(later["parent"]) <= set(frame["run_id"])
