from __future__ import annotations

import hashlib
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from sklearn.datasets import load_digits

from trainer.data.datasets import describe, load, resolve, split
from trainer.data.sets import zipf
from trainer.spec import RunSpec, SpecError


def _split(**fields):
    spec = RunSpec(epochs=1, batch_size=1, **fields)
    return split(load(spec), resolve(spec, describe(spec)))


def _vectors(path, train=40, test=10, classes=4):
    rng = np.random.default_rng(0)
    x, y = rng.normal(3, 2, (train + test, 7)), np.arange(train + test) % classes
    np.savez(path, x_train=x[:train], y_train=y[:train], x_test=x[train:], y_test=y[train:])
    return str(path)


def test_five_folds_test_on_every_digit_once():
    tests = [_split(dataset="digits", seed=seed).test for seed in range(5)]
    assert all(not set(a) & set(b) for a, b in combinations(tests, 2))
    assert sorted(np.concatenate(tests)) == list(range(1797))


@pytest.mark.parametrize("seed", range(6))
def test_no_digit_is_both_trained_and_tested_on(seed):
    rows = _split(dataset="digits", seed=seed)
    assert not set(rows.train) & set(rows.test)
    assert len(set(rows.train)) == len(rows.train) == describe(RunSpec(dataset="digits", epochs=1)).train_examples
    assert (rows.test_weight == 1).all()


def test_folds_hold_their_share_of_every_digit():
    labels = load(RunSpec(dataset="digits", epochs=1)).labels
    for seed in range(5):
        counts = np.bincount(labels[_split(dataset="digits", seed=seed).test])
        assert np.abs(counts - np.bincount(labels) / 5).max() < 1


def test_digits_are_those_of_scikit_learn():
    arrays, (images, labels) = load(RunSpec(dataset="digits", epochs=1)), load_digits(return_X_y=True)
    assert np.array_equal(np.asarray(arrays.inputs), images)
    assert np.array_equal(arrays.labels, labels)
    assert arrays.info.inputs == arrays.inputs.shape[1]
    assert arrays.info.image == (8, 8, 1)


@pytest.mark.parametrize("dataset", ["digits", "zipf"])
def test_a_smaller_training_set_is_inside_the_larger(dataset):
    small, large = (_split(dataset=dataset, seed=3, dataset_size=size).train for size in (100, 700))
    assert small.tolist() == large[:100].tolist()


def test_zipf_tests_on_every_token_with_its_probability():
    rows = _split(dataset="zipf", zipf_alpha=1.0, zipf_tokens=50, dataset_size=10)
    assert rows.test.tolist() == list(range(50))
    assert rows.test_weight.tolist() == zipf.probabilities(1.0, 50).tolist()


def test_zipf_trains_on_draws_of_the_seed():
    rows = [_split(dataset="zipf", zipf_tokens=50, dataset_size=200, seed=seed).train for seed in (0, 1)]
    assert rows[0].tolist() == zipf.draw(0.5, 50, 200, 0).tolist()
    assert rows[0].tolist() != rows[1].tolist()


def test_other_sets_train_within_their_training_split_and_test_on_all_of_the_other(tmp_path):
    path = _vectors(tmp_path / "v.npz")
    for size in (12, 40):
        rows = _split(dataset="mine", path=path, dataset_size=size, seed=1)
        assert set(rows.train) <= set(range(40))
        assert len(set(rows.train)) == size
        assert rows.test.tolist() == list(range(40, 50))


def test_what_is_described_is_what_is_loaded(tmp_path):
    info = describe(RunSpec(dataset="mine", path=_vectors(tmp_path / "v.npz"), epochs=1))
    assert (info.name, info.train_examples, info.inputs, info.classes, info.image) == ("mine", 40, 7, 4, None)


def test_runs_that_share_a_data_set_share_its_arrays(tmp_path):
    spec = RunSpec(dataset="mine", path=_vectors(tmp_path / "v.npz"), epochs=1)
    assert load(spec) is load(replace(spec, seed=3, lr=0.1, dataset_size=10))


def test_other_tokens_are_another_data_set():
    prints = {
        describe(RunSpec(dataset="zipf", epochs=1, **said)).fingerprint
        for said in ({}, {"zipf_alpha": 1.0}, {"zipf_tokens": 99}, {"zipf_alpha": 0.5, "zipf_tokens": 10_000})
    }
    assert len(prints) == 3  # the last one spells out the defaults


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"dataset": "cifar10"}, "dataset"),
        ({"dataset": "cifar10", "path": "/nowhere/at/all"}, "path"),
        ({"dataset": "digits", "path": "/tmp"}, "path"),
        ({"dataset": "digits", "resolution": 16}, "resolution"),
        ({"dataset": "zipf", "resolution": 8}, "resolution"),
    ],
)
def test_a_data_set_that_cannot_be_had_is_an_error_that_names_its_field(fields, named):
    with pytest.raises(SpecError) as caught:
        describe(RunSpec(epochs=1, **fields))
    assert caught.value.field == named
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "hashes"),
    [
        ({"dataset": "digits", "dataset_size": 200, "seed": 1}, ("42272c1f7dd47a64", "4367e146d788f590", None)),
        (
            {"dataset": "digits", "validation": 0.2, "seed": 4},
            ("19b7cf99a33645c6", "3da1c64eb6c98b5f", "6bfc9640252198f8"),
        ),
        ({"dataset": "zipf", "dataset_size": 500, "seed": 2}, ("806a923b1a2bffc0", "9e1c19b3fdc18541", None)),
    ],
)
def test_a_seeds_split_is_the_same_in_every_version(fields, hashes):
    rows = _split(**fields)
    for part, digest in zip((rows.train, rows.test, rows.validation), hashes, strict=True):
        found = hashlib.sha256(np.ascontiguousarray(part, dtype="<i8").tobytes()).hexdigest()[:16]
        assert found == digest if digest else len(part) == 0
