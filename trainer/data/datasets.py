"""Data sets as arrays: what is known of one (DatasetInfo), its images and labels, its splits. No torch.

Two sets are embedded, `digits` (scikit-learn's) and `zipf`. Others are found by name (`catalogue`) or come with a
`path`; `download` copies what lies behind a URL, `cache` decodes it once into a memory-mapped array.
"""

from __future__ import annotations

import functools
import hashlib
import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from trainer import cost
from trainer.data import catalogue
from trainer.data.cache import is_decoded, load_decoded
from trainer.data.download import copy_here, local_copy
from trainer.data.sets import zipf
from trainer.data.subsets import nested
from trainer.rng import stream
from trainer.spec import RunSpec, SpecError, model_name

if TYPE_CHECKING:
    from trainer.data.formats.ffcv import Betons

EMBEDDED = ("digits", "zipf")
UNSEEN = "not-seen"
"""Fingerprint of a data set that is only known by name: good for a plan, not for a run."""
WHOLE = 2**30
"""Bytes of fp32 up to which a resident data set also lies normalised on a GPU."""
_FOLDS = 5
_DIGITS = 1797
_VALIDATION = -1
"""Where a run would have its seed: every seed holds out the same examples."""


@dataclass(frozen=True)
class DatasetInfo:
    """What planning needs of a data set.

    `train_examples` is the most that a run may train on, `inputs` the length of one flattened example,
    `image` its (side, side, channels) or None, `fingerprint` a hash of the content.
    """

    name: str
    train_examples: int
    inputs: int
    classes: int
    image: tuple[int, int, int] | None
    fingerprint: str


@dataclass(frozen=True, eq=False)
class Arrays:
    """A data set in memory or in a file: one table of examples that train and test rows point into.

    inputs: [n, inputs] uint8 or float32, or the images of .beton files; labels: [n] int64; `mean` and `std`
    normalise them, in units of inputs, one a channel (the last axis of an image) or one for all. `real` [n, m],
    where there is one, holds up to m right labels of every example, filled up with -1 (ReaL, Beyer et al. 2020).
    """

    info: DatasetInfo
    inputs: np.ndarray | Betons
    labels: np.ndarray
    train: int
    mean: np.ndarray
    std: np.ndarray
    real: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class Split:
    """Rows of one run: train [dataset_size] and test [t], with the weight [t] of each test row.

    `validation` [v] holds what is held out of training for selection; it may be empty.
    """

    train: np.ndarray
    test: np.ndarray
    test_weight: np.ndarray
    validation: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))

    @property
    def watched(self) -> Split:
        """The split that records are made on: the validation split as a test split, where there is one."""
        return replace(self, test=self.validation, test_weight=np.ones(len(self.validation)))


def describe(spec: RunSpec, *, decode: bool = True) -> DatasetInfo:
    """Sizes and fingerprint of a spec's data set; SpecError where it cannot be had.

    Immediate for the embedded sets. Others are decoded the first time they are asked for; without `decode`, one
    that the catalogue knows is described from there, with the fingerprint UNSEEN, where it would have to be.
    """
    if spec.dataset in EMBEDDED:
        _refuse_foreign_keys(spec)
    if spec.dataset == "digits":
        train = _DIGITS - -(-_DIGITS // _FOLDS)  # the smallest of the five training sets
        return DatasetInfo("digits", train, 64, 10, (8, 8, 1), "sklearn-digits-2")
    if spec.dataset == "zipf":
        alpha, tokens = _zipf(spec)
        fingerprint = f"zipf-1-{alpha!r}-{tokens}"
        return DatasetInfo("zipf", zipf.MOST_EXAMPLES, zipf.INPUTS, zipf.CLASSES, None, fingerprint)
    known, place = catalogue.KNOWN.get(spec.dataset), _place(spec)
    here = place and copy_here(place)
    if known and not decode and not (here and is_decoded(str(here), _side(spec))):
        side = spec.resolution or known.side
        image = (side, side, known.channels)
        return DatasetInfo(spec.dataset, known.train, math.prod(image), known.classes, image, UNSEEN)
    return load(spec).info


def resolve(spec: RunSpec, info: DatasetInfo) -> RunSpec:
    """Complete a spec with what follows from its data set.

    `steps` is the largest whole number of steps that the budget pays for, so a budget is met to within
    one step and never exceeded; `examples`, `epochs` and (where none was asked for) `budget` are set to
    what those steps come to. Raises SpecError where data, model and budget do not fit together.
    """
    if spec.fingerprint and spec.fingerprint != info.fingerprint:
        raise SpecError(
            "dataset",
            f"{spec.dataset} has changed since this run was planned (fingerprint {spec.fingerprint[:8]}, "
            f"now {info.fingerprint[:8]}); plan again, or put the old files back",
        )
    if spec.validation and spec.dataset == "zipf":
        raise SpecError(
            "validation", "zipf is tested on its whole distribution and holds nothing out; leave it out"
        )
    most = info.train_examples - _held_out(spec, info)
    size = most if spec.dataset_size is None else spec.dataset_size
    if size > most:
        less = (
            f", {info.train_examples - most:,} of them held out for validation"
            if most < info.train_examples
            else ""
        )
        raise SpecError(
            "dataset_size", f"{size:,} examples asked, {spec.dataset} has {info.train_examples:,}{less}"
        )
    if spec.augment != "none" and info.image is None:
        raise SpecError("augment", f"{spec.dataset} holds no images to {spec.augment}; use none")
    known = replace(
        spec,
        dataset_size=size,
        inputs=info.inputs,
        classes=info.classes,
        fingerprint=info.fingerprint,
        parent=_digest(local_copy(spec.start, "start")) if spec.start else spec.parent,
    )
    if spec.steps is not None:
        return known
    steps = _steps(known, size, cost.flops_per_example(cost.shape_of(known)))
    examples = steps * spec.batch_size
    flops = examples * cost.flops_per_example(cost.shape_of(known))
    return replace(
        known,
        steps=steps,
        examples=examples,
        epochs=examples / size or None,
        budget=(float(flops) or None) if spec.budget is None else spec.budget,
    )


def _held_out(spec: RunSpec, info: DatasetInfo) -> int:
    """Examples of the validation split."""
    return round(spec.validation * info.train_examples)


def _digest(file: Path) -> str:
    """What a run knows of the checkpoint file that it begins with."""
    if not file.is_file():
        raise SpecError("start", f"no checkpoint at {file}")
    return _sha256(file, file.stat().st_mtime_ns)[:32]


@functools.lru_cache(maxsize=16)
def _sha256(file: Path, changed: int) -> str:  # noqa: ARG001 - a file that changed is read again
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _steps(spec: RunSpec, size: int, flops_per_example: int) -> int:
    if spec.examples == 0:
        return 0
    if spec.budget is not None:
        name, asked, affordable = "budget", f"{spec.budget:.3g} FLOPs", int(spec.budget) // flops_per_example
    elif spec.epochs is not None:
        # The guard: 0.29 epochs of 100 examples are 28.999999999999996 and must not lose one.
        name, asked, affordable = "epochs", f"{spec.epochs:g} epochs", int(spec.epochs * size * (1 + 1e-12))
    else:
        assert spec.examples is not None
        name, asked, affordable = "examples", f"{spec.examples:,} examples", spec.examples
    steps = affordable // spec.batch_size
    if steps < 1:
        step_flops = flops_per_example * spec.batch_size
        raise SpecError(
            name,
            f"{asked} buy less than one step of {model_name(spec)} at batch_size {spec.batch_size}, "
            f"which takes {spec.batch_size:,} examples, {step_flops:.3g} FLOPs",
        )
    return steps


def load(spec: RunSpec) -> Arrays:
    """The data set of a spec; the same object for every run that shares it."""
    place = None if spec.dataset in EMBEDDED else _place(spec)
    if place is None and spec.dataset not in EMBEDDED:
        raise catalogue.missing(spec.dataset)
    here = place and str(local_copy(place))
    return _load(spec.dataset, here, _side(spec), *_zipf(spec), stream=spec.loader == "ffcv")


def _place(spec: RunSpec) -> str | None:
    """Where a data set that is not embedded lies: where the spec says, or where it is found."""
    return spec.path or catalogue.find(spec.dataset)


def _side(spec: RunSpec) -> int | None:
    known = catalogue.KNOWN.get(spec.dataset)
    return spec.resolution or (known.resolution if known else None)


def normalised_width(spec: RunSpec, values: int) -> Literal[0, 2, 4]:
    """Bytes a value of a data set of so many that lies on a GPU as its runs' first layer takes it, too.

    A batch is one copy of rows then, without arithmetic. 0: it does not, being larger than WHOLE, or augmented.
    """
    if spec.augment != "none" or 4 * values > WHOLE:
        return 0
    return 2 if spec.precision == "bf16" and not spec.mixup else 4


def split(arrays: Arrays, spec: RunSpec) -> Split:
    """Rows that a resolved spec trains and tests on, functions of its seed.

    digits: seed s tests on fold s mod 5, so that five seeds test on all 1797 images. zipf: the training set
    is drawn from the distribution, and all tokens are tested with their probabilities. Otherwise: a nested
    subset of the training split, less what is held out for validation, and the whole test split.
    """
    size = spec.dataset_size
    assert size is not None
    if spec.dataset == "zipf":
        alpha, tokens = _zipf(spec)
        rows = zipf.draw(alpha, tokens, size, spec.seed)
        return Split(rows, np.arange(tokens), zipf.probabilities(alpha, tokens))
    if spec.dataset == "digits":
        order = np.random.default_rng(stream("digits", "folds")).permutation(_DIGITS)
        by_class = order[np.argsort(arrays.labels[order], kind="stable")]
        test = by_class[spec.seed % _FOLDS :: _FOLDS]  # stratified: every fifth of each class
        pool = np.setdiff1d(order, test)
    else:
        test = np.arange(arrays.train, len(arrays.labels))
        pool = np.arange(arrays.train)
    pool, validation = _without_validation(arrays, spec, pool)
    return Split(pool[nested(arrays.labels[pool], size, spec.seed)], test, np.ones(len(test)), validation)


def _without_validation(arrays: Arrays, spec: RunSpec, pool: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The rows left to train on, and those held out: the same for all seeds (on digits: of a fold)."""
    held = _held_out(spec, arrays.info)
    if not held:
        return pool, pool[:0]
    chosen = np.zeros(len(pool), bool)
    chosen[nested(arrays.labels[pool], held, _VALIDATION)] = True
    return pool[~chosen], pool[chosen]


def _refuse_foreign_keys(spec: RunSpec) -> None:
    side = 8 if spec.dataset == "digits" else None
    if spec.loader == "ffcv":
        raise SpecError("loader", f"{spec.dataset} is embedded, in no .beton file; leave it out")
    if spec.path is not None:
        raise SpecError("path", f"{spec.dataset} is embedded and has no path; give the data set another name")
    if spec.resolution not in (None, side):
        right = "8, or leave it out" if side else "leave it out"
        raise SpecError("resolution", f"{spec.dataset} has no resolution {spec.resolution}; {right}")


def _zipf(spec: RunSpec) -> tuple[float, int]:
    alpha = zipf.DEFAULT_ALPHA if spec.zipf_alpha is None else spec.zipf_alpha
    return float(alpha), zipf.DEFAULT_TOKENS if spec.zipf_tokens is None else spec.zipf_tokens


@functools.lru_cache(maxsize=4)
def _load(
    dataset: str, path: str | None, resolution: int | None, alpha: float, tokens: int, *, stream: bool
) -> Arrays:
    if dataset == "digits":
        return _load_digits(describe(RunSpec(dataset="digits", epochs=1)))
    if dataset == "zipf":
        info = describe(RunSpec(dataset="zipf", zipf_alpha=alpha, zipf_tokens=tokens, epochs=1))
        codes, labels = zipf.table(tokens)
        return Arrays(info, codes, labels, 0, np.zeros(1, np.float32), np.ones(1, np.float32))
    assert path is not None
    if not is_decoded(path, resolution, stream=stream) and Path(path).exists():
        catalogue.check_sums(dataset, Path(path))
    ready = load_decoded(path, resolution, stream=stream)
    catalogue.check(dataset, Path(path), ready.train, len(ready.labels) - ready.train, ready.classes)
    length = math.prod(ready.inputs.shape[1:])
    info = DatasetInfo(dataset, ready.train, length, ready.classes, ready.image, ready.fingerprint)
    return Arrays(info, ready.inputs, ready.labels, ready.train, ready.mean, ready.std, ready.real)


def _load_digits(info: DatasetInfo) -> Arrays:
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    # Fixed numbers near the mean 4.9 and deviation 6.0 of all pixels, so that no test fold is looked at.
    mean, std = np.array([5.0], np.float32), np.array([6.0], np.float32)
    return Arrays(info, images.astype(np.uint8), labels.astype(np.int64), 0, mean, std)
