"""Writes the generated parts of docs/architecture.md: the diagram of the imports and the list of modules.

    python scripts/architecture.py           # rewrites the page
    python scripts/architecture.py --check   # exit status 1 if the page is out of date

Everything is read from the source text, nothing is imported. The description of a module or folder is the first
line of its docstring.
"""

import argparse
import ast
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs/architecture.md"
PACKAGES = ("orchestrator", "trainer", "analysis")


def modules(package: str) -> list[Path]:
    """The paths of a package's modules relative to the repository, folders in order, `__init__.py` first."""
    paths = [path.relative_to(ROOT) for path in (ROOT / package).rglob("*.py")]
    return sorted(paths, key=lambda path: (path.parent, path.name != "__init__.py", path.name))


def tree(path: Path) -> ast.Module:
    """The syntax tree of a module."""
    return ast.parse((ROOT / path).read_text(encoding="utf-8"))


def description(path: Path) -> str:
    """The first line of a module's docstring; empty if it has none."""
    text = ast.get_docstring(tree(path)) or ""
    return text.partition("\n")[0].strip()


def node(name: str) -> str:
    """The box of the diagram of a dotted name: a folder or module at the top of its package; empty for the rest."""
    package, _, rest = name.partition(".")
    first = rest.partition(".")[0]
    here = ROOT / package / first
    return f"{package}.{first}" if first and (here.is_dir() or here.with_suffix(".py").exists()) else ""


def imported(path: Path) -> set[str]:
    """The dotted names that a module imports from the three packages, wherever in the file."""
    names = set()
    for statement in ast.walk(tree(path)):
        if isinstance(statement, ast.Import):
            names |= {alias.name for alias in statement.names}
        elif isinstance(statement, ast.ImportFrom) and statement.module and not statement.level:
            names |= {f"{statement.module}.{alias.name}" for alias in statement.names}
    return {name for name in names if name.partition(".")[0] in PACKAGES}


def dotted(path: Path) -> str:
    """The dotted name of the module at a path."""
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")


def imports() -> set[tuple[str, str]]:
    """Pairs (importer, imported) of boxes of the diagram."""
    pairs = set()
    for package in PACKAGES:
        for path in modules(package):
            source = node(dotted(path))
            targets = {node(name) for name in imported(path)}
            pairs |= {(source, target) for target in targets if source and target and source != target}
    return pairs


def reduced(pairs: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """The pairs without those that a longer path implies (transitive reduction of an acyclic graph)."""
    following: dict[str, set[str]] = {}
    for source, target in pairs:
        following.setdefault(source, set()).add(target)

    def reachable(start: str) -> set[str]:
        seen: set[str] = set()
        waiting = [start]
        while waiting:
            for target in following.get(waiting.pop(), ()):
                if target not in seen:
                    seen.add(target)
                    waiting.append(target)
        return seen

    beyond = {name: reachable(name) for name in following}
    return {
        (source, target)
        for source, target in pairs
        if not any(target in beyond.get(other, ()) for other in following[source] - {target})
    }


def diagram() -> str:
    """The boxes of the three packages and the imports between them, as a Mermaid flow chart."""
    pairs = imports()
    inside = reduced({pair for pair in pairs if pair[0].split(".")[0] == pair[1].split(".")[0]})
    lines = ["```mermaid", "flowchart TD"]
    for package in PACKAGES:
        names = sorted({node(dotted(path)) for path in modules(package)} - {""})
        lines += [f"  subgraph {package}", *(f"    {name}[{name.split('.')[1]}]" for name in names)]
        lines += [f"    {source} --> {target}" for source, target in sorted(inside) if source.startswith(package)]
        lines.append("  end")
    across = sorted({(source.split(".")[0], target.split(".")[0]) for source, target in pairs})
    lines += [f"  {source} ==> {target}" for source, target in across if source != target]
    return "\n".join([*lines, "```"])


def listing() -> str:
    """For each folder its description and a table with a line for each of its modules."""
    lines = []
    for path in (path for package in PACKAGES for path in modules(package)):
        text = description(path).replace("|", "&#124;")
        if path.name == "__init__.py":
            lines += ["", f"### {path.parent}/", "", text, "", "| module | description |", "|---|---|"]
        else:
            lines.append(f"| `{path}` | {text} |")
    return "\n".join(lines).strip()


def updated(path: Path, parts: dict[str, str]) -> str:
    """The text of a page with its generated parts anew, each between `<!-- name -->` and `<!-- end of name -->`."""
    page = path.read_text(encoding="utf-8")
    for name, text in parts.items():
        before, start, rest = page.partition(f"<!-- {name} -->\n")
        _, end, after = rest.partition(f"<!-- end of {name} -->")
        if not start or not end:
            raise SystemExit(f"{path}: no lines '<!-- {name} -->' and '<!-- end of {name} -->'")
        page = f"{before}{start}{text}\n{end}{after}"
    return page


def write(pages: dict[Path, str], script: str, title: str) -> int:
    """Writes pages, or with --check on the command line compares them; returns the exit status."""
    parser = argparse.ArgumentParser(description=title)
    parser.add_argument("--check", action="store_true", help="only compare; exit status 1 if a page is out of date")
    if not parser.parse_args().check:
        for path, text in pages.items():
            path.write_text(text, encoding="utf-8")
        return 0
    outdated = [path for path, text in pages.items() if path.read_text(encoding="utf-8") != text]
    for path in outdated:
        print(f"{path.relative_to(ROOT)} is out of date; run: python scripts/{script}", file=sys.stderr)
    return 1 if outdated else 0


if __name__ == "__main__":
    page = {PAGE: updated(PAGE, {"diagram": diagram(), "modules": listing()})}
    sys.exit(write(page, "architecture.py", (__doc__ or "").partition("\n")[0]))
