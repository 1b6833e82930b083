"""What is known of this machine, kept in the cache from one command to the next: its speed, finished stacks."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import platform
from pathlib import Path
from typing import TYPE_CHECKING, Any

import trainer
from trainer.data.cache_entries import cache_root
from trainer.host.limits import cores

if TYPE_CHECKING:
    from collections.abc import Mapping


def remembered(section: str) -> dict[str, Any]:
    """Return a section of what is known of this machine; empty if nothing is."""
    try:
        known = json.loads(_file().read_text())[_machine()][section]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return known if isinstance(known, dict) else {}


def remember(section: str, content: Mapping[str, Any]) -> None:
    """Replace a section of what is known of this machine."""
    file = _file()
    try:
        machines = json.loads(file.read_text())
    except (OSError, ValueError):
        machines = {}
    machine = {**machines.get(_machine(), {}), section: content}
    file.parent.mkdir(parents=True, exist_ok=True)
    aside = file.with_suffix(f".{os.getpid()}")
    aside.write_text(json.dumps({**machines, _machine(): machine}))
    aside.replace(file)


@functools.cache
def code_version() -> str:
    """Return a hash of the trainer's source, which decides how long a step takes."""
    content = hashlib.sha256()
    for file in sorted(Path(trainer.__file__).parent.rglob("*.py")):
        content.update(file.read_bytes())
    return content.hexdigest()[:16]


def _file() -> Path:
    return cache_root() / "machine.json"


def _machine() -> str:
    return f"{platform.node()} {platform.machine()} {cores()}-core"
