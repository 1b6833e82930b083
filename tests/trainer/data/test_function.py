"""Data sets that code from outside the packages makes: a function that returns arrays, or a task."""

from __future__ import annotations

import importlib
import subprocess
import sys

import numpy as np
import pytest

from trainer import RunSpec, SpecError, train
from trainer.data.datasets import describe, is_ready, load, resolve, split

RINGS = """
import numpy as np

def rings():
    with open({calls!r}, "a") as calls:
        calls.write("called ")
    rng = np.random.default_rng(0)
    labels = np.arange(120) % 3
    x = rng.normal(size=(120, 6)) + {gap} * labels[:, None]
    return x[:90], labels[:90], x[90:], labels[90:]

def grey():
    x_train, y_train, x_test, y_test = rings()
    images = [np.clip(40 * x[:, :4].reshape(-1, 2, 2) + 60, 0, 255).astype(np.uint8) for x in (x_train, x_test)]
    return {{"x_train": images[0], "y_train": y_train, "x_test": images[1], "y_test": y_test, "about": "grey"}}
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Writes a module outside the packages and returns its name, a new one each time."""
    monkeypatch.syspath_prepend(tmp_path)
    written = []

    def write(source):
        name = f"outside{len(written)}_{tmp_path.name[-20:]}"
        (tmp_path / f"{name}.py").write_text(source)
        importlib.invalidate_caches()
        written.append(name)
        return name

    yield write
    for name in written:
        sys.modules.pop(name, None)


def spec_of(dataset, **fields):
    return RunSpec(**{"dataset": dataset, "width": 16, "batch_size": 32, "examples": 640, "lr": 1e-2, **fields})


def resolved(spec):
    return resolve(spec, describe(spec))


@pytest.fixture
def rings(module, tmp_path):
    return module(RINGS.format(calls=str(tmp_path / "calls"), gap=2))


def test_a_function_is_described_trained_and_called_once(rings, tmp_path):
    spec = spec_of(f"{rings}:rings")
    assert not is_ready(spec)
    info = describe(spec, decode=False)
    assert (info.train_examples, info.inputs, info.classes, info.image) == (90, 6, 3, None)
    assert is_ready(spec)
    result = train(spec, device="cpu")
    assert result.state == "done"
    assert result.error < 0.2
    code = f"from trainer import RunSpec, describe; print(describe(RunSpec(dataset={spec.dataset!r}, epochs=1)))"
    other = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert other.stdout.strip() == repr(info)
    assert (tmp_path / "calls").read_text() == "called "


def test_a_mapping_of_images_does_as_well_and_may_be_scaled(rings):
    info = describe(spec_of(f"{rings}:grey"))
    assert info.image == (2, 2, 1)
    assert describe(spec_of(f"{rings}:grey", resolution=4)).image == (4, 4, 1)
    assert train(spec_of(f"{rings}:grey", augment="flip"), device="cpu").state == "done"


def test_a_run_depends_on_what_the_function_returns(module, tmp_path):
    text = RINGS.format(calls=str(tmp_path / "calls"), gap=2)
    before, after = (describe(spec_of(f"{module(source)}:rings")) for source in (text, text.replace("2 *", "3 *")))
    same = describe(spec_of(f"{module('# a comment' + text)}:rings"))
    assert before.fingerprint == same.fingerprint != after.fingerprint
    spec = resolved(spec_of(f"{module(text)}:rings"))
    with pytest.raises(SpecError, match="has changed since this run was planned"):
        resolve(spec, after)


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        ("1 / 0", "failed: ZeroDivisionError: division by zero"),
        ("return 3", "must return x_train, y_train, x_test, y_test or a mapping of them; found int"),
        ("return {'x_train': [[0.0]]}", "has no array y_train; it needs x_train, y_train, x_test, y_test"),
        ("return [[0.0]] * 2, [0, 1], [[0.0]], [0, 1]", "x_test has 1 rows and y_test 2"),
        ("return 1, 2, 3, 4", "x_train has 0 rows and y_train 0"),
        ("return [[0.0]] * 2, [0.5, 1.5], [[0.0]], [1.0]", "labels must be whole numbers from 0; found float64"),
    ],
)
def test_what_is_no_data_set_is_refused_about_the_dataset(module, body, complaint):
    name = module(f"def bad():\n    {body}")
    with pytest.raises(SpecError) as caught:
        describe(spec_of(f"{name}:bad"))
    assert caught.value.field == "dataset"
    assert complaint in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"path": "x.npz"}, "has no path"),
        ({"loader": "ffcv"}, "has no .beton files"),
        ({}, "cannot import no_such:x"),
    ],
)
def test_what_code_does_not_have_is_refused(rings, fields, complaint):
    with pytest.raises(SpecError, match=complaint):
        describe(spec_of(f"{rings}:rings" if fields else "no_such:x", **fields))


TASK = """
import numpy as np
from trainer.data.arrays import Arrays, DatasetInfo, Split
from trainer.data.entries import Task

def info(spec):
    return DatasetInfo("parity", 200, 8, 2, None, "parity")

def load(spec):
    x = (np.arange(256)[:, None] >> np.arange(8) & 1).astype(np.float32)
    labels = x.sum(1).astype(np.int64) % 2
    return Arrays(info(spec), x, labels, 0, np.full(1, 0.5, np.float32), np.full(1, 0.5, np.float32))

def split(arrays, spec):
    order = np.random.default_rng(spec.seed).permutation(256)
    return Split(order[: spec.dataset_size], order[200:], np.ones(56))

PARITY = Task(info=info, load=load, split=split, holds_out=False)
"""


def test_a_task_splits_in_its_own_way_and_its_source_is_part_of_its_runs(module):
    spec = spec_of(f"{module(TASK)}:PARITY", dataset_size=100)
    rows = split(load(spec), resolved(spec))
    assert (len(rows.train), len(rows.test)) == (100, 56)
    assert train(spec, device="cpu").state == "done"
    other = spec_of(f"{module(TASK.replace('200:', '199:'))}:PARITY")
    assert describe(spec).fingerprint != describe(other).fingerprint
    with pytest.raises(SpecError, match="tested on its whole distribution"):
        resolved(spec_of(spec.dataset, validation=0.1))
    with pytest.raises(SpecError, match="has no resolution 4; omit it"):
        describe(spec_of(spec.dataset, resolution=4))


@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        ("entry = 3", "must be a function that returns x_train, y_train, x_test and y_test, a Task or Files"),
        ("def entry(n): pass", "must take 0 arguments"),
        (TASK.replace("split=split", "split=load") + "entry = PARITY", "split must take 2 arguments"),
        (TASK.replace("split=split, ", "") + "entry = PARITY", "missing 1 required keyword-only argument: 'split'"),
    ],
)
def test_an_entry_that_lacks_a_part_is_refused_when_it_is_registered(module, source, complaint):
    with pytest.raises(SpecError, match=complaint):
        describe(spec_of(f"{module(source)}:entry"))


def test_the_rows_of_a_function_are_nested_subsets(rings):
    spec = spec_of(f"{rings}:rings", dataset_size=30, validation=0.1)
    rows, arrays = split(load(spec), resolved(spec)), load(spec)
    assert (len(rows.train), len(rows.validation), rows.test.tolist()) == (30, 9, list(range(90, 120)))
    assert np.bincount(arrays.labels[rows.train]).tolist() == [10, 10, 10]
