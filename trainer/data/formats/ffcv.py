"""Reading and writing FFCV's .beton files; the only module that imports FFCV.

A data set is a folder with one .beton file whose name contains train and one whose name contains val or test, such
as `train.beton` and `val.beton`, or `train/train_64.beton` of the paper's code. If several match, the one that ends
in the requested resolution is read. The first image field and the first integer field are read.

By default the images are decoded once into the memory-mapped cache; `loader: ffcv` decodes rows on demand
(docs/decisions/0008-ffcv.md).
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
import threading
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from trainer.host import installation
from trainer.host.limits import cores
from trainer.spec import SpecError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

Mode = Literal["raw", "jpg", "smart"]
_BATCH = 256
WORTH_COMPILING = 10_000
"""Number of examples above which the seconds of FFCV's compiler pay off."""
_SMART = 64 * 64 * 3
"""Mode `smart` stores images of at most this many bytes raw and compresses larger ones."""


def betons_in(names: Sequence[str]) -> list[str]:
    """Return the names of .beton files."""
    return [name for name in names if name.endswith(".beton")]


def open_betons(source: Path, names: Sequence[str], side: int | None) -> tuple[Betons, np.ndarray, int]:
    """Open the .beton files of a folder; returns images, labels [n] and the number of training rows (the first).

    The largest central square of an image is scaled to `side` pixels, as FFCV does for testing. Raises SpecError if
    files are missing or damaged, images differ in size and `side` is None, or FFCV is not installed.
    """
    if not source.is_dir():
        raise SpecError("path", f"{source}: .beton files are memory-mapped; unpack the archive into a folder")
    files = [source / _chosen(source, names, words, side) for words in (("train",), ("val", "test"))]
    with _ffcv() as ffcv:
        opened = [_open(ffcv, file) for file in files]
        sizes = {size for _, sizes in opened for size in sizes}
        if side is None:
            if len(sizes) != 1 or len(set(*sizes)) != 1:
                raise SpecError("resolution", f"{source}: images differ in size or are not square; set resolution")
            side = next(iter(sizes))[0]
        readers = [reader for reader, _ in opened]
        images = Betons(ffcv, readers, side, scaled=sizes != {(side, side)})
    labels = np.concatenate([reader.metadata[_fields(reader)[1]] for reader in readers]).astype(np.int64)
    if labels.min() < 0 or labels.max() == labels.min():
        raise SpecError("path", f"{source}: labels must be whole numbers from 0, of at least two classes")
    return images, labels, int(readers[0].num_samples)


class Betons:
    """The concatenated images of several .beton files, decoded on demand.

    `shape` is [n, side, side, 3]. `images[rows]` is [len(rows), side, side, 3] uint8, for a slice or an array of
    rows in any order.
    """

    dtype = np.dtype(np.uint8)
    ndim = 4

    def __init__(self, ffcv: Any, readers: Sequence[Any], side: int, *, scaled: bool) -> None:
        counts = [int(reader.num_samples) for reader in readers]
        self.shape = (sum(counts), side, side, 3)
        self._ends = np.cumsum(counts)
        self._one_at_a_time = threading.Lock()  # numba's default thread pool aborts the process otherwise
        rgb = ffcv.fields.rgb_image
        compiler, threads = ffcv.pipeline.compiler.Compiler, ffcv.pipeline.compiler.Compiler.num_threads
        compiler.set_enabled(sum(counts) >= WORTH_COMPILING)
        compiler.num_threads = cores()
        try:
            self._files = [
                _File(
                    ffcv, reader, rgb.CenterCropRGBImageDecoder((side, side), 1.0) if scaled
                    else rgb.SimpleRGBImageDecoder()
                )
                for reader in readers
            ]  # fmt: skip
        finally:
            compiler.set_enabled(True)
            compiler.num_threads = threads

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def nbytes(self) -> int:
        """Bytes of all images when decoded."""
        return int(np.prod(self.shape))

    def __getitem__(self, rows: slice | np.ndarray) -> np.ndarray:
        if isinstance(rows, slice):
            rows = np.arange(*rows.indices(len(self)))
        images = np.empty((len(rows), *self.shape[1:]), np.uint8)
        file = np.searchsorted(self._ends, rows, side="right")
        with self._one_at_a_time:
            for number, source in enumerate(self._files):
                mine = np.flatnonzero(file == number)
                for begin in range(0, len(mine), _BATCH):
                    part = mine[begin : begin + _BATCH]
                    images[part] = source.decode(rows[part] - (self._ends[number] - source.count), images.shape[1:])
        return images


class _File:
    """A .beton file with the decoder of its images, compiled if FFCV's compiler is enabled."""

    def __init__(self, ffcv: Any, reader: Any, decoder: Any) -> None:
        self.count = int(reader.num_samples)
        manager = ffcv.memory_managers.OSCacheManager(reader)
        self._metadata = reader.metadata[_fields(reader)[0]]
        decoder.accept_globals(self._metadata, manager.compile_reader())
        state_of = ffcv.pipeline.state  # FFCV's own import of torch: planning must not import it
        state = state_of.State(jit_mode=True, device=state_of.ch.device("cpu"), shape=(), dtype=np.dtype(np.uint8))
        _, wanted = decoder.declare_state_and_memory(state)
        self._room = wanted[1].shape if isinstance(wanted, tuple) else None  # buffer for decompressed images
        self._decode = ffcv.pipeline.compiler.Compiler.compile(decoder.generate_code())
        self._context = manager.schedule_epoch([])

    def decode(self, rows: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """Return the images of rows of this file, [len(rows), *shape]."""
        out: Any = np.empty((len(rows), *shape), np.uint8)
        if self._room is not None:
            out = out, np.empty((len(rows), *map(int, self._room)), np.uint8)
        with self._context as context:
            images: np.ndarray = self._decode(rows.astype(np.int64), out, self._metadata, context.state)
        return images


def write_betons(
    inputs: np.ndarray, labels: np.ndarray, train: int, folder: Path, mode: Mode, quality: int, workers: int
) -> list[Path]:
    """Write images [n, H, W, C] uint8 and labels [n] as `train.beton` and `test.beton`; returns their paths.

    Each is written to a temporary file and renamed. Grey images are written with three equal channels, because FFCV
    requires three. Raises SpecError if the inputs are not images, or FFCV is not installed.
    """
    if inputs.ndim != 4 or inputs.dtype != np.uint8:
        raise SpecError(
            "path", f".beton files hold uint8 images; found examples of shape {inputs.shape[1:]}, {inputs.dtype}"
        )
    images = np.broadcast_to(inputs, (*inputs.shape[:3], 3))
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    with _ffcv() as ffcv:
        for name, rows in (("train", range(train)), ("test", range(train, len(labels)))):
            path, aside = folder / f"{name}.beton", folder / f"{name}.beton.{os.getpid()}.part"
            image = ffcv.fields.RGBImageField(write_mode=mode, jpeg_quality=quality, smart_threshold=_SMART)
            fields = {"image": image, "label": ffcv.fields.IntField()}
            try:
                writer = ffcv.writer.DatasetWriter(str(aside), fields, num_workers=workers)
                writer.from_indexed_dataset(_Rows(images, labels, rows))
                aside.replace(path)
            finally:
                aside.unlink(missing_ok=True)
            paths.append(path)
    return paths


class _Rows:
    """The data set interface of FFCV's DatasetWriter."""

    def __init__(self, images: np.ndarray, labels: np.ndarray, rows: range) -> None:
        self._images, self._labels, self._rows = images, labels, rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, i: int) -> tuple[np.ndarray, int]:
        return np.ascontiguousarray(self._images[self._rows[i]]), int(self._labels[self._rows[i]])


@contextlib.contextmanager
def _ffcv() -> Iterator[Any]:
    """Import FFCV; torch's number of threads, which FFCV changes, is restored."""
    torch = sys.modules.get("torch")  # None: not imported yet, so there is no number to restore
    threads = torch.get_num_threads() if torch else None
    try:
        import ffcv
        import ffcv.fields
        import ffcv.memory_managers
        import ffcv.pipeline.state
        import ffcv.reader
        import ffcv.writer
    except ImportError as error:
        raise SpecError(
            "path", f".beton files need FFCV, which is not installed ({error}); run: {installation.verb('ffcv')}"
        ) from error
    try:
        yield ffcv
    finally:
        if torch:
            torch.set_num_threads(threads)


def _chosen(source: Path, names: Sequence[str], words: tuple[str, ...], side: int | None) -> str:
    files = [name for name in betons_in(names) if any(word in PurePosixPath(name).stem.lower() for word in words)]
    if len(files) > 1 and side is not None:
        files = [name for name in files if re.search(rf"(^|\D){side}$", PurePosixPath(name).stem)] or files
    if len(files) != 1:
        number = f"{len(files)}: {', '.join(files)}" if files else "none"
        raise SpecError(
            "path", f"{source} needs one .beton file with {' or '.join(words)} in its name; found {number}"
        )
    return files[0]


def _open(ffcv: Any, file: Path) -> tuple[Any, set[tuple[int, int]]]:
    """Return the reader of a file and the sizes of its images; raises SpecError if the file is damaged."""
    try:
        reader = ffcv.reader.Reader(str(file))
        image, _ = _fields(reader)
        sizes = np.unique(np.stack([reader.metadata[image][side] for side in ("height", "width")], 1), axis=0)
    except SpecError:
        raise
    except Exception as error:  # FFCV raises many kinds
        raise SpecError("path", f"{file} is not a .beton file, or is truncated ({type(error).__name__})") from error
    return reader, {(int(h), int(w)) for h, w in sizes}


def _fields(reader: Any) -> tuple[str, str]:
    """Return the metadata columns (`f0`, `f1`, ...) of the image and the label."""
    kinds = [type(handler).__name__ for handler in reader.handlers.values()]
    for kind in ("RGBImageField", "IntField"):
        if kind not in kinds:
            raise SpecError("path", f"{reader.file_name} has no {kind}; it holds {', '.join(kinds)}")
    return f"f{kinds.index('RGBImageField')}", f"f{kinds.index('IntField')}"
