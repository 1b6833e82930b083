"""Messages name commands that exist in the current installation."""

import ast
import re
import sys

import pytest

from tests.paths import ROOT
from trainer.host import installation

VERBS = "plan|run|search|results|show|diff|work|status|watch|fit|plot|report|verdict|allocate|compare|suggest|new"
NAMED = re.compile(rf"\bisoflop ({VERBS}|schema|doctor|data|model|queue)\b|pip install|\./run ")
FILES = [path for package in ("orchestrator", "trainer", "analysis") for path in (ROOT / package).rglob("*.py")]


@pytest.fixture
def clone(tmp_path, monkeypatch):
    """A clone with an environment that is not on PATH."""
    monkeypatch.undo()  # of the fixture for all tests
    root = (tmp_path / "my clone").resolve()
    for name in ("isoflop", "pip"):
        script = root / ".venv/bin" / name
        script.parent.mkdir(parents=True, exist_ok=True)
        script.write_text("#!/bin/sh\n")
        script.chmod(0o755)
    (root / "run").touch()
    monkeypatch.setattr(installation, "ROOT", root)
    monkeypatch.setattr(sys, "prefix", str(root / ".venv"))
    monkeypatch.setattr(sys, "executable", str(root / ".venv/bin/python"))
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.chdir(root)
    return root


def test_a_clone_is_called_by_its_script(clone):
    assert installation.command("plan a.yaml") == "./run isoflop plan a.yaml"
    assert installation.install_extra("postgres") == "./run add postgres"
    assert installation.install("s3fs") == "./run python -m pip install s3fs"
    assert installation.verb("ffcv") == "./run ffcv"


def test_a_clone_is_called_by_its_path_from_elsewhere(clone, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert installation.command("plan") == f"'{clone}/run' isoflop plan"
    assert installation.verb("ffcv") == f"'{clone}/run' ffcv"


def test_an_activated_environment_has_the_command(clone, monkeypatch):
    monkeypatch.setenv("PATH", str(clone / ".venv/bin"))
    assert installation.command("plan") == "isoflop plan"
    assert installation.install("ray[tune]>=2.59") == "pip install 'ray[tune]>=2.59'"
    assert installation.install_extra("postgres") == "./run add postgres"


def test_the_command_of_another_environment_is_not_named(clone, tmp_path, monkeypatch):
    other = tmp_path / "other"
    other.mkdir()
    (other / "isoflop").write_text("#!/bin/sh\n")
    (other / "isoflop").chmod(0o755)
    monkeypatch.setenv("PATH", str(other))
    assert installation.command() == "./run isoflop"


def test_an_installed_package_names_its_script_and_the_packages_of_an_extra(clone, tmp_path, monkeypatch):
    monkeypatch.setattr(installation, "ROOT", tmp_path / "site-packages")
    assert installation.command("plan") == f"'{clone}/.venv/bin/isoflop' plan"
    assert installation.install_extra("postgres").endswith("/python' -m pip install 'psycopg[binary]>=3.2'")
    (clone / ".venv/bin/isoflop").unlink()
    assert installation.command("plan") == f"'{clone}/.venv/bin/python' -m orchestrator plan"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_message_names_a_command_by_itself(path):
    """Strings other than docstrings that name a command take it from trainer.host.installation."""
    if path.name == "installation.py":
        return
    tree = ast.parse(path.read_text())
    documentation = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    named = (
        re.compile(NAMED.pattern.replace("|pip install", "")) if "analysis" in path.parts else NAMED
    )  # no clone there
    texts = [node for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    assert [node.value for node in texts if id(node) not in documentation and named.search(str(node.value))] == []
