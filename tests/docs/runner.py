"""Runs the code blocks of a documentation page, in their order, in a folder of their own.

    python -m tests.docs.runner docs/tutorial.md [FOLDER]   # runs the page and writes the outputs into it

A ```python or ```yaml block whose first line is a comment with a file name is written to that file. Other
```python blocks are run, and ```sh blocks line by line, with `isoflop` and `python` as in the environment of this
process; the administrator of a database runs the lines of ```sql blocks. A ```text block right below a block is its
output. Blocks of other languages are only shown: ```bash is what another machine or another account would run.
"""

import os
import re
import shlex
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import psycopg

from tests.commands import isoflop, script
from tests.paths import ROOT, SHARED

BLOCK = re.compile(r"^```(python|yaml|sh|sql)\n(.*?)^```\n(?:\n```text\n(.*?)^```\n)?", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"# ([\w/.-]+\.(?:py|yaml|csv))\n")
DURATION = re.compile(r"(?:< ?)?\b\d+(?:\.\d+)? (?:h|min|s|ms)\b(?: \d+ (?:min|s|ms)\b)?")
RUN = re.compile(r"\b[0-9a-f]{8}\b")
NUMBER = re.compile(r"[-+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?")


@dataclass(frozen=True)
class Block:
    """A block of code, and the output that the page shows for it if it shows one."""

    language: str
    code: str
    shown: str | None

    @property
    def file(self) -> str | None:
        """The file to which it is written; None if it is run."""
        name = FILE.match(self.code)
        return name[1] if name else None

    @property
    def parts(self) -> list[str]:
        """What is run: each line, or the whole script."""
        return self.code.splitlines() if self.language in ("sh", "sql") else [self.code]


def blocks_of(text: str) -> list[Block]:
    """The blocks of a page that are run or written to files."""
    return [Block(language, code, shown or None) for language, code, shown in BLOCK.findall(text)]


def environment(folder: Path) -> dict[str, str]:
    """Environment variables with `python` and `isoflop` on PATH, and a table and a cache in the folder."""
    programs = folder / "bin"
    programs.mkdir()
    (folder / "sweeps").symlink_to(ROOT / "sweeps")
    (programs / "python").write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    (programs / "python").chmod(0o755)
    (programs / "isoflop").symlink_to(Path(sys.prefix, "bin", "isoflop"))  # messages name it as it is on PATH
    return {
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}",
        "HOME": str(folder),
        "COLUMNS": "100",
        "ISOFLOP_STORE": "isoflop.db",
        "ISOFLOP_CACHE": os.environ.get("ISOFLOP_CACHE", str(folder / "cache")),
        "ISOFLOP_DATA": str(SHARED),
    }


def output_of(block: Block, folder: Path, variables: dict[str, str]) -> str:
    """Run a block, or write its file; returns what it printed to stdout. Fails with what a failed part printed."""
    if block.file:
        (folder / block.file).parent.mkdir(parents=True, exist_ok=True)
        (folder / block.file).write_text(block.code, encoding="utf-8")
        return ""
    assert block.language != "yaml", f"a yaml block begins with the name of its file: {block.code}"
    if block.language == "sql":
        with psycopg.connect(variables["DATABASE_URL"], autocommit=True) as database:
            for statement in block.parts:
                database.execute(statement)
        return ""
    printed = ""
    for part in block.parts:
        ended = _run(block.language, part, folder, variables)
        assert ended.returncode == 0, f"{part}\n{ended.stdout}\n{ended.stderr}"
        printed += ended.stdout
    return printed


def _run(language: str, code: str, folder: Path, variables: dict[str, str]) -> subprocess.CompletedProcess[str]:
    if language == "python":
        (folder / "block.py").write_text(code, encoding="utf-8")
        return script("block.py", folder, **variables)
    if code.startswith("isoflop ") and not re.search("[|>&;]", code.split('"', maxsplit=1)[0]):
        return isoflop(*shlex.split(code)[1:], folder=folder, **variables)
    return subprocess.run(
        code, shell=True, cwd=folder, env=os.environ | variables, capture_output=True, text=True, check=False
    )


def assert_as_shown(block: Block, printed: str, page: str) -> None:
    """Compare an output with that of the page, word by word; numbers and times are of the machine."""
    if block.shown is not None:
        words = words_of(printed), words_of(block.shown)
        assert words[0] == words[1], f"python -m tests.docs.runner {page} writes the page anew"


def words_of(output: str) -> list[str]:
    """An output without its numbers and spaces, to be compared with that of another machine."""
    return NUMBER.sub("#", RUN.sub("RUN", DURATION.sub("TIME", output))).replace("-", " ").split()


def numbers_of(output: str) -> list[float]:
    """The numbers of an output, durations left out."""
    return [float(number) for number in NUMBER.findall(RUN.sub("", DURATION.sub("", output)))]


def written(text: str, folder: Path) -> str:
    """A page with the outputs of its blocks as they are now."""
    variables = environment(folder)

    def with_output(match: re.Match[str]) -> str:
        block = Block(*match.groups())
        printed = output_of(block, folder, variables)
        if block.shown is None:
            return match[0]
        lines = "".join(f"{line.rstrip()}\n" for line in printed.splitlines())
        return f"```{block.language}\n{block.code}```\n\n```text\n{lines}```\n"

    return BLOCK.sub(with_output, text)


if __name__ == "__main__":
    page = Path(sys.argv[1])
    with tempfile.TemporaryDirectory() as temporary:
        here = Path(sys.argv[2] if len(sys.argv) > 2 else temporary)
        page.write_text(written(page.read_text(encoding="utf-8"), here), encoding="utf-8")
