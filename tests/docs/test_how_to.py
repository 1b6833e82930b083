"""The code of every how-to page, run in the order of the page in a folder of its own.

A ```python or ```yaml block whose first line is a comment with a file name is written to that file. Other ```python
blocks are run. ```sh blocks are run line by line, with `isoflop` and `python` as in the environment of this test.
"""

import os
import re
import shlex
import subprocess
import sys

import pytest

from tests.commands import isoflop, script
from tests.paths import ROOT

PAGES = sorted((ROOT / "docs/how-to").glob("[a-z]*.md"))
BLOCK = re.compile(r"^```(python|yaml|sh)\n(.*?)^```", re.MULTILINE | re.DOTALL)
NAME = re.compile(r"# ([\w/]+\.(?:py|yaml))\n")
SHOWN_ONLY = {"figures-and-report"}  # its block continues code of the reader's own


@pytest.fixture
def environment(tmp_path):
    """Environment variables with `python` on PATH, a table and a cache in this folder."""
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "python").write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    (programs / "python").chmod(0o755)
    return {
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}",
        "ISOFLOP_STORE": "isoflop.db",
        "ISOFLOP_CACHE": str(tmp_path / "cache"),
    }


def lines_of(language, code):
    """What to run of a block: a command a line, or all of a script."""
    return code.splitlines() if language == "sh" else [code]


def run(language, code, folder, environment):
    """Run a command or a script in a process of its own."""
    if language == "python":
        (folder / "block.py").write_text(code, encoding="utf-8")
        return script("block.py", folder, **environment)
    if code.startswith("isoflop ") and "|" not in code:
        return isoflop(*shlex.split(code)[1:], folder=folder, **environment)
    return subprocess.run(
        code, shell=True, cwd=folder, env=os.environ | environment, capture_output=True, text=True, check=False
    )


@pytest.mark.timeout(900)  # several processes, each of which may import torch
@pytest.mark.parametrize(
    "page", [page for page in PAGES if page.stem not in SHOWN_ONLY], ids=lambda page: page.stem
)
def test_code_of_the_page_runs(page, tmp_path, environment):
    blocks = BLOCK.findall(page.read_text(encoding="utf-8"))
    assert blocks, "a how-to page has code"
    for language, code in blocks:
        if name := NAME.match(code):
            (tmp_path / name[1]).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name[1]).write_text(code, encoding="utf-8")
            continue
        assert language != "yaml", f"a yaml block begins with the name of its file: {code}"
        for part in lines_of(language, code):
            ended = run(language, part, tmp_path, environment)
            assert ended.returncode == 0, f"{part}\n{ended.stdout}\n{ended.stderr}"


def test_every_page_is_in_the_table_of_extensions():
    table = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert [page.name for page in PAGES if page.name not in table and page.stem not in SHOWN_ONLY] == []
