"""A torch module from outside the packages as a family, from a sweep file through a kill to a law and a figure."""

from __future__ import annotations

import signal

import pytest

import orchestrator
from tests.commands import isoflop, on_ray
from tests.line.alone import assert_as_trained_alone
from trainer.checkpoints.checkpoints import storage_of

MODULE = """
import os, pathlib, signal
from torch import nn

class Net(nn.Module):
    "Dies once where it is told to, as soon as there is a checkpoint."

    def __init__(self, inputs, classes, depth, width):
        super().__init__()
        self.embed, self.head = nn.Linear(inputs, width), nn.Linear(width, classes)
        self.body = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))

    def forward(self, x):
        died, saved = pathlib.Path(os.environ.get("DIED", os.devnull)), pathlib.Path("t.db.checkpoints")
        if not died.exists() and any(saved.rglob("*.json")):
            died.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        z = self.embed(x).relu()
        for layer in self.body:
            z = z + layer(z).relu()
        return self.head(z)
"""
SWEEP = """\
sweep: outside
data: {dataset: digits}
model: {family: "outside_family:Net", depth: 1, width: [16, 32]}
train: {lr: 2e-3, batch_size: 32, schedule: cosine}
budget: {examples: [320, 640, 1280, 2560]}
seeds: 2
"""


@pytest.fixture
def folder(outside, tmp_path, monkeypatch):
    monkeypatch.setenv("DIED", str(tmp_path / "died"))
    return outside("outside_family", MODULE, SWEEP)


def test_a_killed_sweep_of_modules_ends_with_the_numbers_of_runs_alone_and_a_law(folder):
    assert "Net-1/Wi-32" in isoflop("plan", "sweep.yaml").stdout
    options = ("run", "sweep.yaml", "--store", "t.db", "--executor", "inline")
    killed = isoflop(*options, "--checkpoint-every", "0")
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert len(storage_of(folder / "t.db.checkpoints").begun()) > 1
    resumed = isoflop(*options)
    assert resumed.returncode == 0, resumed.stderr
    assert_as_trained_alone("t.db", "sweep.yaml")
    fitted = isoflop("fit", "outside", "--store", "t.db", "--json")
    assert fitted.returncode == 0, fitted.stderr
    plotted = isoflop("plot", "outside", "--store", "t.db", "--format", "png", "--resamples", "100")
    assert plotted.returncode == 0, plotted.stderr
    assert list((folder / "figures").glob("*.png"))


@pytest.mark.slow
def test_a_worker_of_ray_that_dies_with_a_module_changes_no_number(folder):
    ended = on_ray("run", "sweep.yaml", "--store", "t.db", "--slots", "2", "--checkpoint-every", "0")
    assert ended.returncode == 0, ended.stderr
    assert (folder / "died").exists()
    assert_as_trained_alone("t.db", "sweep.yaml")


def test_a_misspelt_family_is_a_mistake_in_a_line(folder):
    (folder / "sweep.yaml").write_text(SWEEP.replace("outside_family:Net", "b-mpl"))
    with pytest.raises(orchestrator.SweepError, match=r"sweep.yaml:3: family: .* did you mean 'b-mlp'\?"):
        orchestrator.load_sweep("sweep.yaml")
