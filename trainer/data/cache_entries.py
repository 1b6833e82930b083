"""Where the cache keeps a data set, and whether it is there. No numpy: planning asks.

The cache is `$ISOFLOP_CACHE`, else `$XDG_CACHE_HOME/isoflop`, else `~/.cache/isoflop`.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import json
import os
from dataclasses import astuple
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trainer.registry import Origin

_LAYOUT = 1
"""Version of the cache's layout; another one is decoded anew."""


def cache_root() -> Path:
    """Where decoded data sets and measured devices are kept."""
    if folder := os.environ.get("ISOFLOP_CACHE"):
        return Path(folder)
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


def is_returned(name: str, origin: Origin | None, resolution: int | None) -> bool:
    """Whether `load_returned` need not call the function."""
    return (entry_returned(name, origin, resolution) / "card.json").exists()


def entry_returned(name: str, origin: Origin | None, resolution: int | None) -> Path:
    """Return the entry of what a function of this origin returned."""
    return _entry_of([_LAYOUT, name, origin and astuple(origin), resolution])


def is_decoded(path: str, resolution: int | None, *, stream: bool = False) -> bool:
    """Whether the data set at `path` was decoded before."""
    source = Path(path).expanduser()
    if not source.exists():
        return False
    return (_entry_seen(source, resolution, source.stat().st_mtime_ns, stream=stream) / "card.json").exists()


@functools.lru_cache(maxsize=64)
def _entry_seen(source: Path, resolution: int | None, changed: int, *, stream: bool) -> Path:  # noqa: ARG001
    """For planning alone, which looks through a folder of a million files once."""
    return entry_decoded(source, resolution, stream=stream)


def entry_decoded(source: Path, resolution: int | None, *, stream: bool) -> Path:
    """Return the entry of a source, a function of its place, sizes and times."""
    return _entry_of([_LAYOUT, _signature(source), resolution, *["stream"] * stream])


def _entry_of(key: list[Any]) -> Path:
    return cache_root() / "datasets" / hashlib.sha256(json.dumps(key).encode()).hexdigest()[:24]


def _signature(source: Path) -> list[Any]:
    files = sorted(p for p in source.rglob("*") if p.is_file()) if source.is_dir() else [source]
    looks = [[str(p.relative_to(source)), p.stat().st_size, p.stat().st_mtime_ns] for p in files]
    return [str(source.resolve()), looks]
