"""The 1,797 handwritten digits of scikit-learn, 8 x 8 pixels: embedded, small, real.

Seed s tests on fold s mod 5 and trains on the others, so that five seeds test on every image once.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

from trainer.data.arrays import Arrays, DatasetInfo
from trainer.data.entries import Task
from trainer.data.subsets import split_of
from trainer.host import installation
from trainer.rng import stream

if TYPE_CHECKING:
    from trainer.data.arrays import Split
    from trainer.spec import RunSpec

_IMAGES, _FOLDS = 1797, 5


def info(_: RunSpec) -> DatasetInfo:
    """Sizes and fingerprint."""
    test = -(-_IMAGES // _FOLDS)  # the largest of the five folds
    return DatasetInfo("digits", _IMAGES - test, 64, 10, (8, 8, 1), "sklearn-digits-2", test)


def load(spec: RunSpec) -> Arrays:
    """All images."""
    import numpy as np

    rows = np.loadtxt(_file(), np.uint8, delimiter=",")  # reads .gz
    images, labels = np.ascontiguousarray(rows[:, :-1]), rows[:, -1]
    # Fixed numbers near the mean 4.9 and deviation 6.0 of all pixels, so that no test fold is looked at.
    mean, std = np.array([5.0], np.float32), np.array([6.0], np.float32)
    return Arrays(info(spec), images, labels.astype(np.int64), 0, mean, std)


def _file() -> Path:
    """The file that scikit-learn ships, whose own import takes as long as that of torch: with scipy and pandas."""
    found = importlib.util.find_spec("sklearn")
    if found is None or not found.submodule_search_locations:
        why = f"digits are scikit-learn's; run: {installation.install('scikit-learn')}"
        raise ModuleNotFoundError(why, name="sklearn")
    return Path(found.submodule_search_locations[0]) / "datasets" / "data" / "digits.csv.gz"


def split(arrays: Arrays, spec: RunSpec) -> Split:
    """The fold of a seed, a fifth of each class, for testing."""
    import numpy as np

    order = np.random.default_rng(stream("digits", "folds")).permutation(_IMAGES)
    by_class = order[np.argsort(arrays.labels[order], kind="stable")]
    test = by_class[spec.seed % _FOLDS :: _FOLDS]
    return split_of(arrays, spec, np.setdiff1d(order, test), test)


DIGITS = Task(info=info, load=load, split=split, resolution=8)
