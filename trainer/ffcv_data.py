"""FFCV's .beton files: read once into the memory-mapped cache, and written. FFCV is imported here and nowhere else.

A set in .beton files is a folder (or a tar or zip of one) in which one file's name says train and another's val or
test, e.g. `train.beton` and `val.beton`, or the paper's code's `train/train_64.beton`; where there are several, the
one whose name ends in the resolution asked for. The first image field and the first integer field are read.

Why they are decoded once and not in every epoch: docs/decisions/0008-ffcv.md.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from trainer.spec import SpecError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

Mode = Literal["raw", "jpg", "smart"]
_BATCH = 256
_WORTH_COMPILING = 10_000
"""Examples from which on the seconds of FFCV's compiler pay."""
_SMART = 64 * 64 * 3
"""`smart` keeps images of at most so many bytes raw and compresses larger ones."""


def betons_in(names: Sequence[str]) -> list[str]:
    """Which of a set's files are .beton files."""
    return [name for name in names if name.endswith(".beton")]


def read_betons(
    source: Path, names: Sequence[str], side: int | None, out: Path
) -> tuple[np.ndarray, np.ndarray, int]:
    """Images [n, side, side, 3] uint8 memory-mapped from the flat .npy file `out`, labels [n], training rows.

    Images of another size than `side` have their largest central square scaled to it, as FFCV does for testing.
    Raises SpecError where files are missing or damaged, images differ in size, or FFCV is not installed.
    """
    if not source.is_dir():
        raise SpecError(
            "path", f"{source}: .beton files are memory-mapped and must lie in a folder, not an archive"
        )
    files = [source / _chosen(source, names, words, side) for words in (("train",), ("val", "test"))]
    with _ffcv() as ffcv:
        opened = [_open(ffcv, file) for file in files]
        sizes = {size for _, sizes in opened for size in sizes}
        if side is None:
            if len(sizes) != 1 or len(set(*sizes)) != 1:
                raise SpecError("resolution", f"{source}: images differ in size or are not square; say one")
            side = next(iter(sizes))[0]
        counts = [int(reader.num_samples) for reader, _ in opened]
        flat = np.lib.format.open_memmap(out, "w+", np.uint8, (sum(counts), side * side * 3))
        inputs, labels = flat.reshape(-1, side, side, 3), np.empty(sum(counts), np.int64)
        begin = 0
        for file, (reader, _) in zip(files, opened, strict=True):
            for images, numbers in _batches(ffcv, file, reader, None if sizes == {(side, side)} else side):
                end = begin + len(numbers)
                inputs[begin:end], labels[begin:end] = images, numbers
                begin = end
    flat.flush()
    if labels.min() < 0 or labels.max() == labels.min():
        raise SpecError("path", f"{source}: labels must be whole numbers from 0, of at least two classes")
    return inputs, labels, counts[0]


def write_betons(
    inputs: np.ndarray, labels: np.ndarray, train: int, folder: Path, mode: Mode, quality: int, workers: int
) -> list[Path]:
    """Write images [n, H, W, C] uint8 and labels [n] as `train.beton` and `test.beton`; returns their paths.

    Each is written aside and renamed. Grey images are written in three equal channels, FFCV knowing no others.
    Raises SpecError where there are no images, or FFCV is not installed.
    """
    if inputs.ndim != 4 or inputs.dtype != np.uint8:
        raise SpecError(
            "path", f"only images are written as .beton, found examples of {inputs.shape[1:]} {inputs.dtype}"
        )
    images = np.broadcast_to(inputs, (*inputs.shape[:3], 3))
    folder.mkdir(parents=True, exist_ok=True)
    made = []
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
            made.append(path)
    return made


class _Rows:
    """What DatasetWriter asks of a data set."""

    def __init__(self, images: np.ndarray, labels: np.ndarray, rows: range) -> None:
        self._images, self._labels, self._rows = images, labels, rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, i: int) -> tuple[np.ndarray, int]:
        return np.ascontiguousarray(self._images[self._rows[i]]), int(self._labels[self._rows[i]])


@contextlib.contextmanager
def _ffcv() -> Iterator[Any]:
    """FFCV, which changes torch's number of threads, and gives them back."""
    torch = sys.modules.get("torch")  # FFCV imports it; whoever has not yet has no threads to get back
    threads = torch.get_num_threads() if torch else None
    try:
        import ffcv
        import ffcv.fields
        import ffcv.loader
        import ffcv.reader
        import ffcv.transforms
        import ffcv.writer
    except ImportError as error:
        raise SpecError(
            "path", f".beton files need FFCV, which is not installed ({error}); ./run ffcv adds it"
        ) from error
    try:
        yield ffcv
    finally:
        if torch:
            torch.set_num_threads(threads)


def _chosen(source: Path, names: Sequence[str], words: tuple[str, ...], side: int | None) -> str:
    found = [name for name in betons_in(names) if any(word in PurePosixPath(name).stem.lower() for word in words)]
    if len(found) > 1 and side is not None:
        found = [name for name in found if re.search(rf"(^|\D){side}$", PurePosixPath(name).stem)] or found
    if len(found) != 1:
        said = f"{len(found)} of them: {', '.join(found)}" if found else "none"
        raise SpecError(
            "path", f"{source} needs one .beton file with {' or '.join(words)} in its name; found {said}"
        )
    return found[0]


def _open(ffcv: Any, file: Path) -> tuple[Any, set[tuple[int, int]]]:
    """A file's reader and the sizes of its images; what FFCV makes of a damaged file is many things."""
    try:
        reader = ffcv.reader.Reader(str(file))
        image, _ = _fields(reader)
        sizes = np.unique(np.stack([reader.metadata[image][side] for side in ("height", "width")], 1), axis=0)
    except SpecError:
        raise
    except Exception as error:
        raise SpecError("path", f"{file} is no .beton file, or was cut short ({type(error).__name__})") from error
    return reader, {(int(h), int(w)) for h, w in sizes}


def _fields(reader: Any) -> tuple[str, str]:
    """The metadata columns (`f0`, `f1`, ...) of the image and the label."""
    kinds = [type(handler).__name__ for handler in reader.handlers.values()]
    for kind in ("RGBImageField", "IntField"):
        if kind not in kinds:
            raise SpecError("path", f"{reader.file_name} has no {kind}; it holds {', '.join(kinds)}")
    return f"f{kinds.index('RGBImageField')}", f"f{kinds.index('IntField')}"


def _batches(ffcv: Any, file: Path, reader: Any, side: int | None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """All images and labels of a file in its order; scaled where a side is given."""
    rgb, names = ffcv.fields.rgb_image, list(reader.handlers)
    image, label = (names[int(column[1:])] for column in _fields(reader))
    decoder = rgb.SimpleRGBImageDecoder() if side is None else rgb.CenterCropRGBImageDecoder((side, side), 1.0)
    pipelines: dict[str, Any] = dict.fromkeys(names)
    pipelines[image] = [decoder, ffcv.transforms.ToTensor()]
    pipelines[label] = [ffcv.fields.basics.IntDecoder(), ffcv.transforms.ToTensor()]
    loader = ffcv.loader.Loader(
        str(file),
        batch_size=_BATCH,
        num_workers=os.cpu_count(),
        order=ffcv.loader.OrderOption.SEQUENTIAL,
        pipelines=pipelines,
        drop_last=False,
    )
    compiler = ffcv.pipeline.compiler.Compiler
    compiler.set_enabled(reader.num_samples >= _WORTH_COMPILING)
    swap = names.index(image) > names.index(label)
    for batch in loader:
        images, numbers = (part.numpy() for part in (reversed(batch) if swap else batch))
        yield images, numbers.ravel()
