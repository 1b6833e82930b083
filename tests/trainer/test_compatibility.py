"""Checkpoints, kept parameters and decoded sets as version 0.1 wrote them, before the packages: they still open.

`fixtures/` holds what it wrote: three runs stopped after 32 of 60 steps, the parameters of a fourth, and a small
.npz file with its entry in the cache.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trainer import RunSpec, describe, train
from trainer.checkpoints.checkpoints import kept_parameters
from trainer.data.datasets import load
from trainer.result import Resumed
from trainer.training.loop import training

FIXTURES = Path(__file__).parent / "fixtures"
RUN_IDS = {
    "adamw": "26df758b72dc578bacc1a0c821bd889c",
    "sgd": "854bc9cc0e1795e3f15cf7eccf35a5b8",
    "lion": "31618c1c972aad5b83d8c7eb4715131a",
}
KEPT = "0eeb0794a4ef121250e395f1f94d266b"
FIELDS: dict[str, Any] = {"dataset": "digits", "depth": 1, "width": 8, "expansion": 1, "batch_size": 32}


@pytest.fixture
def checkpoints(tmp_path):
    return shutil.copytree(FIXTURES / "checkpoints", tmp_path / "checkpoints")


@pytest.mark.parametrize("optimizer", RUN_IDS)
def test_an_old_checkpoint_is_resumed_by_the_run_that_it_is_of(checkpoints, caplog, optimizer, monkeypatch):
    """That is one of its numerics version; see the next test."""
    monkeypatch.setattr("trainer.spec.NUMERICS", 1)
    run = RunSpec(**FIELDS, examples=32 * 60, optimizer=optimizer, lr=3e-3, weight_decay=0.01)
    events = training([run], device="cpu", evaluations=4, checkpoints=checkpoints)
    resumed = next(events)
    assert isinstance(resumed, Resumed)
    assert (resumed.run_id, resumed.step) == (RUN_IDS[optimizer], 32)
    result = train(run, device="cpu", evaluations=4, checkpoints=checkpoints)
    whole = train(run, device="cpu", evaluations=4)
    assert result.loss == pytest.approx(whole.loss, rel=1e-4)  # other processors, other last bits
    assert [record.step for record in result.history] == [record.step for record in whole.history]
    assert not caplog.records


def test_a_checkpoint_of_other_numerics_is_not_resumed(checkpoints):
    run = RunSpec(**FIELDS, examples=32 * 60, optimizer="adamw", lr=3e-3, weight_decay=0.01)
    events = list(training([run], device="cpu", evaluations=2, checkpoints=checkpoints))
    assert {event.run_id for event in events}.isdisjoint(RUN_IDS.values())
    assert not any(isinstance(event, Resumed) for event in events)


def test_old_parameters_begin_a_run(checkpoints):
    values, weights = kept_parameters(checkpoints, KEPT)
    assert values["seed"] == 7
    assert weights["embed.weight"].shape == (64, 8)
    child = RunSpec(**FIELDS, examples=0, seed=7, parent=KEPT)
    assert train(child, device="cpu", checkpoints=checkpoints).error == pytest.approx(0.41225626740947074, abs=0.02)


def test_an_old_registered_and_decoded_set_is_opened_as_it_is(tmp_path, cache):
    source = Path(shutil.copy(FIXTURES / "set.npz", tmp_path / "set.npz"))
    os.utime(source, ns=(10**18, 10**18))
    looks = [str(source.resolve()), [[".", source.stat().st_size, 10**18]]]
    entry = hashlib.sha256(json.dumps([1, looks, None]).encode()).hexdigest()[:24]
    shutil.copytree(FIXTURES / "decoded", cache / "datasets" / entry)
    (cache / "data.json").write_text(json.dumps({"oldset": str(source)}))
    spec = RunSpec(dataset="oldset", epochs=1)
    info = describe(spec)
    assert info.fingerprint == "1be2bb9f6855927ef724b62fa16b2220"
    assert (info.train_examples, info.image, info.classes) == (18, (4, 4, 3), 3)
    assert [path.name for path in (cache / "datasets").iterdir()] == [entry]  # nothing was decoded again
    with np.load(source) as arrays:
        assert np.array_equal(load(spec).inputs[:18].reshape(18, 4, 4, 3), arrays["x_train"])
    shutil.rmtree(cache / "datasets")
    assert describe(RunSpec(dataset="oldset", resolution=4, epochs=1)).fingerprint == info.fingerprint
