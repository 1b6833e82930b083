"""Files to arrays, once: class folders, tars of them and .npz files, decoded into a memory-mapped cache.

The cache is `$ISOFLOP_CACHE`, else `$XDG_CACHE_HOME/isoflop`, else `~/.cache/isoflop`. An entry is written
aside and renamed, so a killed decoder leaves none behind; it is keyed by what the source looks like from
outside (place, size, times), so a changed source is decoded again.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
import shutil
import tarfile
import tempfile
import zipfile
import zlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np

from trainer.spec import SpecError

if TYPE_CHECKING:
    from collections.abc import Iterator

log = logging.getLogger("isoflop")

IMAGES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".ppm", ".pgm", ".tif", ".tiff", ".webp")
TRAIN, TEST = ("train", "training"), ("test", "val", "valid", "validation")
_LAYOUT = 1
"""Version of the cache's layout; another one is decoded anew."""


@dataclass(frozen=True)
class Prepared:
    """A decoded data set: inputs [n, d] memory-mapped, labels [n], the first `train` rows for training."""

    inputs: np.ndarray
    labels: np.ndarray
    train: int
    classes: int
    image: tuple[int, int, int] | None
    mean: np.ndarray
    std: np.ndarray
    fingerprint: str


def cache_root() -> Path:
    """Where decoded data sets and measured devices are kept."""
    if said := os.environ.get("ISOFLOP_CACHE"):
        return Path(said)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "isoflop"


def prepare(path: str, resolution: int | None) -> Prepared:
    """Decode the data set at `path`, or open it where that was done before.

    `resolution` is the side in pixels that images are scaled to; None keeps theirs. Raises SpecError where
    there is nothing, where images differ in size and no resolution is given, or a file cannot be decoded.
    """
    source = Path(path).expanduser()
    if not source.exists():
        raise SpecError("path", f"nothing at {source}")
    key = hashlib.sha256(json.dumps([_LAYOUT, _signature(source), resolution]).encode()).hexdigest()[:24]
    entry = cache_root() / "datasets" / key
    if not (entry / "card.json").exists():
        log.info("decoding %s once into %s", source, entry)
        _write(entry, *_decoded(source, resolution), source)
    return _open(entry)


def _signature(source: Path) -> list[Any]:
    files = sorted(p for p in source.rglob("*") if p.is_file()) if source.is_dir() else [source]
    looks = [[str(p.relative_to(source)), p.stat().st_size, p.stat().st_mtime_ns] for p in files]
    return [str(source.resolve()), looks]


def _decoded(source: Path, resolution: int | None) -> tuple[np.ndarray, np.ndarray, int]:
    """(inputs [n, ...], labels [n], training rows), the training rows first."""
    try:
        if source.suffix == ".npz":
            return _from_npz(source, resolution)
        return _from_images(source, resolution)
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise SpecError("path", f"{source} is damaged or cut short: {error}") from error


def _from_npz(source: Path, resolution: int | None) -> tuple[np.ndarray, np.ndarray, int]:
    wanted = ("x_train", "y_train", "x_test", "y_test")
    if not zipfile.is_zipfile(source):
        raise SpecError("path", f"{source} is no .npz file, or was cut short; write it with numpy.savez")
    with np.load(source, allow_pickle=False) as held:
        if missing := [name for name in wanted if name not in held]:
            raise SpecError("path", f"{source} has no array {missing[0]}; it needs {', '.join(wanted)}")
        x_train, y_train, x_test, y_test = (held[name] for name in wanted)
    _check_rows(source, x_train, y_train, x_test, y_test)
    labels = np.concatenate([y_train.reshape(-1), y_test.reshape(-1)])
    if not np.issubdtype(labels.dtype, np.integer) or labels.min() < 0:
        raise SpecError("path", f"{source}: labels must be whole numbers from 0; found {labels.dtype}")
    if labels.max() == labels.min():
        raise SpecError("path", f"{source} holds one class, {labels[0]}; at least two are needed")
    inputs = np.concatenate([x_train, x_test])
    if inputs.dtype != np.uint8:
        inputs = inputs.astype(np.float32)
        if not np.isfinite(inputs).all():
            raise SpecError("path", f"{source}: inputs hold values that are not finite")
    if inputs.ndim == 3 and inputs.dtype == np.uint8:
        inputs = inputs[..., None]
    if resolution is not None and (inputs.ndim != 4 or inputs.shape[1] != resolution):
        raise SpecError("resolution", f"{source} holds examples of {inputs.shape[1:]}, which are not rescaled")
    return inputs, labels.astype(np.int64), len(x_train)


def _check_rows(
    source: Path, x_train: np.ndarray, y_train: np.ndarray, x_test: np.ndarray, y_test: np.ndarray
) -> None:
    """SpecError unless every example has one label, and training and test examples are of one form."""
    for name, x, y in (("train", x_train, y_train), ("test", x_test, y_test)):
        if len(x) != len(y) or len(x) == 0:
            raise SpecError("path", f"{source}: x_{name} has {len(x):,} rows and y_{name} {len(y):,}")
    if x_train.shape[1:] != x_test.shape[1:]:
        raise SpecError("path", f"{source}: x_train holds {x_train.shape[1:]}, x_test {x_test.shape[1:]}")
    if y_train.size != len(x_train) or y_test.size != len(x_test):
        raise SpecError("path", f"{source}: labels must be one class number an example; found {y_train.shape}")


def _from_images(source: Path, resolution: int | None) -> tuple[np.ndarray, np.ndarray, int]:
    names = _image_names(source)
    rows, classes = _arrange(source, names)
    inputs: np.ndarray | None = None
    side = resolution
    wanted = {name: row for row, (name, _, _) in enumerate(rows)}
    for done, (name, content) in enumerate(_contents(source, wanted)):
        if inputs is None:
            first = _pixels(name, content, resolution, None)
            side = side or first.shape[0]
            inputs = np.empty((len(rows), side, side, first.shape[2]), np.uint8)
        assert side is not None
        inputs[wanted[name]] = _pixels(name, content, side if resolution else None, inputs.shape[1:])
        if done % 50_000 == 49_999:
            log.info("decoded %s of %s images", f"{done + 1:,}", f"{len(rows):,}")
    assert inputs is not None
    labels = np.array([classes.index(label) for _, label, _ in rows], np.int64)
    return inputs, labels, sum(train for _, _, train in rows)


def _image_names(source: Path) -> list[str]:
    """Paths of the images inside the source, sorted."""
    if source.is_dir():
        found = [p.relative_to(source).as_posix() for p in source.rglob("*") if p.is_file()]
    elif tarfile.is_tarfile(source):
        with tarfile.open(source) as tar:
            found = [member.name for member in tar if member.isfile()]
    else:
        raise SpecError("path", f"{source} is neither a folder, a tar nor an .npz file")
    names = sorted(name for name in found if name.lower().endswith(IMAGES))
    if not names:
        raise SpecError("path", f"no images in {source}; it needs train/<class>/<image> and test/<class>/<image>")
    return names


def _arrange(source: Path, names: list[str]) -> tuple[list[tuple[str, str, bool]], list[str]]:
    """(name, class, is training) of every image, training first; and the classes, sorted.

    Where folders above the classes say train and test, they decide. Where the classes stand alone, every
    fifth image of a class is for testing.
    """
    parts = {name: PurePosixPath(name).parts for name in names}
    if short := [name for name in names if len(parts[name]) < 2]:
        raise SpecError("path", f"{source}: {short[0]} stands in no class folder; layout train/<class>/<image>")
    above = {name: p[-3].lower() if len(p) > 2 else "" for name, p in parts.items()}
    if any(word in TRAIN for word in above.values()):
        rows = [(n, parts[n][-2], above[n] in TRAIN) for n in names if above[n] in TRAIN + TEST]
    else:
        seen: Counter[str] = Counter()
        rows = []
        for name in names:
            label = parts[name][-2]
            seen[label] += 1
            rows.append((name, label, seen[label] % 5 != 0))
    rows.sort(key=lambda row: not row[2])
    classes = sorted({label for _, label, _ in rows})
    if len({train for _, _, train in rows}) < 2:
        raise SpecError("path", f"{source} needs training and test images; found train/ without test/ or val/")
    if len(classes) < 2:
        raise SpecError("path", f"{source} holds one class, {classes[0]!r}; at least two are needed")
    return rows, classes


def _contents(source: Path, wanted: dict[str, int]) -> Iterator[tuple[str, bytes]]:
    """(name, bytes) of the wanted files, in the order that reads the source once from front to back."""
    if source.is_dir():
        yield from ((name, (source / name).read_bytes()) for name in wanted)
        return
    with tarfile.open(source, "r|*") as tar:  # a stream: no seeking back in a compressed file
        for member in tar:
            if member.name in wanted:
                held = tar.extractfile(member)
                assert held is not None
                yield member.name, held.read()


def _pixels(name: str, content: bytes, side: int | None, like: tuple[int, ...] | None) -> np.ndarray:
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
        raise SpecError("resolution", f"images differ in size or are not square ({name} is {size}); say one")
    pixels = np.asarray(image)
    return pixels[..., None] if grey else pixels


def _write(entry: Path, inputs: np.ndarray, labels: np.ndarray, train: int, source: Path) -> None:
    flat = inputs.reshape(len(inputs), -1)
    mean, std = _statistics(inputs[:train])
    fingerprint = hashlib.sha256(json.dumps([inputs.shape, str(inputs.dtype), train]).encode())
    fingerprint.update(np.ascontiguousarray(flat).data)
    fingerprint.update(labels.data)
    card = {
        "source": str(source.resolve()),
        "train": train,
        "classes": int(labels.max()) + 1,
        "image": list(inputs.shape[1:]) if inputs.ndim == 4 else None,
        "mean": mean.tolist(),
        "std": std.tolist(),
        "fingerprint": fingerprint.hexdigest()[:32],
    }
    entry.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(dir=entry.parent, prefix=".writing-"))
    try:
        np.save(aside / "inputs.npy", flat)
        np.save(aside / "labels.npy", labels)
        (aside / "card.json").write_text(json.dumps(card, indent=1))
        aside.rename(entry)
    except OSError:
        shutil.rmtree(aside, ignore_errors=True)
        if not (entry / "card.json").exists():  # somebody else may have been first, which is as good
            raise


def _statistics(inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation of each channel (all features together where there are none), exact for uint8."""
    channels = inputs.shape[3] if inputs.ndim == 4 else 1
    if inputs.dtype != np.uint8:
        parts = [inputs.reshape(-1, channels)[:, c] for c in range(channels)]
        mean, std = np.array([[p.mean(dtype=float), p.std(dtype=float)] for p in parts]).T
    else:
        counts = np.array([np.bincount(inputs.reshape(-1, channels)[:, c], minlength=256) for c in range(channels)])
        mean = counts @ np.arange(256) / counts.sum(1)
        std = np.sqrt(counts @ np.arange(256.0) ** 2 / counts.sum(1) - mean**2)
    return mean, np.where(std > 0, std, 1.0)


def _open(entry: Path) -> Prepared:
    card = json.loads((entry / "card.json").read_text())
    return Prepared(
        inputs=np.load(entry / "inputs.npy", mmap_mode="c"),  # c: torch wants a writable array; none is written
        labels=np.load(entry / "labels.npy"),
        train=card["train"],
        classes=card["classes"],
        image=tuple(card["image"]) if card["image"] else None,
        mean=np.array(card["mean"], np.float32),
        std=np.array(card["std"], np.float32),
        fingerprint=card["fingerprint"],
    )
