from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.data.subsets import nested

QUICK = settings(deadline=None, max_examples=60)
tables = st.lists(st.integers(1, 40), min_size=1, max_size=8).map(
    lambda counts: np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)) * 2, counts))
)


@QUICK
@given(labels=tables, seed=st.integers(0, 1000), data=st.data())
def test_a_subset_begins_with_every_smaller_one(labels, seed, data):
    large = data.draw(st.integers(1, len(labels)))
    small = data.draw(st.integers(1, large))
    rows = nested(labels, large, seed)
    assert len(set(rows)) == large
    assert rows[:small].tolist() == nested(labels, small, seed).tolist()


@QUICK
@given(classes=st.integers(1, 12), each=st.integers(1, 40), seed=st.integers(0, 1000), data=st.data())
def test_classes_of_one_size_keep_their_shares_to_within_one_example(classes, each, seed, data):
    labels = np.random.default_rng(1).permutation(np.repeat(np.arange(classes), each))
    size = data.draw(st.integers(1, len(labels)))
    counts = np.bincount(labels[nested(labels, size, seed)], minlength=classes)
    assert np.abs(counts - size / classes).max() < 1


@QUICK
@given(labels=tables, seed=st.integers(0, 1000), data=st.data())
def test_classes_of_any_size_keep_one_common_share_to_within_one_example(labels, seed, data):
    size = data.draw(st.integers(1, len(labels)))
    whole = np.bincount(labels)
    counts = np.bincount(labels[nested(labels, size, seed)], minlength=len(whole))[whole > 0]
    whole = whole[whole > 0]
    assert ((counts - 1) / whole).max() <= ((counts + 1) / whole).min()


def test_another_seed_draws_another_subset():
    labels = np.repeat([0, 1], 50)
    assert set(nested(labels, 20, 0)) != set(nested(labels, 20, 1))


@pytest.mark.parametrize("size", [0, -1, 11])
def test_a_subset_larger_than_the_set_or_empty_is_refused(size):
    with pytest.raises(ValueError, match="subset"):
        nested(np.zeros(10, int), size, 0)


@pytest.mark.parametrize(
    ("seed", "rows"),
    [(0, [20, 33, 2, 31, 4, 53, 10, 7, 56, 57, 46, 27]), (3, [54, 1, 59, 52, 30, 53, 35, 0, 50, 9, 19, 16])],
)
def test_a_seeds_subset_is_the_same_in_every_version(seed, rows):
    assert nested(np.arange(60) % 4, 12, seed).tolist() == rows
