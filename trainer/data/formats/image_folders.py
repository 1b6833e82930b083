"""Data sets distributed as image files in class folders: class, split and pixels of each file."""

from __future__ import annotations

import io
import json
import re
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from trainer.data.formats.archives import contents_of
from trainer.host.limits import cores
from trainer.host.progress import Progress
from trainer.spec import SpecError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".ppm", ".pgm", ".tif", ".tiff", ".webp")
TRAIN, TEST = ("train", "training"), ("test", "val", "valid", "validation")
_CHUNK = 256


class Row(NamedTuple):
    """One image: its path inside the source, its class, whether it is for training."""

    name: str
    label: str
    train: bool


def arrange(source: Path, names: Sequence[str]) -> tuple[list[Row], list[str]]:
    """Every image's row, training first; and the classes, sorted.

    Folders above the classes named train and test (or ending so, as `imagenet21k_train`) decide the split. Without
    them every fifth image of a class is for testing. Tiny ImageNet's `images` folders and list of validation labels
    are understood.
    """
    pictures = sorted(name for name in names if name.lower().endswith(SUFFIXES))
    if not pictures:
        raise SpecError("path", f"no images in {source}; it needs train/<class>/<image> and test/<class>/<image>")
    listed = _listed_labels(source, names)
    parts = {name: PurePosixPath(name).parts for name in pictures}
    if listed:
        pictures = [
            name for name in pictures if "val" not in parts[name][-3:-1] or PurePosixPath(name).name in listed
        ]
        pictures = [name for name in pictures if "test" not in parts[name][-3:-1]]  # Tiny ImageNet's has no labels
        parts = {name: _tiny(parts[name], listed) for name in pictures}
    if short := [name for name in pictures if len(parts[name]) < 2]:
        raise SpecError("path", f"{source}: {short[0]} is in no class folder; expected train/<class>/<image>")
    above = {name: p[-3].lower().split("_")[-1] if len(p) > 2 else "" for name, p in parts.items()}
    if any(word in TRAIN for word in above.values()):
        rows = [Row(n, parts[n][-2], above[n] in TRAIN) for n in pictures if above[n] in TRAIN + TEST]
    else:
        seen: Counter[str] = Counter()
        rows = []
        for name in pictures:
            label = parts[name][-2]
            seen[label] += 1
            rows.append(Row(name, label, seen[label] % 5 != 0))
    rows.sort(key=lambda row: not row.train)
    classes = sorted({row.label for row in rows})
    if len({row.train for row in rows}) < 2:
        raise SpecError("path", f"{source} needs training and test images; found train/ without test/ or val/")
    if len(classes) < 2:
        raise SpecError("path", f"{source} holds one class, {classes[0]!r}; at least two are needed")
    return rows, classes


def _listed_labels(source: Path, names: Iterable[str]) -> dict[str, str]:
    """Tiny ImageNet's val_annotations.txt: file name -> class."""
    lists = [name for name in names if PurePosixPath(name).name == "val_annotations.txt"]
    lines = [line.split() for _, content in contents_of(source, lists) for line in content.decode().splitlines()]
    return {line[0]: line[1] for line in lines if len(line) > 1}


def _tiny(parts: tuple[str, ...], listed: dict[str, str]) -> tuple[str, ...]:
    """`train/n01/images/x` as `train/n01/x`, and `val/images/x` as `val/<its class>/x`."""
    if parts[-1] in listed and "val" in parts[-3:-1]:
        return ("val", listed[parts[-1]], parts[-1])
    return (*parts[:-2], parts[-1]) if parts[-2] == "images" else parts


def decode(source: Path, rows: Sequence[Row], side: int | None, out: Path) -> np.ndarray:
    """Pixels [n, side, side, C] uint8 of the rows, memory-mapped from the flat .npy file `out`, which it writes.

    Files are decoded by one thread per core. Raises SpecError naming the file that cannot be decoded, or whose size
    differs if no side is given.
    """
    wanted = {row.name: number for number, row in enumerate(rows)}
    contents = contents_of(source, wanted)
    first_name, first_content = next(contents)
    first = pixels(first_name, first_content, side, None)
    flat = np.lib.format.open_memmap(out, "w+", np.uint8, (len(rows), first.size))
    inputs = flat.reshape(len(rows), *first.shape)
    inputs[wanted[first_name]] = first

    def one(item: tuple[str, bytes]) -> None:
        inputs[wanted[item[0]]] = pixels(*item, side, first.shape)

    with ThreadPoolExecutor(cores()) as pool, Progress("decoding", "images", len(rows)) as progress:
        progress.advance(1)
        for chunk in _chunks(contents):
            list(pool.map(one, chunk))
            progress.advance(len(chunk))
    flat.flush()
    return inputs


def _chunks(contents: Iterator[tuple[str, bytes]]) -> Iterator[list[tuple[str, bytes]]]:
    while chunk := list(islice(contents, _CHUNK)):
        yield chunk


def pixels(name: str, content: bytes, side: int | None, like: tuple[int, ...] | None) -> np.ndarray:
    """One image [H, W, C] uint8, scaled to `side` (bilinear), of the shape and colours of `like`."""
    from PIL import Image, UnidentifiedImageError

    try:
        opened = Image.open(io.BytesIO(content))
        grey = like[2] == 1 if like else opened.mode in ("1", "L", "I;16")
        image = opened.convert("L" if grey else "RGB")
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise SpecError("path", f"cannot decode {name}: {error}") from error
    if side is not None and image.size != (side, side):
        image = image.resize((side, side), Image.Resampling.BILINEAR)
    if image.size != ((like[1], like[0]) if like else (image.height, image.height)):
        size = f"{image.width} x {image.height}"
        raise SpecError("resolution", f"images differ in size or are not square ({name} is {size}); set one")
    values = np.asarray(image)
    return values[..., None] if grey else values


def rescale(inputs: np.ndarray, side: int) -> np.ndarray:
    """Images [n, H, W, C] uint8 at another side, as `pixels` scales them."""
    from PIL import Image

    def one(image: np.ndarray) -> np.ndarray:
        picture = Image.fromarray(image[..., 0] if image.shape[2] == 1 else image)
        values = np.asarray(picture.resize((side, side), Image.Resampling.BILINEAR))
        return values.reshape(side, side, -1)

    return np.stack([one(image) for image in inputs])


def real_labels(source: Path, rows: Sequence[Row]) -> np.ndarray | None:
    """ReaL labels [n, m] of ImageNet's validation images (Beyer et al. 2020), from `real.json` in the folder.

    The file lists, for validation image 1, 2, ..., the numbers of its right classes. Rows of other images are -1.
    """
    file = source / "real.json"
    if not source.is_dir() or not file.exists():
        return None
    try:
        listed = [list(map(int, labels)) for labels in json.loads(file.read_bytes())]
    except (ValueError, TypeError) as error:
        raise SpecError("path", f"{file} is no list of lists of class numbers: {error}") from error
    real = np.full((len(rows), max(map(len, listed), default=1) or 1), -1, np.int64)
    for number, row in enumerate(rows):
        match = re.search(r"val_(\d+)\.", row.name)
        if match and not row.train and 0 < int(match[1]) <= len(listed):
            labels = listed[int(match[1]) - 1]
            real[number, : len(labels)] = labels
    return real
