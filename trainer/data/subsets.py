"""Training and validation rows of a run: seeded subsets, class-stratified, every smaller one inside the larger."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainer.data.arrays import Split
from trainer.rng import stream

if TYPE_CHECKING:
    import numpy as np

    from trainer.data.arrays import Arrays, DatasetInfo
    from trainer.spec import RunSpec

_VALIDATION = -1
"""The seed of the validation split: every run holds out the same examples."""


def nested(labels: np.ndarray, size: int, seed: int) -> np.ndarray:
    """Row numbers [size] of a training subset, in an order of their own.

    Every class gives the same share of its examples, to within one example; where classes are of one size,
    each gives `size / classes` to within one. The subset of a size begins with every smaller subset of the
    same seed. ValueError where there are fewer than `size` labels.
    """
    import numpy as np

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


def held_out(spec: RunSpec, info: DatasetInfo) -> int:
    """Number of examples in the validation split."""
    return round(spec.validation * info.train_examples)


def split_of(arrays: Arrays, spec: RunSpec, pool: np.ndarray, test: np.ndarray) -> Split:
    """Rows of a run that trains on a nested subset of `pool`, less the validation split, and tests on `test`."""
    import numpy as np

    assert spec.dataset_size is not None
    validation = pool[:0]
    if number := held_out(spec, arrays.info):
        chosen = np.zeros(len(pool), bool)
        chosen[nested(arrays.labels[pool], number, _VALIDATION)] = True
        pool, validation = pool[~chosen], pool[chosen]
    rows = pool[nested(arrays.labels[pool], spec.dataset_size, spec.seed)]
    return Split(rows, test, np.ones(len(test)), validation)
