"""A disk that loses power: replays the file operations of a program and keeps what was synced, or more.

A program is run with `recorder.c` preloaded, which writes down each of its calls. `Disk` takes them one by one.
After any of them the power may go: what was fsynced is there; of what was not, any part may be, each sector for
itself, in any order; a name is there, or gone, for certain only once its folder was fsynced.
"""

import os
import shutil
import struct
import subprocess
import sys
from itertools import pairwise
from pathlib import Path, PurePath

import pytest

from tests.paths import ROOT

SECTOR = 512


def recorded(program, folder, tmp_path, *arguments):
    """Runs a Python program under the recorder; returns its operations below a folder, for `Disk.take`."""
    compiler = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
    if compiler is None or not sys.platform.startswith("linux"):
        pytest.skip("no C compiler: apt install gcc")
    library, log = tmp_path / "recorder.so", tmp_path / "log"
    build = [
        compiler,
        "-O1",
        "-shared",
        "-fPIC",
        "-o",
        str(library),
        str(Path(__file__).with_name("recorder.c")),
        "-ldl",
    ]
    subprocess.run(build, check=True)
    recording = {"LD_PRELOAD": str(library), "RECORDED_FOLDER": str(folder), "RECORD_FILE": str(log)}
    subprocess.run(
        [sys.executable, "-c", program, str(folder), *arguments],
        check=True,
        cwd=ROOT,
        env={**os.environ, **recording, "PYTHONPATH": str(ROOT)},
    )
    return list(_entries(log.read_bytes()))


def _entries(log):
    at, head = 0, struct.Struct("=qqqq")
    while at < len(log):
        kind, a, b, length = head.unpack_from(log, at)
        yield chr(kind), a, b, log[at + head.size : at + head.size + length]
        at += head.size + length


class File:
    """A file: its synced content, and the writes since."""

    def __init__(self):
        self.certain, self.since = bytearray(), []

    def surely(self):
        self.certain = self.after(self.since)
        self.since = []

    def after(self, changes):
        content = bytearray(self.certain)
        for at, data in changes:
            content.extend(bytes(max(0, at - len(content))))
            end = len(content) if data is None else at + len(data)  # None: the file ends here
            content[at:end] = data or b""
        return content


class Folder:
    """A folder: its names are durable once it was fsynced."""


class Disk:
    """The files below a folder, by path; `promised` is what the program has acknowledged."""

    def __init__(self, folder):
        self.folder, self.promised = str(folder), []
        self._now = {self.folder: Folder()}
        self._certain = dict(self._now)
        self._since = []  # names created, moved or deleted: (before, after, File or Folder)
        self._open, self._from = {}, ""

    def take(self, kind, a, b, data):  # noqa: C901 - a case a kind
        text = "" if kind in "wts" else data.decode()
        match kind:
            case "o":
                if text not in self._now:
                    self._name(None, text, File())
                self._open[a] = text.rstrip("/"), self._now[text]
                if b:
                    self._open[a][1].since.append((0, None))
            case "w":
                self._open[a][1].since += [(b + i, data[i:end]) for i, end in _sectors(b, len(data))]
            case "t":
                self._open[a][1].since.append((b, None))
            case "s":
                self._sync(*self._open[a])
            case "u":
                self._name(text, None, self._now[text])
            case "m" if text not in self._now:
                self._name(None, text, Folder())
            case "f":
                self._from = text
            case "r":
                self._name(self._from, text, self._now[self._from])
            case "a":
                self.promised.append(text)

    def _name(self, *change):
        self._since.append(change)
        _rename(self._now, [change])

    def _sync(self, path, what):
        if isinstance(what, File):
            what.surely()
            return
        mine = [change for change in self._since if str(PurePath(change[1] or change[0]).parent) == path]
        self._since = [change for change in self._since if change not in mine]
        _rename(self._certain, mine)

    def now(self):
        """The content of every file as the program sees it."""
        files = {path: file for path, file in self._now.items() if isinstance(file, File)}
        return {path: bytes(file.after(file.since)) for path, file in files.items()}

    def cut(self, dice, into):
        """Cuts the power now, and writes the remaining content of the disk into a folder."""
        kept = dice.choice([_nothing, _everything, _beginning, _some])
        names = dict(self._certain)
        _rename(names, kept(self._since, dice))
        shutil.rmtree(into, ignore_errors=True)
        into.mkdir()
        for path, file in names.items():
            if isinstance(file, File) and str(PurePath(path).parent) in names:
                place = into / PurePath(path).relative_to(self.folder)
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes(file.after(kept(file.since, dice)))


def _rename(names, changes):
    for before, after, file in changes:
        names.pop(before, None)
        if after is not None:
            names[after] = file


def _sectors(at, length):
    """The parts (begin, end) in which a write at an offset reaches the disk."""
    return pairwise([0, *range(SECTOR - at % SECTOR, length, SECTOR), length])


def _nothing(_since, _dice):
    return []


def _everything(since, _dice):
    return since


def _beginning(since, dice):
    return since[: dice.randint(0, len(since))]


def _some(since, dice):
    return [change for change in since if dice.random() < 0.5]
