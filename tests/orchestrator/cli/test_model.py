"""`isoflop model`: speed of inference and first-layer weights, as a user types it."""

import json

import numpy as np
import pytest
import torch

from tests.trainer.reference import slots
from trainer.cost import Shape
from trainer.model.official import save_official


@pytest.fixture
def kept(isoflop, text_of, tmp_path):
    """The id of a run on digits whose parameters were kept."""
    (tmp_path / "s.yaml").write_text(text_of())
    assert isoflop("run", "s.yaml", "--executor", "inline", "--device", "cpu", "--keep").code == 0
    return json.loads(isoflop("results", "--format", "json").out)[0]["run_id"]


def test_speed_is_said_for_every_batch_size(isoflop):
    ended = isoflop("model", "speed", "B-1/Wi-16", "--resolution", 8, "--batch-sizes", "1,32", "--seconds", 0.01)
    assert ended.code == 0, ended.err
    assert [line.split()[0] for line in ended.out.splitlines()[1:3]] == ["1", "32"]
    rows = json.loads(
        isoflop(
            *("model", "speed", "B-1/Wi-16", "--resolution", 8, "--batch-sizes", "4", "--seconds", 0.01, "--json")
        ).out
    )
    assert [row["batch_size"] for row in rows] == [4]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["Q-6/Wi"], "is no model name"),
        (["B-1/Wi-16", "--batch-sizes", "1,x"], "must be whole numbers"),
        (["B-1/Wi-16", "--device", "tpu"], "it is one of auto, cpu, cuda, mps"),
    ],
)
def test_what_cannot_be_timed_is_one_line(isoflop, arguments, said):
    ended = isoflop("model", "speed", *arguments)
    assert (ended.code, len(ended.err.splitlines())) == (2, 1)
    assert said in ended.err


def test_weights_of_a_kept_run_are_drawn(isoflop, kept, tmp_path):
    ended = isoflop("model", "weights", kept[:8])
    assert ended.code == 0, ended.err
    assert {path.suffix for path in (tmp_path / "figures").iterdir()} == {".png", ".svg"}


def test_weights_of_an_official_checkpoint_are_drawn(isoflop, tmp_path):
    shape = Shape("b-mlp", 1, 16, 4 * 4 * 3, 5)
    weights = {slot.name: torch.randn(slot.shape) for slot in slots(shape)}
    save_official(tmp_path / "B_1-Wi_16.pt", shape, weights)
    assert isoflop("model", "weights", "B_1-Wi_16.pt").code == 0


def test_a_run_that_was_not_kept_is_one_line(isoflop, kept):
    ended = isoflop("model", "weights", "zzzz")
    assert (ended.code, len(ended.err.splitlines())) == (2, 1)
    assert "no kept parameters" in ended.err


def test_vectors_have_no_pictures(isoflop, tmp_path):
    x, y = np.ones((9, 5), np.float32), np.arange(9) % 3
    np.savez(tmp_path / "v.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    (tmp_path / "v.yaml").write_text(
        "sweep: v\ndata: {dataset: v, path: v.npz}\nmodel: {width: 8, depth: 1}\n"
        "train: {lr: 1e-3, batch_size: 4}\nbudget: {epochs: 1}\n"
    )
    assert isoflop("run", "v.yaml", "--executor", "inline", "--device", "cpu", "--keep", "--no-canary").code == 0
    run = json.loads(isoflop("results", "--format", "json").out)[0]["run_id"]
    ended = isoflop("model", "weights", run)
    assert ended.code == 2
    assert "holds no images" in ended.err
