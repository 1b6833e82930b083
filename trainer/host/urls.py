"""Files behind a URL, by any protocol of fsspec: listed, read and written whole, with retries."""

from __future__ import annotations

import re
import secrets
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from trainer.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

T = TypeVar("T")

PAUSES, PATIENT = (0.0, 2.0), (0.0, 2.0, 5.0, 15.0, 45.0)
"""Seconds before each further try, on a new connection, as servers close idle ones; and where giving up is dear."""

_STAMPS = (
    *("ETag", "etag", "md5Hash", "content_md5", "Content-MD5", "mtime", "modify"),
    *("LastModified", "last_modified", "Last-Modified", "updated"),
)
"""Where file systems say which version of a file this is, the surest first."""


class RemoteError(UserError, OSError):
    """What a URL did not yield, in one line."""


class Seen(NamedTuple):
    """A file as a listing has it: its bytes, where they are told, and whatever tells its versions apart."""

    size: int | None
    stamp: str


def is_url(said: object) -> bool:
    """Whether something is a URL that is not a path of this machine (`file://`)."""
    return isinstance(said, str) and "://" in said and not said.startswith("file://")


def local(said: str | Path) -> Path:
    """A path of this machine, which may be said as a file:// URL."""
    return Path(str(said).removeprefix("file://")).expanduser()


def shown(url: str) -> str:
    """A URL as it is said to a user: without its password."""
    return re.sub(r"(://[^:/@]*):.*@", r"\1:***@", url, flags=re.DOTALL)  # to the last @, whatever is before


class Remote:
    """What lies behind a URL: a file, or a folder with files. Each thread needs one of its own."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._opened: tuple[Any, str] | None = None

    def __str__(self) -> str:
        return shown(self._url)

    def sizes(self, folder: str = "", *, patient: bool = False) -> dict[str, int]:
        """The files in a folder below the URL, by name, with their bytes; none where there is no such folder."""
        return self._try(lambda fs, path: _sizes(fs, _below(path, folder)), patient=patient)

    def read(self, name: str, *, patient: bool = False) -> bytes:
        """A file below the URL."""

        def read(fs: Any, path: str) -> bytes:
            found: bytes = fs.cat_file(_below(path, name))
            return found

        return self._try(read, patient=patient)

    def write(self, files: Mapping[str, bytes], *, patient: bool = False) -> None:
        """Write files below the URL, at once where the protocol can."""

        def write(fs: Any, path: str) -> None:
            for folder in {name.rpartition("/")[0] for name in files} - {""}:
                fs.makedirs(_below(path, folder), exist_ok=True)
            fs.pipe({_below(path, name): content for name, content in files.items()})

        self._try(write, patient=patient)

    def delete(self, doomed: Callable[[str], bool]) -> None:
        """Delete the files directly below the URL whose name is doomed."""

        def delete(fs: Any, path: str) -> None:
            gone = [_below(path, name) for name in _sizes(fs, path) if doomed(name)]
            if fs.async_impl and gone:
                fs.rm(gone)  # in one request
            else:
                for name in gone:
                    fs.rm_file(name)

        self._try(delete)

    def tree(self) -> dict[str, Seen]:
        """All files behind the URL, by their path below it; of a URL that is a file, that file as ""."""

        def look(fs: Any, path: str) -> dict[str, Seen]:
            fs.invalidate_cache()
            entry = fs.info(path)
            if entry["type"] == "file":
                return {"": _seen(entry)}
            found = fs.find(path, detail=True)
            return {name[len(path) :].strip("/"): _seen(entry) for name, entry in sorted(found.items())}

        return self._try(look)

    def reach(self) -> None:
        """RemoteError where there is nothing, or it cannot be reached."""
        self._try(lambda fs, path: fs.info(path))

    def fetch(self, files: Mapping[str, Seen], to: Path) -> None:
        """Copy files of `tree` below a local path; RemoteError where one is not as long as it was listed."""

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
        self.delete(lambda found: found == name)

    def _try(self, act: Callable[[Any, str], T], *, patient: bool = False) -> T:
        """What `act` returns of the file system and of the URL's path in it."""
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
        """Import what the protocol needs, and connect."""
        import fsspec

        try:
            opened: tuple[Any, str] = fsspec.url_to_fs(self._url, skip_instance_cache=True)
        except ImportError as error:
            missing = getattr(error.__cause__, "name", None) or error.name
            protocol = self._url.partition("://")[0]
            raise RemoteError(
                f"{protocol}:// needs {missing}, which is missing; type: pip install {missing}"
            ) from error
        except ValueError as error:
            raise RemoteError(_one_line(error)) from error
        return opened


def _below(path: str, name: str) -> str:
    return f"{path.rstrip('/')}/{name}" if name else path


def _sizes(fs: Any, path: str) -> dict[str, int]:
    fs.invalidate_cache()
    try:
        found = fs.ls(path, detail=True)
    except FileNotFoundError:
        return {}
    return {entry["name"].rpartition("/")[2]: entry["size"] for entry in found if entry["type"] == "file"}


def _seen(entry: Mapping[str, Any]) -> Seen:
    stamp = next((entry[key] for key in _STAMPS if entry.get(key)), "")
    return Seen(None if entry["size"] is None else int(entry["size"]), str(stamp))


def _real(error: Exception) -> Exception:
    """To fsspec's HTTP a server that does not answer is a file that is not found."""
    below = error.__cause__
    return below if isinstance(error, FileNotFoundError) and isinstance(below, OSError) else error


def _one_line(error: Exception) -> str:
    said = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return "there is nothing" if isinstance(error, FileNotFoundError) and " " not in said else said
