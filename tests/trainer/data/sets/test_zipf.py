from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.data.sets import zipf

QUICK = settings(deadline=None, max_examples=40)


@pytest.mark.parametrize("alpha", [0.5, 1.0])
@pytest.mark.parametrize("examples", [1, 10, 200])
def test_expected_error_is_that_of_simulated_memorisers(alpha, examples):
    tokens, repeats = 40, 3000
    rng = np.random.default_rng(7)
    p = np.arange(1.0, tokens + 1) ** -(1 + alpha)
    p /= p.sum()
    errors = []
    for _ in range(repeats):
        labels = rng.integers(0, zipf.CLASSES, tokens)
        seen = np.unique(rng.choice(tokens, examples, p=p))
        answers = rng.integers(0, zipf.CLASSES, tokens)
        answers[seen] = labels[seen]
        errors.append(p[answers != labels].sum())
    expected = zipf.expected_error([examples], alpha, tokens)
    assert expected.shape == (1,)
    assert abs(np.mean(errors) - expected[0]) < 4 * np.std(errors) / np.sqrt(repeats)


@pytest.mark.parametrize("alpha", [0.5, 1.0])
def test_tokens_left_unseen_by_our_draws_weigh_what_the_formula_says(alpha):
    tokens, examples = 60, 50
    p = zipf.probabilities(alpha, tokens)
    unseen = [1 - p[np.unique(zipf.draw(alpha, tokens, examples, seed))].sum() for seed in range(1000)]
    expected = zipf.expected_error([examples], alpha, tokens)[0]
    spread = np.std(unseen) / np.sqrt(len(unseen))
    assert abs((1 - 1 / zipf.CLASSES) * np.mean(unseen) - expected) < 4 * spread


@pytest.mark.parametrize("alpha", [0.5, 1.0])
def test_the_error_falls_with_the_theoretical_exponent_when_tokens_abound(alpha):
    examples = np.array([1e3, 1e4])
    error = zipf.expected_error(examples, alpha, 1_000_000)
    slope = -np.log(error[1] / error[0]) / np.log(10)
    assert slope == pytest.approx(zipf.theoretical_exponent(alpha), abs=0.01)


@QUICK
@given(seed=st.integers(0, 100), small=st.integers(1, 500), large=st.integers(500, 1000))
def test_a_longer_draw_begins_with_the_shorter(seed, small, large):
    assert zipf.draw(0.5, 100, large, seed)[:small].tolist() == zipf.draw(0.5, 100, small, seed).tolist()


def test_draws_have_the_probabilities():
    p = zipf.probabilities(0.5, 20)
    counts = np.bincount(zipf.draw(0.5, 20, 100_000, 0), minlength=20)
    assert np.abs(counts / 100_000 - p).max() < 5 * np.sqrt(0.25 / 100_000)
    assert p.sum() == pytest.approx(1)
    assert p[0] / p[3] == pytest.approx(4**1.5)


def test_codes_and_labels_are_the_same_in_every_run():
    codes, labels = zipf.table(1000)
    again, _ = zipf.table(1000)
    assert np.array_equal(codes, again)
    assert codes.shape == (1000, zipf.INPUTS)
    assert codes.std() == pytest.approx(1, abs=0.02)
    assert set(labels) == set(range(zipf.CLASSES))


def test_a_seeds_draw_is_the_same_in_every_version():
    assert zipf.draw(0.5, 1000, 12, 0).tolist() == [375, 2, 0, 3, 7, 17, 1, 31, 0, 0, 2, 0]
