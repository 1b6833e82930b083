"""Files to arrays, once: images in class folders or archives, and arrays, decoded into a memory-mapped cache.

The cache is `$ISOFLOP_CACHE`, else `$XDG_CACHE_HOME/isoflop`, else `~/.cache/isoflop`. An entry is written
aside and renamed, so a killed decoder leaves none behind; it is keyed by what the source looks like from
outside (place, size, times), so a changed source is decoded again.
"""

from __future__ import annotations

import functools
import gzip
import hashlib
import json
import logging
import os
import shutil
import tarfile
import tempfile
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from trainer.arrays import from_npz, reader_of
from trainer.ffcv_data import betons_in, read_betons
from trainer.files import names_in
from trainer.images import arrange, decode, real_labels, rescale
from trainer.spec import SpecError

log = logging.getLogger("isoflop")

_LAYOUT = 1
"""Version of the cache's layout; another one is decoded anew."""
_CHUNK = 4096


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
    real: np.ndarray | None = None
    """ReaL labels [n, m], -1 where there are none."""


class Decoded(NamedTuple):
    """What a source holds: inputs [n, ...], labels [n], the first `train` rows for training; ReaL labels [n, m]."""

    inputs: np.ndarray
    labels: np.ndarray
    train: int
    real: np.ndarray | None = None


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
    entry = _entry(source, resolution)
    if not (entry / "card.json").exists():
        log.info("decoding %s once into %s", source, entry)
        _write(entry, source, resolution)
    return _open(entry)


def is_prepared(path: str, resolution: int | None) -> bool:
    """Whether the data set at `path` was decoded before."""
    source = Path(path).expanduser()
    return source.exists() and (_entry_seen(source, resolution, source.stat().st_mtime_ns) / "card.json").exists()


@functools.lru_cache(maxsize=64)
def _entry_seen(source: Path, resolution: int | None, changed: int) -> Path:  # noqa: ARG001
    """For planning alone, which looks through a folder of a million files once."""
    return _entry(source, resolution)


def _entry(source: Path, resolution: int | None) -> Path:
    key = hashlib.sha256(json.dumps([_LAYOUT, _signature(source), resolution]).encode()).hexdigest()[:24]
    return cache_root() / "datasets" / key


def _signature(source: Path) -> list[Any]:
    files = sorted(p for p in source.rglob("*") if p.is_file()) if source.is_dir() else [source]
    looks = [[str(p.relative_to(source)), p.stat().st_size, p.stat().st_mtime_ns] for p in files]
    return [str(source.resolve()), looks]


def _decoded(source: Path, resolution: int | None, aside: Path) -> Decoded:
    try:
        if source.suffix == ".npz":
            return _scaled(source, from_npz(source), resolution)
        names = names_in(source)
        if (read := reader_of(names)) is not None:
            return _scaled(source, read(source), resolution)
        if betons_in(names):
            return Decoded(*read_betons(source, names, resolution, aside / "inputs.npy"))
        rows, classes = arrange(source, names)
        number = {label: i for i, label in enumerate(classes)}
        labels = np.array([number[row.label] for row in rows], np.int64)
        inputs = decode(source, rows, resolution, aside / "inputs.npy")
        return Decoded(inputs, labels, sum(row.train for row in rows), real_labels(source, rows))
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, gzip.BadGzipFile, EOFError) as error:
        raise SpecError("path", f"{source} is damaged or cut short: {error}") from error


def _scaled(source: Path, read: tuple[np.ndarray, np.ndarray, int], resolution: int | None) -> Decoded:
    inputs, labels, train = read
    if resolution is not None and (inputs.ndim != 4 or inputs.shape[1] != resolution):
        if inputs.ndim != 4 or inputs.dtype != np.uint8:
            raise SpecError("resolution", f"{source} holds examples of {inputs.shape[1:]}, which are not rescaled")
        inputs = rescale(inputs, resolution)
    return Decoded(inputs, labels, train)


def _write(entry: Path, source: Path, resolution: int | None) -> None:
    """Decode into a folder aside, then rename it."""
    entry.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(dir=entry.parent, prefix=".writing-"))
    try:
        made = _decoded(source, resolution, aside)
        if not (aside / "inputs.npy").exists():  # images are decoded into their place
            np.save(aside / "inputs.npy", made.inputs.reshape(len(made.inputs), -1))
        np.save(aside / "labels.npy", made.labels)
        if made.real is not None:
            np.save(aside / "real.npy", made.real)
        (aside / "card.json").write_text(json.dumps(_card(made, source), indent=1))
        aside.rename(entry)
    except BaseException as error:
        shutil.rmtree(aside, ignore_errors=True)
        # somebody else may have been first, which is as good
        if not isinstance(error, OSError) or not (entry / "card.json").exists():
            raise


def _card(made: Decoded, source: Path) -> dict[str, Any]:
    mean, std = _statistics(made.inputs[: made.train])
    fingerprint = hashlib.sha256(json.dumps([made.inputs.shape, str(made.inputs.dtype), made.train]).encode())
    fingerprint.update(np.ascontiguousarray(made.inputs.reshape(len(made.inputs), -1)).data)
    fingerprint.update(made.labels.data)
    if made.real is not None:
        fingerprint.update(made.real.data)
    return {
        "source": str(source.resolve()),
        "train": made.train,
        "test": len(made.labels) - made.train,
        "classes": int(made.labels.max()) + 1,
        "image": list(made.inputs.shape[1:]) if made.inputs.ndim == 4 else None,
        "mean": mean.tolist(),
        "std": std.tolist(),
        "fingerprint": fingerprint.hexdigest()[:32],
    }


def _statistics(inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation of each channel (all features together where there are none), exact for uint8."""
    channels = inputs.shape[3] if inputs.ndim == 4 else 1
    if inputs.dtype != np.uint8:
        parts = [inputs.reshape(-1, channels)[:, c] for c in range(channels)]
        mean, std = np.array([[p.mean(dtype=float), p.std(dtype=float)] for p in parts]).T
    else:
        counts = np.zeros((channels, 256))
        for begin in range(0, len(inputs), _CHUNK):  # a set may be larger than memory
            values = inputs[begin : begin + _CHUNK].reshape(-1, channels)
            counts += [np.bincount(values[:, c], minlength=256) for c in range(channels)]
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
        real=np.load(entry / "real.npy") if (entry / "real.npy").exists() else None,
    )
