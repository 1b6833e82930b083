"""Files behind URLs, downloaded to the cache once per machine.

A copy is `<cache>/fetched/<hash of the URL>/<hash of the version>/<name>`: written aside, as long as it was listed,
and renamed. Its content alone goes into a run's identity, never the URL.
"""

from __future__ import annotations

import functools
import hashlib
import json
import logging
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from trainer.data.cache_entries import cache_root, one_at_a_time
from trainer.host.urls import Remote, RemoteError, is_url, local
from trainer.spec import SpecError

if TYPE_CHECKING:
    from trainer.host.urls import Seen

log = logging.getLogger("isoflop")


def local_copy(said: str, field: str = "path") -> Path:
    """A path as it is, or the copy on this machine of what lies behind a URL.

    The URL is asked once a process whether its content has changed; where it does not answer, the copy that is here
    serves. Raises SpecError, about `field`, where there is none.
    """
    if not is_url(said):
        return local(said)
    try:
        return newest_copy(said)
    except RemoteError as error:
        raise SpecError(field, str(error)) from error


def copy_here(said: str) -> Path | None:
    """What `local_copy` gives where it need not fetch; the URL is not asked."""
    return local(said) if not is_url(said) else _latest(_root(said))


@functools.lru_cache(maxsize=64)
def newest_copy(url: str) -> Path:
    """The copy of the newest version behind a URL, asked once a process; RemoteError where there is none."""
    root, remote = _root(url), Remote(url)
    try:
        files = remote.tree()
    except RemoteError as error:
        if isinstance(error.__cause__, FileNotFoundError) or (copy := _latest(root)) is None:
            raise
        log.warning("%s; the copy of it that is here is used", error)
        return copy
    version = hashlib.sha256(json.dumps(sorted(files.items())).encode()).hexdigest()[:24]
    place = root / version / (Path(urlsplit(url).path).name or "data")
    root.mkdir(parents=True, exist_ok=True)
    with one_at_a_time(root.name):
        if not place.exists():
            _fetch(remote, files, place)
    return place


def _fetch(remote: Remote, files: dict[str, Seen], place: Path) -> None:
    root = place.parent.parent
    log.info(
        "fetching %s, %s bytes, once into %s", remote, f"{sum(file.size or 0 for file in files.values()):,}", root
    )
    aside = Path(tempfile.mkdtemp(dir=root, prefix=".fetching-"))
    try:
        remote.fetch(files, aside / place.name)
        aside.rename(place.parent)
    except BaseException as error:
        shutil.rmtree(aside, ignore_errors=True)
        if isinstance(error, RemoteError) or not isinstance(error, OSError) or not place.exists():
            raise


def _root(url: str) -> Path:
    return cache_root() / "fetched" / hashlib.sha256(url.encode()).hexdigest()[:24]


def _latest(root: Path) -> Path | None:
    """The newest copy."""
    found = [entry for entry in root.glob("*/*") if not entry.parent.name.startswith(".")]
    return max(found, key=lambda path: path.parent.stat().st_mtime_ns, default=None)
