"""The data set of a spec: described for planning, completed into a resolved spec, loaded, split. No torch.

A name stands for code (a `Task`, or a function that returns arrays) or for files, which come with a `path` or are
found by the `catalogue`. `download` copies what lies behind a URL; `cache` keeps what was decoded once as
memory-mapped arrays.
"""

from __future__ import annotations

import functools
import hashlib
import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from trainer import cost
from trainer.data import catalogue
from trainer.data.arrays import Arrays, DatasetInfo, Split
from trainer.data.cache_entries import is_decoded, is_returned
from trainer.data.download import copy_here, local_copy
from trainer.data.entries import Files, Task
from trainer.data.subsets import held_out, split_of
from trainer.spec import RunSpec, SpecError, model_name

if TYPE_CHECKING:
    from collections.abc import Callable

    from trainer.data.cache import DecodedSet
    from trainer.data.entries import Function

UNSEEN = "not-seen"
"""Fingerprint of a data set that is only known by name: good for a plan, not for a run."""
WHOLE = 2**30
"""Bytes of fp32 up to which a resident data set also lies normalised on a GPU."""
DOUBLED = 2**28
"""Bytes of a resident data set up to which a CPU that flips or crops keeps it beside its mirror images."""


def describe(spec: RunSpec, *, decode: bool = True) -> DatasetInfo:
    """Sizes and fingerprint of a spec's data set; SpecError if it cannot be had.

    Immediate for tasks. Files are decoded and functions called the first time; without `decode`, files that the
    catalogue knows are described from there, with the fingerprint UNSEEN, if they are not decoded yet.
    """
    code, files = code_of(spec), catalogue.files_of(spec.dataset)
    if isinstance(code, Task):
        return _signed(code.info(spec), spec.dataset)
    if files is not None and not decode and not is_ready(spec):
        side = spec.resolution or files.side
        image = (side, side, files.channels)
        return DatasetInfo(spec.dataset, files.train, math.prod(image), files.classes, image, UNSEEN, files.test)
    return load(spec).info


def is_ready(spec: RunSpec) -> bool:
    """Whether a spec's data set is here and needs no decoding."""
    if isinstance(code := code_of(spec), Task):
        return True
    if code is not None:
        return is_returned(spec.dataset, catalogue.DATASETS.origin(spec.dataset), spec.resolution)
    place = _place(spec)
    here = place and copy_here(place)
    return bool(here) and is_decoded(str(here), _side(spec))


def code_of(spec: RunSpec) -> Task | Function | None:
    """The code that makes a spec's data set, None if it is in files. SpecError if the spec asks for more."""
    entry = catalogue.entry_of(spec.dataset)
    if entry is None or isinstance(entry, Files):
        return None
    if spec.loader == "ffcv":
        raise SpecError("loader", f"{spec.dataset} is made by code and has no .beton files; omit it")
    if spec.path is not None:
        raise SpecError("path", f"{spec.dataset} is made by code and has no path; give the data set another name")
    if isinstance(entry, Task) and spec.resolution not in (None, entry.resolution):
        valid = f"write {entry.resolution}, or omit it" if entry.resolution else "omit it"
        raise SpecError("resolution", f"{spec.dataset} has no resolution {spec.resolution}; {valid}")
    return entry


def _signed(info: DatasetInfo, name: str) -> DatasetInfo:
    """What a task says; of one from elsewhere, whose code alone tells its content, with the code's hash."""
    if (origin := catalogue.DATASETS.origin(name)) is None:
        return info
    text = f"{info.fingerprint}/{origin.module}/{origin.version}/{origin.sha256}"
    return replace(info, fingerprint=hashlib.sha256(text.encode()).hexdigest()[:32])


def resolve(spec: RunSpec, info: DatasetInfo) -> RunSpec:
    """Complete a spec with what follows from its data set.

    `steps` is the largest whole number of steps that the budget pays for, so a budget is met to within one step and
    never exceeded; `examples`, `epochs` and, if not given, `budget` are set to what those steps amount to. Raises
    SpecError if data, model and budget do not fit together.
    """
    if spec.fingerprint and spec.fingerprint != info.fingerprint:
        raise SpecError(
            "dataset",
            f"{spec.dataset} has changed since this run was planned (fingerprint {spec.fingerprint[:8]}, "
            f"now {info.fingerprint[:8]}); plan again, or put the old files back",
        )
    code = catalogue.entry_of(spec.dataset)
    if spec.validation and isinstance(code, Task) and not code.holds_out:
        raise SpecError("validation", f"{spec.dataset} is tested on its whole distribution; omit it")
    most = info.train_examples - held_out(spec, info)
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
    resolved = spec.changed(
        dataset_size=size,
        inputs=info.inputs,
        classes=info.classes,
        fingerprint=info.fingerprint,
        test_examples=info.test_examples,
        validation_examples=info.train_examples - most,
        parent=_digest(local_copy(spec.start, "start")) if spec.start else spec.parent,
    )
    if spec.steps is not None:
        return resolved
    price = cost.flops_per_example(cost.shape_of(resolved))
    steps = _steps(resolved, size, price)
    examples = steps * spec.batch_size
    flops = examples * price
    return resolved.changed(
        steps=steps,
        examples=examples,
        epochs=examples / size or None,
        budget=(float(flops) or None) if spec.budget is None else spec.budget,
    )


def _digest(file: Path) -> str:
    """Hash of the checkpoint file that a run begins with."""
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
    code = code_of(spec)
    if isinstance(code, Task):
        return _load_task(code, spec.dataset, tuple((name, getattr(spec, name)) for name in code.parameters))
    if code is not None:
        return _load_function(code, spec.dataset, spec.resolution)
    if (place := _place(spec)) is None:
        raise catalogue.missing(spec.dataset)
    return _load_files(spec.dataset, str(local_copy(place)), _side(spec), stream=spec.loader == "ffcv")


def _place(spec: RunSpec) -> str | None:
    """Where a data set in files lies: where the spec says, or where it is found."""
    return spec.path or catalogue.find(spec.dataset)


def _side(spec: RunSpec) -> int | None:
    files = catalogue.files_of(spec.dataset)
    return spec.resolution or (files.resolution if files else None)


@functools.lru_cache(maxsize=4)
def _load_task(task: Task, name: str, parameters: tuple[tuple[str, Any], ...]) -> Arrays:
    arrays = task.load(RunSpec(dataset=name, **dict(parameters), epochs=1))
    return replace(arrays, info=_signed(arrays.info, name))


@functools.lru_cache(maxsize=4)
def _load_function(function: Callable[[], Any], name: str, resolution: int | None) -> Arrays:
    from trainer.data.cache import load_returned

    return _arrays(name, load_returned(name, function, catalogue.DATASETS.origin(name), resolution))


@functools.lru_cache(maxsize=4)
def _load_files(name: str, path: str, resolution: int | None, *, stream: bool) -> Arrays:
    from trainer.data.cache import load_decoded

    if not is_decoded(path, resolution, stream=stream) and Path(path).exists():
        catalogue.check_sums(name, Path(path))
    decoded = load_decoded(path, resolution, stream=stream)
    train = decoded.train
    catalogue.check(name, Path(path), train, len(decoded.labels) - train, decoded.classes)
    return _arrays(name, decoded)


def _arrays(name: str, decoded: DecodedSet) -> Arrays:
    length = math.prod(decoded.inputs.shape[1:])
    train, test = decoded.train, len(decoded.labels) - decoded.train
    info = DatasetInfo(name, train, length, decoded.classes, decoded.image, decoded.fingerprint, test)
    return Arrays(info, decoded.inputs, decoded.labels, train, decoded.mean, decoded.std, decoded.real)


def normalised_width(spec: RunSpec, values: int) -> Literal[0, 2, 4]:
    """Bytes per value of the normalised copy that a GPU keeps of a data set with so many values; 0: none.

    With it a batch is one copy of rows or pixels without arithmetic. There is none of sets larger than WHOLE, or
    whose images are resized.
    """
    if "resized" in spec.augment or 4 * values > WHOLE:
        return 0
    return 2 if spec.precision == "bf16" else 4


def doubled_bytes(spec: RunSpec, stored: int) -> int:
    """Bytes of the copy with mirror images that a CPU keeps of a data set stored in so many bytes; 0: none.

    With it a flip or a crop is one copy. There is none of sets larger than DOUBLED, or whose images are resized.
    """
    moved = spec.augment != "none" and "resized" not in spec.augment
    return 2 * stored if moved and stored <= DOUBLED else 0


def split(arrays: Arrays, spec: RunSpec) -> Split:
    """Rows that a resolved spec trains and tests on, functions of its seed.

    A task splits in its own way. Otherwise: a nested subset of the training split, less what is held out for
    validation, and the whole test split.
    """
    if isinstance(code := code_of(spec), Task):
        return code.split(arrays, spec)
    import numpy as np

    return split_of(arrays, spec, np.arange(arrays.train), np.arange(arrays.train, len(arrays.labels)))
