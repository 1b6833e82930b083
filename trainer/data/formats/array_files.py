"""Data sets distributed as arrays: .npz, CIFAR's pickles, MNIST's idx files, STL-10's binary files.

Each reader gives inputs [n, ...] (images [n, H, W, C] uint8), labels [n] int64 and the number of training rows,
which come first.
"""

from __future__ import annotations

import gzip
import io
import pickle
import zipfile
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np

from trainer.data.formats.archives import contents_of
from trainer.spec import SpecError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    Read = tuple[np.ndarray, np.ndarray, int]

_ALLOWED = {
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("_codecs", "encode"),
}
"""The names that CIFAR's pickles import; all others are refused."""


def reader_of(names: Sequence[str]) -> Callable[[Path], Read] | None:
    """The reader for a folder or archive with these files, None if they are images in class folders."""
    paths: dict[str, str] = {}
    for name in names:
        paths.setdefault(PurePosixPath(name).name.removesuffix(".gz").replace(".idx", "-idx"), name)
    for wanted, read in _READERS:
        if paths.keys() >= set(wanted):
            picked = [paths[name] for name in wanted]
            return lambda source, read=read, picked=picked: read(source, picked)  # type: ignore[misc]
    return None


ARRAYS = ("x_train", "y_train", "x_test", "y_test")
"""What an .npz file holds, or a function that makes a data set returns."""


def from_npz(source: Path) -> Read:
    """The ARRAYS of an .npz file. SpecError if it is none, or they do not fit together."""
    if not zipfile.is_zipfile(source):
        raise SpecError("path", f"{source} is no .npz file, or was cut short; write it with numpy.savez")
    with np.load(source, allow_pickle=False) as arrays:
        return from_arrays(arrays, str(source), "path")


def from_arrays(arrays: Mapping[str, Any], source: str, field: str) -> Read:
    """The ARRAYS of a mapping, joined; images [n, H, W] become [n, H, W, 1].

    SpecError about `field` if one is absent or they do not fit together; `source` is their place in its message.
    """
    if missing := [name for name in ARRAYS if name not in arrays]:
        raise SpecError(field, f"{source} has no array {missing[0]}; it needs {', '.join(ARRAYS)}")
    x_train, y_train, x_test, y_test = (np.asarray(arrays[name]) for name in ARRAYS)
    _check_rows(source, field, x_train, y_train, x_test, y_test)
    labels = np.concatenate([y_train.reshape(-1), y_test.reshape(-1)])
    if not np.issubdtype(labels.dtype, np.integer) or labels.min() < 0:
        raise SpecError(field, f"{source}: labels must be whole numbers from 0; found {labels.dtype}")
    if labels.max() == labels.min():
        raise SpecError(field, f"{source} holds one class, {labels[0]}; at least two are needed")
    inputs = np.concatenate([x_train, x_test])
    if inputs.dtype != np.uint8:
        inputs = inputs.astype(np.float32)
        if not np.isfinite(inputs).all():
            raise SpecError(field, f"{source}: inputs hold values that are not finite")
    if inputs.ndim == 3 and inputs.dtype == np.uint8:
        inputs = inputs[..., None]
    return inputs, labels.astype(np.int64), len(x_train)


def _check_rows(source: str, field: str, *arrays: np.ndarray) -> None:
    """SpecError unless every example has one label, and training and test examples are of one form."""
    x_train, y_train, x_test, y_test = arrays
    for name, pair in (("train", arrays[:2]), ("test", arrays[2:])):
        rows, labels = (len(array) if array.ndim else 0 for array in pair)
        if rows != labels or rows == 0:
            raise SpecError(field, f"{source}: x_{name} has {rows:,} rows and y_{name} {labels:,}")
    if x_train.shape[1:] != x_test.shape[1:]:
        raise SpecError(field, f"{source}: x_train holds {x_train.shape[1:]}, x_test {x_test.shape[1:]}")
    if y_train.size != len(x_train) or y_test.size != len(x_test):
        raise SpecError(field, f"{source}: labels must be one class number an example; found {y_train.shape}")


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no CIFAR file needs")
        return super().find_class(module, name)


def _from_cifar(source: Path, names: list[str]) -> Read:
    """CIFAR-10's or CIFAR-100's "python version"; the last file is the test split."""
    contents = dict(contents_of(source, names))
    pictures, labels = [], []
    for name in names:
        try:
            batch = _Unpickler(io.BytesIO(contents[name]), encoding="bytes").load()
            pictures.append(np.asarray(batch[b"data"], np.uint8).reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))
            labels.append(np.array(batch[b"fine_labels" if b"fine_labels" in batch else b"labels"], np.int64))
        except (pickle.UnpicklingError, EOFError, KeyError, TypeError, ValueError) as error:
            raise SpecError("path", f"{source}: {name} is no CIFAR batch: {error}") from error
    return np.concatenate(pictures), np.concatenate(labels), sum(map(len, labels[:-1]))


def _from_idx(source: Path, names: list[str]) -> Read:
    """MNIST's four files: training images and labels, test images and labels."""
    contents = dict(contents_of(source, names))
    x_train, y_train, x_test, y_test = (_idx(source, name, contents[name]) for name in names)
    _check_rows(str(source), "path", x_train, y_train, x_test, y_test)
    labels = np.concatenate([y_train, y_test]).astype(np.int64)
    return np.concatenate([x_train, x_test])[..., None], labels, len(x_train)


def _idx(source: Path, name: str, content: bytes) -> np.ndarray:
    if name.endswith(".gz"):
        content = gzip.decompress(content)
    rank = content[3] if content[:3] == b"\0\0\x08" else 0
    dims = np.frombuffer(content, ">u4", rank, 4).tolist()
    values = np.frombuffer(content, np.uint8, offset=4 + 4 * rank)
    if not rank or values.size != np.prod(dims):
        raise SpecError("path", f"{source}: {name} is no idx file of bytes, or was cut short")
    return values.reshape(dims)


def _from_stl10(source: Path, names: list[str]) -> Read:
    """STL-10's labelled splits; its pictures are stored column by column, its labels count from 1."""
    contents = dict(contents_of(source, names))
    bytes_of = [np.frombuffer(contents[name], np.uint8) for name in names]
    if any(x.size != y.size * 3 * 96 * 96 for x, y in (bytes_of[:2], bytes_of[2:])):
        raise SpecError("path", f"{source}: {names[0]} or {names[2]} was cut short")
    x_train, y_train, x_test, y_test = bytes_of
    pictures = np.concatenate([x_train, x_test]).reshape(-1, 3, 96, 96).transpose(0, 3, 2, 1)
    return pictures, np.concatenate([y_train, y_test]).astype(np.int64) - 1, len(y_train)


_IDX = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
_READERS: list[tuple[tuple[str, ...], Callable[[Path, list[str]], Read]]] = [
    ((*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"), _from_cifar),
    (("train", "test", "meta"), lambda source, names: _from_cifar(source, names[:2])),
    (_IDX, _from_idx),
    (("train_X.bin", "train_y.bin", "test_X.bin", "test_y.bin"), _from_stl10),
]
