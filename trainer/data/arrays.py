"""A data set in memory: what is known of one (DatasetInfo), its examples (Arrays), the rows of a run (Split)."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    from trainer.data.formats.ffcv import Betons


@dataclass(frozen=True)
class DatasetInfo:
    """What planning needs of a data set.

    `train_examples` is the most that a run may train on, `inputs` the length of one flattened example,
    `image` its (side, side, channels) or None, `fingerprint` a hash of the content, `test_examples` the size of the
    test split, None if it is not known.
    """

    name: str
    train_examples: int
    inputs: int
    classes: int
    image: tuple[int, int, int] | None
    fingerprint: str
    test_examples: int | None = None


@dataclass(frozen=True, eq=False)
class Arrays:
    """A data set in memory or in a file: one table of examples that train and test rows point into.

    inputs: [n, inputs] uint8 or float32, or the images of .beton files; labels: [n] int64. The first `train` rows
    are for training, the others for testing, unless a task splits otherwise. `mean` and `std` normalise the inputs,
    in their units, one a channel (the last axis of an image) or one for all. `real` [n, m], if given, holds up to m
    right labels of every example, filled up with -1 (ReaL, Beyer et al. 2020).
    """

    info: DatasetInfo
    inputs: np.ndarray | Betons
    labels: np.ndarray
    train: int
    mean: np.ndarray
    std: np.ndarray
    real: np.ndarray | None = None


def _no_rows() -> np.ndarray:
    import numpy as np

    return np.empty(0, np.int64)


@dataclass(frozen=True, eq=False)
class Split:
    """Rows of one run: train [dataset_size] and test [t], with the weight [t] of each test row.

    `validation` [v] holds what is held out of training for selection; it may be empty.
    """

    train: np.ndarray
    test: np.ndarray
    test_weight: np.ndarray
    validation: np.ndarray = field(default_factory=_no_rows)

    @property
    def watched(self) -> Split:
        """The split that records are made on: the validation split as a test split, if there is one."""
        import numpy as np

        return replace(self, test=self.validation, test_weight=np.ones(len(self.validation)))
