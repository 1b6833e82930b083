"""Files of a data set in a folder, a tar or a zip: their names, and their contents in order."""

from __future__ import annotations

import zipfile
from typing import TYPE_CHECKING

from trainer.spec import SpecError

if TYPE_CHECKING:
    from collections.abc import Container, Iterator
    from pathlib import Path

ARCHIVES = (".tar.gz", ".tgz", ".tar", ".zip")


def names_in(source: Path) -> list[str]:
    """Paths of all files inside a source, sorted. SpecError if it is no folder, tar or zip."""
    import tarfile

    if source.is_dir():
        return sorted(p.relative_to(source).as_posix() for p in source.rglob("*") if p.is_file())
    if zipfile.is_zipfile(source):
        with zipfile.ZipFile(source) as archive:
            return sorted(name for name in archive.namelist() if not name.endswith("/"))
    if tarfile.is_tarfile(source):
        with tarfile.open(source) as tar:
            return sorted(member.name for member in tar if member.isfile())
    raise SpecError("path", f"{source} is neither a folder, a tar, a zip nor an .npz file")


def contents_of(source: Path, wanted: Container[str]) -> Iterator[tuple[str, bytes]]:
    """(name, bytes) of the wanted files, in the order that reads the source once from front to back."""
    import tarfile

    if source.is_dir():
        yield from ((name, (source / name).read_bytes()) for name in names_in(source) if name in wanted)
    elif zipfile.is_zipfile(source):
        with zipfile.ZipFile(source) as archive:
            yield from ((name, archive.read(name)) for name in archive.namelist() if name in wanted)
    else:
        with tarfile.open(source, "r|*") as tar:  # a stream: no seeking back in a compressed file
            for member in tar:
                if member.name in wanted and (file := tar.extractfile(member)) is not None:
                    yield member.name, file.read()
