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


def local_copy(place: str, field: str = "path") -> Path:
    """A path as it is, or the local copy of a URL's content.

    The server is asked once per process whether the content has changed; if it does not answer, the existing copy
    is used. Raises SpecError about `field` if there is none.
    """
    if not is_url(place):
        return local(place)
    try:
        return newest_copy(place)
    except RemoteError as error:
        raise SpecError(field, str(error)) from error


def copy_here(place: str) -> Path | None:
    """The path that `local_copy` returns if it need not download; the server is not asked."""
    return local(place) if not is_url(place) else _latest(_root(place))


@functools.lru_cache(maxsize=64)
def newest_copy(url: str) -> Path:
    """The copy of the newest version behind a URL, asked once a process; RemoteError where there is none."""
    root, remote = _root(url), Remote(url)
    try:
        files = remote.tree()
    except RemoteError as error:
        if isinstance(error.__cause__, FileNotFoundError) or (copy := _latest(root)) is None:
            raise
        log.warning("%s; the existing copy is used", error)
        return copy
    version = hashlib.sha256(json.dumps(sorted(files.items())).encode()).hexdigest()[:24]
    copy = root / version / (Path(urlsplit(url).path).name or "data")
    root.mkdir(parents=True, exist_ok=True)
    with one_at_a_time(root.name):
        if not copy.exists():
            _download(remote, files, copy)
    return copy


def _download(remote: Remote, files: dict[str, Seen], copy: Path) -> None:
    root = copy.parent.parent
    log.info(
        "downloading %s, %s bytes, into %s", remote, f"{sum(file.size or 0 for file in files.values()):,}", root
    )
    aside = Path(tempfile.mkdtemp(dir=root, prefix=".downloading-"))
    try:
        remote.fetch(files, aside / copy.name)
        aside.rename(copy.parent)
    except BaseException as error:
        shutil.rmtree(aside, ignore_errors=True)
        if isinstance(error, RemoteError) or not isinstance(error, OSError) or not copy.exists():
            raise


def _root(url: str) -> Path:
    return cache_root() / "fetched" / hashlib.sha256(url.encode()).hexdigest()[:24]


def _latest(root: Path) -> Path | None:
    """The newest copy, None if there is none."""
    copies = [entry for entry in root.glob("*/*") if not entry.parent.name.startswith(".")]
    return max(copies, key=lambda path: path.parent.stat().st_mtime_ns, default=None)
