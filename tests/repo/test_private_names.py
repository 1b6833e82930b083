"""No test and no example uses a name of our packages that begins with an underscore."""

import ast

import pytest

from tests.paths import ROOT

FOLDERS = ("tests", "examples")
FILES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
PUBLIC = {"_asdict", "_fields", "_make", "_replace", "_repr_html_"}
"""Names that Python and Jupyter call public."""


def is_private(name: str) -> bool:
    return len(name) > 1 and name[0] == "_" and not name.startswith("__") and name not in PUBLIC


def own_names(tree: ast.Module) -> set[str]:
    """Names that a file defines or assigns, as attributes too."""
    names = set()
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                names.add(name)
            case ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
                names.add(name)
    return names


def private_names(text: str) -> list[str]:
    """Private names of other modules that a file imports, reads, or passes as text to monkeypatch.setattr."""
    tree = ast.parse(text)
    found = []
    for node in ast.walk(tree):
        match node:
            case ast.ImportFrom(names=aliases):
                found += [alias.name for alias in aliases]
            case ast.Attribute(attr=name):
                found.append(name)
            case ast.Call(args=[_, ast.Constant(value=str(name)), *_] | [ast.Constant(value=str(name)), *_]):
                found += name.split(".") if name.replace(".", "").isidentifier() else []
    own = own_names(tree)
    return [name for name in found if is_private(name) and name not in own]


def test_private_names_stay_in_their_module():
    found = {str(path.relative_to(ROOT)): private_names(path.read_text(encoding="utf-8")) for path in FILES}
    assert {name: names for name, names in found.items() if names} == {}


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("from trainer.trunk import _stem", ["_stem"]),
        ("import trainer.trunk as t\nt._stem(1)", ["_stem"]),
        ("patch.setattr(trunk, '_stem', 1)", ["_stem"]),
        ("patch.setattr('trainer.trunk._stem', 1)", ["_stem"]),
        ("def _own(): ...\n_own()\nclass A:\n  def f(self): self._x = 1; return self._x", []),
        ("place._replace(kind='cpu'); x.__class__", []),
    ],
)
def test_uses_of_private_names_are_found(text, names):
    assert private_names(text) == names
