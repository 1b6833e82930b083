"""What the name of a data set refers to: known files, a task, or a function that returns arrays."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy as np

    from trainer.data.arrays import Arrays, DatasetInfo, Split
    from trainer.spec import RunSpec

    Function = Callable[[], Mapping[str, np.ndarray] | tuple[np.ndarray, ...]]


@dataclass(frozen=True)
class Files:
    """A data set in files, which planning knows without them.

    Args:
        train, test: examples of each split; `test` is None if releases differ.
        classes: how many.
        side, channels: of the native images, in pixels.
        names: folders, archives or .npz files (without their suffix) under which it is looked for.
        home: where to get it.
        expects: what it must look like, for the message if it is not found.
        md5: checksums of the official files, by name.
        resolution: the side to which images are scaled by default; needed if theirs differ.
    """

    train: int
    test: int | None
    classes: int
    side: int
    channels: int
    names: tuple[str, ...]
    home: str
    expects: str
    md5: tuple[tuple[str, str], ...] = ()
    resolution: int | None = None


@dataclass(frozen=True, kw_only=True)
class Task:
    """A data set that code makes, with a split of its own.

    Args:
        info: describes the data set of a spec, at once; planning calls it.
        load: makes its arrays, in the order and of the sizes that `info` says.
        split: the rows that a resolved spec trains and tests on, a function of its seed.
        parameters: fields of RunSpec that `info` and `load` read.
        resolution: the one that a spec may name.
        holds_out: whether part of the training split can be held out for validation.
    """

    info: Callable[[RunSpec], DatasetInfo]
    load: Callable[[RunSpec], Arrays]
    split: Callable[[Arrays, RunSpec], Split]
    parameters: tuple[str, ...] = ()
    resolution: int | None = None
    holds_out: bool = True


if TYPE_CHECKING:
    Entry = Files | Task | Function


def check(name: str, entry: Any) -> None:
    """TypeError unless an entry is Files, a Task or a function without arguments."""
    if isinstance(entry, Files):
        return
    parts = {"info": 1, "load": 1, "split": 2} if isinstance(entry, Task) else {"": 0}
    for part, arguments in parts.items():
        function = getattr(entry, part) if part else entry
        what = f"data set {name!r}" + (f": {part}" if part else "")
        if not callable(function):
            raise TypeError(
                f"{what} must be a function that returns x_train, y_train, x_test and y_test, a Task or Files "
                f"(trainer.data.entries); found {type(function).__name__}"
            )
        try:
            inspect.signature(function).bind(*range(arguments))
        except TypeError as error:
            raise TypeError(f"{what} must take {arguments} arguments: {error}") from error
