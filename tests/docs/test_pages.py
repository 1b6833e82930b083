"""Files, modules, public names and links that the documentation names exist; its generated parts are up to date."""

import importlib
import re
import subprocess
import sys

import pytest

from tests.paths import ROOT

PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md")] + sorted((ROOT / "docs").rglob("*.md"))
PACKAGES = ("orchestrator", "trainer", "analysis")
PATH = re.compile(r"`((?:orchestrator|trainer|analysis|tests|benchmarks|sweeps|examples|scripts|docs)/[\w./*-]+)`")
DOTTED = re.compile(r"`((?:orchestrator|trainer|analysis)(?:\.\w+)+)")
LINK = re.compile(r"\]\((?!https?:)([^)#]+)(?:#[^)]*)?\)")


def text_of(page):
    return page.read_text(encoding="utf-8")


def by_name(page):
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=by_name)
def test_files_and_links_of_a_page_exist(page):
    paths = [name for name in PATH.findall(text_of(page)) if not list(ROOT.glob(name.rstrip("/")))]
    links = [name for name in LINK.findall(text_of(page)) if not (page.parent / name).exists()]
    assert (paths, links) == ([], [])


def exists(name):
    """Whether a dotted name is a module, or an attribute of one."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        try:
            value = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for attribute in parts[length:]:
            if not hasattr(value, attribute):
                return False
            value = getattr(value, attribute)
        return True
    return False


@pytest.mark.parametrize("page", PAGES, ids=by_name)
def test_modules_and_names_of_a_page_exist(page):
    assert [name for name in DOTTED.findall(text_of(page)) if not exists(name)] == []


def test_architecture_page_is_up_to_date():
    command = [sys.executable, str(ROOT / "scripts/architecture.py"), "--check"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr


def test_every_module_stands_in_the_architecture_page_once():
    listed = re.findall(r"^\| `([\w/]+\.py)` \| \S", text_of(ROOT / "docs/architecture.md"), re.MULTILINE)
    files = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py") if path.name != "__init__.py"]
    assert sorted(listed) == sorted(str(path.relative_to(ROOT)) for path in files)


def test_glossary_is_in_order_and_explains_a_word_once():
    words = re.findall(r"^\| ([^|]+) \|", text_of(ROOT / "docs/glossary.md"), re.MULTILINE)
    assert words.pop(0) == "word"
    assert [word.lower() for word in words] == sorted({word.lower() for word in words})


def test_decisions_stand_in_their_index_once():
    folder = ROOT / "docs/decisions"
    listed = re.findall(r"\]\((\d{4}-[\w-]+\.md)\)", text_of(folder / "README.md"))
    assert listed == sorted(path.name for path in folder.glob("0*.md"))
