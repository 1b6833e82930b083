"""The generated reference is up to date, and what is written by hand names what the code reads."""

import re
import subprocess
import sys

from tests.paths import ROOT

COMMANDS = (ROOT / "docs/reference/commands.md").read_text(encoding="utf-8")


def test_reference_is_up_to_date():
    command = [sys.executable, str(ROOT / "scripts/reference.py"), "--check"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr


def test_every_environment_variable_of_ours_is_listed():
    files = [path for package in ("orchestrator", "trainer", "analysis") for path in (ROOT / package).rglob("*.py")]
    read = {name for path in files for name in re.findall(r"\bISOFLOP_[A-Z]+\b", path.read_text(encoding="utf-8"))}
    assert read == set(re.findall(r"^\| `(ISOFLOP_[A-Z]+)` \|", COMMANDS, re.MULTILINE))


def test_every_exit_status_of_the_command_is_listed():
    sources = [path.read_text(encoding="utf-8") for path in (ROOT / "orchestrator/cli").glob("*.py")]
    used = {code for text in sources for code in re.findall(r"(?:Exit|sys\.exit)\((\d+)\)", text)}
    assert {"0", *used} == set(re.findall(r"^\| (\d+) \|", COMMANDS, re.MULTILINE))
