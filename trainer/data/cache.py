"""Data sets decoded once into a memory-mapped cache: image folders, archives, arrays, results of functions.

The cache is `$ISOFLOP_CACHE`, else `$XDG_CACHE_HOME/isoflop`, else `~/.cache/isoflop`. An entry is written to a
temporary folder and renamed, so a killed process leaves no incomplete entry. Its key is the path, size and times of
the source, or the source code of a function's module, so a changed source is decoded again.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import logging
import shutil
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from trainer.data.cache_entries import cache_root, entry_decoded, entry_returned, one_at_a_time
from trainer.data.formats.archives import names_in
from trainer.data.formats.array_files import ARRAYS, from_arrays, from_npz, reader_of
from trainer.data.formats.ffcv import Betons, betons_in, open_betons
from trainer.data.formats.image_folders import arrange, decode, real_labels, rescale
from trainer.host import installation
from trainer.host.progress import Progress
from trainer.spec import SpecError

if TYPE_CHECKING:
    from collections.abc import Callable

    from trainer.registry import Origin

log = logging.getLogger("isoflop")

_CHUNK = 4096


@dataclass(frozen=True)
class DecodedSet:
    """A cached data set: inputs [n, d] memory-mapped or in .beton files, labels [n]; rows before `train` train."""

    inputs: np.ndarray | Betons
    labels: np.ndarray
    train: int
    classes: int
    image: tuple[int, int, int] | None
    mean: np.ndarray
    std: np.ndarray
    fingerprint: str
    real: np.ndarray | None = None
    """ReaL labels [n, m], filled up with -1."""


class Decoded(NamedTuple):
    """The content of a source: inputs [n, ...], labels [n], ReaL labels [n, m]; rows before `train` train."""

    inputs: np.ndarray | Betons
    labels: np.ndarray
    train: int
    real: np.ndarray | None = None


def load_decoded(path: str, resolution: int | None, *, stream: bool = False) -> DecodedSet:
    """Return the data set at `path`, decoded unless the cache has it.

    Images are scaled to `resolution` pixels per side; None keeps their size. With `stream`, images stay in their
    .beton files, which are read once for statistics and fingerprint. Raises SpecError if the path does not exist,
    images differ in size and no resolution is given, or a file cannot be decoded.
    """
    source = Path(path).expanduser()
    if not source.exists():
        raise SpecError("path", f"not found: {source}")
    entry = entry_decoded(source, resolution, stream=stream)
    what = f"reading {source} once" if stream else f"decoding {source} once into {entry}"
    _make(entry, what, str(source.resolve()), lambda aside: _decoded(source, resolution, aside, stream=stream))
    return _open(entry, lambda: open_betons(source, names_in(source), resolution)[0])


def load_returned(
    name: str, function: Callable[[], Any], origin: Origin | None, resolution: int | None
) -> DecodedSet:
    """Return the data set that a function makes, called unless the cache has its result.

    The result is kept until the `origin` of the function changes: the source or version of its module. Raises
    SpecError if the function raises, or if its result is not a data set.
    """
    entry = entry_returned(name, origin, resolution)
    what = f"calling {name} once; the result is kept in {entry}"
    _make(entry, what, name, lambda _: _returned(name, function, resolution))
    return _open(entry)


def _returned(name: str, function: Callable[[], Any], resolution: int | None) -> Decoded:
    try:
        arrays = function()
    except Exception as error:
        raise SpecError("dataset", f"{name} failed: {type(error).__name__}: {error}") from error
    if isinstance(arrays, tuple | list) and len(arrays) == len(ARRAYS):
        arrays = dict(zip(ARRAYS, arrays, strict=True))
    if not isinstance(arrays, Mapping):
        raise SpecError(
            "dataset", f"{name} must return {', '.join(ARRAYS)} or a mapping of them; found {type(arrays).__name__}"
        )
    return _scaled(name, from_arrays(arrays, name, "dataset"), resolution)


def _make(entry: Path, what: str, source: str, decode: Callable[[Path], Decoded]) -> None:
    """Write an entry with the result of `decode` unless it exists; one process at a time."""
    if (entry / "card.json").exists():
        return
    with one_at_a_time(entry.name):
        if not (entry / "card.json").exists():
            log.info("%s", what)
            _write(entry, source, decode)


def _decoded(source: Path, resolution: int | None, aside: Path, *, stream: bool) -> Decoded:
    try:
        if stream and not (source.is_dir() and betons_in(names_in(source))):
            why = (
                f"ffcv reads .beton files, {source} has none; `{installation.command('data convert')}` writes them"
            )
            raise SpecError("loader", why)
        if source.suffix == ".npz":
            return _scaled(str(source), from_npz(source), resolution)
        names = names_in(source)
        if (read := reader_of(names)) is not None:
            return _scaled(str(source), read(source), resolution)
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
    """Decode all images into an .npy file of flat rows; returns them [n, H, W, C]."""
    if images.nbytes > (free := shutil.disk_usage(out.parent).free):
        raise SpecError(
            "path",
            f"decoded images take {images.nbytes / 1e9:.3g} GB, {cache_root()} has {free / 1e9:.3g} GB free; "
            "write `loader: ffcv` to read the .beton files, or set $ISOFLOP_CACHE to another folder",
        )
    flat = np.lib.format.open_memmap(out, "w+", np.uint8, (len(images), images.nbytes // len(images)))
    with Progress("decoding", "images", len(images)) as progress:
        for begin in range(0, len(images), _CHUNK):
            decoded = images[begin : begin + _CHUNK].reshape(-1, flat.shape[1])
            flat[begin : begin + len(decoded)] = decoded
            progress.advance(len(decoded))
    flat.flush()
    return flat.reshape(images.shape)


def _scaled(source: str, arrays: tuple[np.ndarray, np.ndarray, int], resolution: int | None) -> Decoded:
    inputs, labels, train = arrays
    if resolution is not None and (inputs.ndim != 4 or inputs.shape[1] != resolution):
        if inputs.ndim != 4 or inputs.dtype != np.uint8:
            raise SpecError("resolution", f"{source} holds examples of {inputs.shape[1:]}, which are not rescaled")
        inputs = rescale(inputs, resolution)
    return Decoded(inputs, labels, train)


def _write(entry: Path, source: str, decode: Callable[[Path], Decoded]) -> None:
    """Decode into a temporary folder, then rename it."""
    entry.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(dir=entry.parent, prefix=".writing-"))
    try:
        content = decode(aside)
        written = (aside / "inputs.npy").exists()  # images are decoded into it
        if isinstance(content.inputs, np.ndarray) and not written:
            np.save(aside / "inputs.npy", content.inputs.reshape(len(content.inputs), -1))
        np.save(aside / "labels.npy", content.labels)
        if content.real is not None:
            np.save(aside / "real.npy", content.real)
        (aside / "card.json").write_text(json.dumps({"source": source, **_card(content)}, indent=1))
        aside.rename(entry)
    except BaseException as error:
        shutil.rmtree(aside, ignore_errors=True)
        # Another process may have written the same entry first.
        if not isinstance(error, OSError) or not (entry / "card.json").exists():
            raise


def _card(content: Decoded) -> dict[str, Any]:
    """Return sizes, statistics and fingerprint."""
    inputs, labels, train, real = content
    mean, std = _statistics(inputs, train)
    fingerprint = hashlib.sha256(json.dumps([inputs.shape, str(inputs.dtype), train]).encode())
    for begin in range(0, len(inputs), _CHUNK):
        fingerprint.update(np.ascontiguousarray(inputs[begin : begin + _CHUNK]).data)
    fingerprint.update(labels.data)
    if real is not None:
        fingerprint.update(real.data)
    return {
        "train": train,
        "test": len(labels) - train,
        "classes": int(labels.max()) + 1,
        "image": list(inputs.shape[1:]) if inputs.ndim == 4 else None,
        "mean": mean.tolist(),
        "std": std.tolist(),
        "fingerprint": fingerprint.hexdigest()[:32],
    }


def _statistics(inputs: np.ndarray | Betons, train: int) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and standard deviation of each channel, or of all features together; exact for uint8."""
    channels = inputs.shape[3] if inputs.ndim == 4 else 1
    if inputs.dtype != np.uint8:
        parts = [inputs[:train].reshape(-1, channels)[:, c] for c in range(channels)]
        mean, std = np.array([[p.mean(dtype=float), p.std(dtype=float)] for p in parts]).T
    else:
        counts = np.zeros((channels, 256))
        for begin in range(0, train, _CHUNK):  # the data set may be larger than memory
            values = inputs[begin : min(begin + _CHUNK, train)].reshape(-1, channels)
            counts += [np.bincount(values[:, c], minlength=256) for c in range(channels)]
        mean = counts @ np.arange(256) / counts.sum(1)
        std = np.sqrt(counts @ np.arange(256.0) ** 2 / counts.sum(1) - mean**2)
    return mean, np.where(std > 0, std, 1.0)


def _open(entry: Path, betons: Callable[[], Betons] | None = None) -> DecodedSet:
    card = json.loads((entry / "card.json").read_text())
    inputs: np.ndarray | Betons
    if (entry / "inputs.npy").exists():
        inputs = np.load(entry / "inputs.npy", mmap_mode="c")  # c: torch wants a writable array
    else:
        assert betons is not None, "only streamed images are not in the entry"
        inputs = betons()
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
