"""Files behind a URL, by any protocol of fsspec: listed, read and written whole, with retries."""

from __future__ import annotations

import re
import secrets
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from trainer.errors import UserError
from trainer.host import installation

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

T = TypeVar("T")

PAUSES, PATIENT = (0.0, 2.0), (0.0, 2.0, 5.0, 15.0, 45.0)
"""Seconds before each retry, on a new connection; PATIENT where giving up is expensive."""

_STAMPS = (
    *("ETag", "etag", "md5Hash", "content_md5", "Content-MD5", "mtime", "modify"),
    *("LastModified", "last_modified", "Last-Modified", "updated"),
)
"""Keys under which file systems report a file's version, the most reliable first."""


class RemoteError(UserError, OSError):
    """A URL could not be read or written; the message is one line."""


class Seen(NamedTuple):
    """A file in a listing: its size in bytes, if known, and a stamp that differs between versions."""

    size: int | None
    stamp: str


def is_url(place: object) -> bool:
    """Whether this is a URL other than `file://`."""
    return isinstance(place, str) and "://" in place and not place.startswith("file://")


def local(place: str | Path) -> Path:
    """The path of a string, which may be a file:// URL."""
    return Path(str(place).removeprefix("file://")).expanduser()


def shown(url: str) -> str:
    """A URL without its password, for messages."""
    return re.sub(r"(://[^:/@]*):.*@", r"\1:***@", url, flags=re.DOTALL)  # to the last @, whatever is before


class Remote:
    """The file or folder behind a URL. Not thread-safe: each thread needs its own."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._opened: tuple[Any, str] | None = None

    def __str__(self) -> str:
        return shown(self._url)

    def sizes(self, folder: str = "", *, patient: bool = False) -> dict[str, int]:
        """Sizes in bytes of the files in a folder below the URL, by name; {} if there is no such folder."""
        return self._try(lambda fs, path: _sizes(fs, _below(path, folder)), patient=patient)

    def read(self, name: str, *, patient: bool = False) -> bytes:
        """The content of a file below the URL."""

        def read(fs: Any, path: str) -> bytes:
            content: bytes = fs.cat_file(_below(path, name))
            return content

        return self._try(read, patient=patient)

    def write(self, files: Mapping[str, bytes], *, patient: bool = False) -> None:
        """Write files below the URL, concurrently if the protocol can."""

        def write(fs: Any, path: str) -> None:
            for folder in {name.rpartition("/")[0] for name in files} - {""}:
                fs.makedirs(_below(path, folder), exist_ok=True)
            fs.pipe({_below(path, name): content for name, content in files.items()})

        self._try(write, patient=patient)

    def delete(self, outdated: Callable[[str], bool]) -> None:
        """Delete the files directly below the URL for whose name `outdated` is true."""

        def delete(fs: Any, path: str) -> None:
            gone = [_below(path, name) for name in _sizes(fs, path) if outdated(name)]
            if fs.async_impl and gone:
                fs.rm(gone)  # in one request
            else:
                for name in gone:
                    fs.rm_file(name)

        self._try(delete)

    def tree(self) -> dict[str, Seen]:
        """All files behind the URL, by their path below it; if the URL is a file, that file as ""."""

        def look(fs: Any, path: str) -> dict[str, Seen]:
            fs.invalidate_cache()
            entry = fs.info(path)
            if entry["type"] == "file":
                return {"": _seen(entry)}
            entries = fs.find(path, detail=True)
            return {name[len(path) :].strip("/"): _seen(entry) for name, entry in sorted(entries.items())}

        return self._try(look)

    def reach(self) -> None:
        """RemoteError if there is nothing behind the URL, or it cannot be reached."""
        self._try(lambda fs, path: fs.info(path))

    def fetch(self, files: Mapping[str, Seen], to: Path) -> None:
        """Copy files of `tree` below a local path; RemoteError if one has another size than listed."""

        def fetch(fs: Any, path: str) -> None:
            if strange := [name for name in files if ".." in name.split("/")]:
                raise RemoteError(f"{strange[0]} would lie outside of the cache")
            places = {name: to / name if name else to for name in files}
            for place in places.values():
                place.parent.mkdir(parents=True, exist_ok=True)
            fs.get([_below(path, name) for name in files], [str(place) for place in places.values()])
            for name, place in places.items():
                size, listed = place.stat().st_size, files[name].size
                if listed is not None and size != listed:
                    raise OSError(f"{name or path} came with {size:,} bytes of {listed:,}")

        self._try(fetch)

    def check(self) -> None:
        """Write a file, read it and delete it; RemoteError where one of them fails.

        A folder is made where there is none, below what is named first: a bucket, or a folder, which must exist.
        """

        def make(fs: Any, path: str) -> None:
            first = "/" * path.startswith("/") + path.strip("/").partition("/")[0]
            if first.strip("/") and not fs.exists(first):
                raise FileNotFoundError(f"there is no {first}; make it first")
            if path.strip("/"):
                fs.makedirs(path, exist_ok=True)

        self._try(make)
        name, content = f".probe-{secrets.token_hex(8)}", secrets.token_bytes(16)
        self.write({name: content})
        if self.read(name) != content:
            raise RemoteError(f"{self}: what was written comes back changed")
        self.delete(lambda file: file == name)

    def _try(self, act: Callable[[Any, str], T], *, patient: bool = False) -> T:
        """The result of `act(file system, path of the URL in it)`, with retries."""
        for pause in (*(PATIENT if patient else PAUSES), None):
            try:
                self._opened = self._opened or self._open()
                return act(*self._opened)
            except Exception as raised:  # noqa: BLE001 - every protocol has exceptions of its own
                self._opened, error = None, _real(raised)
                if pause is None or isinstance(error, RemoteError):
                    raise RemoteError(f"{self}: {_one_line(error)}") from error
                time.sleep(0 if isinstance(error, FileNotFoundError) else pause)
        raise AssertionError

    def _open(self) -> tuple[Any, str]:
        """Import the protocol's package, and connect."""
        import fsspec

        try:
            opened: tuple[Any, str] = fsspec.url_to_fs(self._url, skip_instance_cache=True)
        except ImportError as error:
            missing = getattr(error.__cause__, "name", None) or error.name or "its package"
            protocol = self._url.partition("://")[0]
            raise RemoteError(
                f"{protocol}:// needs {missing}, which is missing; run: {installation.install(missing)}"
            ) from error
        except ValueError as error:
            raise RemoteError(_one_line(error)) from error
        return opened


def _below(path: str, name: str) -> str:
    return f"{path.rstrip('/')}/{name}" if name else path


def _sizes(fs: Any, path: str) -> dict[str, int]:
    fs.invalidate_cache()
    try:
        entries = fs.ls(path, detail=True)
    except FileNotFoundError:
        return {}
    return {entry["name"].rpartition("/")[2]: entry["size"] for entry in entries if entry["type"] == "file"}


def _seen(entry: Mapping[str, Any]) -> Seen:
    stamp = next((entry[key] for key in _STAMPS if entry.get(key)), "")
    return Seen(None if entry["size"] is None else int(entry["size"]), str(stamp))


def _real(error: Exception) -> Exception:
    """The cause of an error: fsspec's HTTP reports a server that does not answer as a missing file."""
    below = error.__cause__
    return below if isinstance(error, FileNotFoundError) and isinstance(below, OSError) else error


def _one_line(error: Exception) -> str:
    message = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return "there is nothing" if isinstance(error, FileNotFoundError) and " " not in message else message
