"""How this installation is called: the command as it can be typed here, and what installs what is missing.

In a clone whose .venv is not on PATH, `isoflop plan FILE` is `./run isoflop plan FILE`.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
"""The clone, or the folder of the packages where isoflop is installed without one."""


def command(words: str = "") -> str:
    """Return what runs `isoflop words` in a shell at the current folder."""
    script = Path(sys.prefix, "bin", "isoflop")
    if on_path(script):
        program = "isoflop"
    elif (run := clone_script()) is not None:
        program = f"{run} isoflop"
    elif script.exists():
        program = shlex.quote(str(script))
    else:
        program = f"{shlex.quote(sys.executable)} -m orchestrator"
    return f"{program} {words}".rstrip()


def install_extra(name: str) -> str:
    """Return what installs an extra of pyproject.toml; isoflop itself is on no package index."""
    if (run := clone_script()) is not None:
        return f"{run} add {name}"
    from importlib.metadata import requires

    required = [re.split(r"\s*;.*extra\s*==\s*", line) for line in requires("isoflop") or []]
    return install(*(line[0] for line in required if line[1:] and line[1].strip("'\" ") == name))


def install(*packages: str) -> str:
    """Return what installs packages into the environment of this process."""
    if on_path(Path(sys.prefix, "bin", "pip")):
        program = "pip"
    else:
        program = f"{run} python -m pip" if (run := clone_script()) else f"{shlex.quote(sys.executable)} -m pip"
    return f"{program} install {shlex.join(packages)}"


def verb(name: str) -> str:
    """Return what calls a verb of the script `run` of the clone."""
    return f"{clone_script() or shlex.quote(str(ROOT / 'run'))} {name}"


def clone_script() -> str | None:
    """Return the clone's script as it is called from the current folder; None outside its .venv."""
    script = ROOT / "run"
    if not script.exists() or Path(sys.prefix).resolve() != (ROOT / ".venv").resolve():
        return None
    return "./run" if Path(os.path.realpath(".")) == ROOT else shlex.quote(str(script))


def on_path(script: Path) -> bool:
    """Whether a script's name alone starts it."""
    found = shutil.which(script.name)
    return found is not None and Path(found).resolve() == script.resolve()
