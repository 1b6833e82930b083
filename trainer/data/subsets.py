"""Seeded training subsets: class-stratified, and every smaller one inside the larger."""

from __future__ import annotations

import numpy as np

from trainer.rng import stream


def nested(labels: np.ndarray, size: int, seed: int) -> np.ndarray:
    """Row numbers [size] of a training subset, in an order of their own.

    Every class gives the same share of its examples, to within one example; where classes are of one size,
    each gives `size / classes` to within one. The subset of a size begins with every smaller subset of the
    same seed. ValueError where there are fewer than `size` labels.
    """
    if not 0 < size <= len(labels):
        raise ValueError(f"a subset of {size:,} examples asked of {len(labels):,}")
    rng = np.random.default_rng(stream(seed, "subset"))
    shuffled = rng.permutation(len(labels))
    by_class = shuffled[np.argsort(labels[shuffled], kind="stable")]
    counts = np.bincount(labels)
    counts = counts[counts > 0]
    starts = np.repeat(np.cumsum(counts) - counts, counts)
    # The j-th of c members of a class stands at (j + u) / c, u one draw a class: any prefix holds its share.
    offsets = np.repeat(rng.random(len(counts)), counts)
    position = (np.arange(len(labels)) - starts + offsets) / np.repeat(counts, counts)
    return by_class[np.argsort(position, kind="stable")][:size]
