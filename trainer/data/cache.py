"""Files to arrays, once: images in class folders or archives, and arrays, decoded into a memory-mapped cache.

The cache is `$ISOFLOP_CACHE`, else `$XDG_CACHE_HOME/isoflop`, else `~/.cache/isoflop`. An entry is written
aside and renamed, so a killed decoder leaves none behind; it is keyed by what the source looks like from
outside (place, size, times), so a changed source is decoded again.
"""

from __future__ import annotations

import contextlib
import fcntl
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
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from trainer.data.formats.archives import names_in
from trainer.data.formats.array_files import from_npz, reader_of
from trainer.data.formats.ffcv import Betons, betons_in, open_betons
from trainer.data.formats.image_folders import arrange, decode, real_labels, rescale
from trainer.spec import SpecError

if TYPE_CHECKING:
    from collections.abc import Iterator

log = logging.getLogger("isoflop")

_LAYOUT = 1
"""Version of the cache's layout; another one is decoded anew."""
_CHUNK = 4096


@dataclass(frozen=True)
class DecodedSet:
    """A data set: labels [n], the first `train` rows for training; inputs [n, d] memory-mapped, or .beton files."""

    inputs: np.ndarray | Betons
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

    inputs: np.ndarray | Betons
    labels: np.ndarray
    train: int
    real: np.ndarray | None = None


def cache_root() -> Path:
    """Where decoded data sets and measured devices are kept."""
    if said := os.environ.get("ISOFLOP_CACHE"):
        return Path(said)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "isoflop"


@contextlib.contextmanager
def one_at_a_time(entry: str) -> Iterator[None]:
    """Wait for other processes of this machine that make the same cache entry. A lock goes with its process."""
    folder = cache_root() / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / entry).open("w") as file:
        with contextlib.suppress(OSError):  # some file systems have no locks
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def load_decoded(path: str, resolution: int | None, *, stream: bool = False) -> DecodedSet:
    """Decode the data set at `path`, or open it where that was done before.

    `resolution` is the side in pixels that images are scaled to; None keeps theirs. With `stream` the images stay
    in their .beton files, which are read through once, for statistics and fingerprint. Raises SpecError where
    there is nothing, where images differ in size and no resolution is given, or a file cannot be decoded.
    """
    source = Path(path).expanduser()
    if not source.exists():
        raise SpecError("path", f"nothing at {source}")
    entry = _entry(source, resolution, stream=stream)
    if not (entry / "card.json").exists():
        with one_at_a_time(entry.name):
            _prepare(entry, source, resolution, stream=stream)
    return _open(entry, source, resolution)


def _prepare(entry: Path, source: Path, resolution: int | None, *, stream: bool) -> None:
    if (entry / "card.json").exists():
        return
    if stream:
        log.info("reading %s through, once", source)
    else:
        log.info("decoding %s once into %s", source, entry)
    _write(entry, source, resolution, stream=stream)


def is_decoded(path: str, resolution: int | None, *, stream: bool = False) -> bool:
    """Whether the data set at `path` was decoded before."""
    source = Path(path).expanduser()
    if not source.exists():
        return False
    return (_entry_seen(source, resolution, source.stat().st_mtime_ns, stream=stream) / "card.json").exists()


@functools.lru_cache(maxsize=64)
def _entry_seen(source: Path, resolution: int | None, changed: int, *, stream: bool) -> Path:  # noqa: ARG001
    """For planning alone, which looks through a folder of a million files once."""
    return _entry(source, resolution, stream=stream)


def _entry(source: Path, resolution: int | None, *, stream: bool) -> Path:
    said = [_LAYOUT, _signature(source), resolution, *["stream"] * stream]
    return cache_root() / "datasets" / hashlib.sha256(json.dumps(said).encode()).hexdigest()[:24]


def _signature(source: Path) -> list[Any]:
    files = sorted(p for p in source.rglob("*") if p.is_file()) if source.is_dir() else [source]
    looks = [[str(p.relative_to(source)), p.stat().st_size, p.stat().st_mtime_ns] for p in files]
    return [str(source.resolve()), looks]


def _decoded(source: Path, resolution: int | None, aside: Path, *, stream: bool) -> Decoded:
    try:
        if stream and not (source.is_dir() and betons_in(names_in(source))):
            why = f"ffcv reads .beton files, {source} holds none; `isoflop data convert` writes them"
            raise SpecError("loader", why)
        if source.suffix == ".npz":
            return _scaled(source, from_npz(source), resolution)
        names = names_in(source)
        if (read := reader_of(names)) is not None:
            return _scaled(source, read(source), resolution)
        if betons_in(names):
            images, labels, train = open_betons(source, names, resolution)
            return Decoded(images if stream else _copied(images, aside / "inputs.npy"), labels, train)
        rows, classes = arrange(source, names)
        number = {label: i for i, label in enumerate(classes)}
        labels = np.array([number[row.label] for row in rows], np.int64)
        inputs = decode(source, rows, resolution, aside / "inputs.npy")
        return Decoded(inputs, labels, sum(row.train for row in rows), real_labels(source, rows))
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, gzip.BadGzipFile, EOFError) as error:
        raise SpecError("path", f"{source} is damaged or cut short: {error}") from error


def _copied(images: Betons, out: Path) -> np.ndarray:
    """All images, decoded into an .npy file of flat rows."""
    if images.nbytes > (free := shutil.disk_usage(out.parent).free):
        raise SpecError(
            "path",
            f"decoded images take {images.nbytes / 1e9:.3g} GB, {free / 1e9:.3g} are free in {cache_root()}; "
            "`loader: ffcv` reads them as they are, $ISOFLOP_CACHE names another place",
        )
    flat = np.lib.format.open_memmap(out, "w+", np.uint8, (len(images), images.nbytes // len(images)))
    for begin in range(0, len(images), _CHUNK):
        flat[begin : begin + _CHUNK] = images[begin : begin + _CHUNK].reshape(-1, flat.shape[1])
    flat.flush()
    return flat.reshape(images.shape)


def _scaled(source: Path, read: tuple[np.ndarray, np.ndarray, int], resolution: int | None) -> Decoded:
    inputs, labels, train = read
    if resolution is not None and (inputs.ndim != 4 or inputs.shape[1] != resolution):
        if inputs.ndim != 4 or inputs.dtype != np.uint8:
            raise SpecError("resolution", f"{source} holds examples of {inputs.shape[1:]}, which are not rescaled")
        inputs = rescale(inputs, resolution)
    return Decoded(inputs, labels, train)


def _write(entry: Path, source: Path, resolution: int | None, *, stream: bool) -> None:
    """Decode into a folder aside, then rename it."""
    entry.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(dir=entry.parent, prefix=".writing-"))
    try:
        made = _decoded(source, resolution, aside, stream=stream)
        if not stream and not (aside / "inputs.npy").exists():  # images are decoded into their place
            assert isinstance(made.inputs, np.ndarray)
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
    mean, std = _statistics(made.inputs, made.train)
    fingerprint = hashlib.sha256(json.dumps([made.inputs.shape, str(made.inputs.dtype), made.train]).encode())
    for begin in range(0, len(made.inputs), _CHUNK):
        fingerprint.update(np.ascontiguousarray(made.inputs[begin : begin + _CHUNK]).data)
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


def _statistics(inputs: np.ndarray | Betons, train: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation of each channel (all features together where there are none), exact for uint8."""
    channels = inputs.shape[3] if inputs.ndim == 4 else 1
    if inputs.dtype != np.uint8:
        parts = [inputs[:train].reshape(-1, channels)[:, c] for c in range(channels)]
        mean, std = np.array([[p.mean(dtype=float), p.std(dtype=float)] for p in parts]).T
    else:
        counts = np.zeros((channels, 256))
        for begin in range(0, train, _CHUNK):  # a set may be larger than memory
            values = inputs[begin : min(begin + _CHUNK, train)].reshape(-1, channels)
            counts += [np.bincount(values[:, c], minlength=256) for c in range(channels)]
        mean = counts @ np.arange(256) / counts.sum(1)
        std = np.sqrt(counts @ np.arange(256.0) ** 2 / counts.sum(1) - mean**2)
    return mean, np.where(std > 0, std, 1.0)


def _open(entry: Path, source: Path, resolution: int | None) -> DecodedSet:
    card = json.loads((entry / "card.json").read_text())
    inputs: np.ndarray | Betons
    if (entry / "inputs.npy").exists():
        inputs = np.load(entry / "inputs.npy", mmap_mode="c")  # c: torch wants a writable array; none is written
    else:
        inputs = open_betons(source, names_in(source), resolution)[0]
    return DecodedSet(
        inputs=inputs,
        labels=np.load(entry / "labels.npy"),
        train=card["train"],
        classes=card["classes"],
        image=tuple(card["image"]) if card["image"] else None,
        mean=np.array(card["mean"], np.float32),
        std=np.array(card["std"], np.float32),
        fingerprint=card["fingerprint"],
        real=np.load(entry / "real.npy") if (entry / "real.npy").exists() else None,
    )
