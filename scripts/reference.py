"""Writes the generated parts of docs/reference: the keys of sweep files, the commands, the names of the Python API.

    python scripts/reference.py           # rewrites the pages
    python scripts/reference.py --check   # exit status 1 if a page is out of date

What is written comes from the code itself: the JSON Schema of sweep files, the parser of the command, docstrings.
"""

import importlib
import inspect
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from architecture import PACKAGES, ROOT, updated, write

sys.path.insert(0, str(ROOT))
PAGES = ROOT / "docs/reference"


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """A Markdown table."""
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


# --- the sweep file ---------------------------------------------------------------------------------------------


def value_words(schema: dict[str, Any]) -> str:
    """The values that a JSON Schema allows, in words; without lists of them and without a search."""
    kind = schema.get("type", "any value")
    if "$ref" in schema:
        name = heading(schema["$ref"].rpartition("/")[2])
        words = f"see [{name}](#{name})"
    elif "anyOf" in schema:
        single = [part for part in schema["anyOf"] if part.get("type") not in ("null", "object")]
        plain = [part for part in single if part.get("type") != "array" and not is_formula(part)] or single
        words = " or ".join(dict.fromkeys(value_words(part) for part in plain))
    elif "enum" in schema:
        words = ", ".join(f"`{value}`" for value in schema["enum"])
    elif kind == "array":
        words = f"list: {value_words(schema['items'])}"
    elif kind == "object" and isinstance(schema.get("additionalProperties"), dict):
        words = f"by name: {value_words(schema['additionalProperties'])}"
    elif kind == "string":
        words = "`module:name`" if schema.get("pattern") == ":" else "text"
    else:
        words = {"integer": "whole number", "number": "number"}.get(kind, kind) + range_words(schema)
    return words


def is_formula(schema: dict[str, Any]) -> bool:
    """Whether a part of a schema is a formula in the place of a number."""
    return bool(schema.get("title") == "Formula")


def heading(name: str) -> str:
    """The heading of this page about a part of the schema."""
    known = {"CellSections": "cells", "Stage": "then", "Parameter": "parameters", "ZipGroup": "zip"}
    return known.get(name, name.removeprefix("Searched").removesuffix("Section").lower())


def range_words(schema: dict[str, Any]) -> str:
    """The range of a number, as ` > 0` or ` in [0, 1)`; empty if it has none."""
    low, above = schema.get("minimum"), schema.get("exclusiveMinimum")
    high, below = schema.get("maximum"), schema.get("exclusiveMaximum")
    lower = f"[{low:,.12g}" if low is not None else f"({above:,.12g}" if above is not None else None
    upper = f"{high:,.12g}]" if high is not None else f"{below:,.12g})" if below is not None else None
    if lower and upper:
        return f" in {lower}, {upper}"
    ends = {"≥": low, ">": above, "≤": high, "<": below}
    return "".join(f" {sign} {end:,.12g}" for sign, end in ends.items() if end is not None)


def row_of(key: str, schema: dict[str, Any], *, required: bool, fields: bool) -> tuple[str, ...]:
    """Of a key of the sweep file: its name, meaning, value, other forms of the value, default."""
    from trainer.spec import SETTINGS, RunSpec

    names = {setting.key or name: name for name, setting in SETTINGS.items() if setting.section}
    name = names.get(key, "") if fields else ""
    parts = schema.get("anyOf", [])
    nested = [inner for part in parts for inner in part.get("anyOf", [])]
    types = {part.get("type") for part in parts} - {"null"}
    several = ["list"] if "array" in types and len(types) > 1 else []
    several += ["range"] if any("from" in part.get("properties", {}) for part in parts) else []
    several += ["formula"] if any(map(is_formula, [*parts, *nested])) else []
    several += ["search"] if any("search" in part.get("properties", {}) for part in parts) else []
    default = getattr(RunSpec, name) if name else schema.get("default")
    plain = default is not None and not isinstance(default, list | dict)
    shown = "required" if required else f"`{default}`" if plain else ""
    return f"`{key}`", schema.get("description", ""), value_words(schema), ", ".join(several), shown


def keys(part: dict[str, Any], *, fields: bool = True) -> str:
    """The table of the keys of a part of the schema."""
    rows = [
        row_of(key, schema, required=key in part.get("required", ()), fields=fields)
        for key, schema in part["properties"].items()
    ]
    if not any(row[3] for row in rows):
        return table(("key", "meaning", "value", "default"), [(*row[:3], row[4]) for row in rows])
    return table(("key", "meaning", "value", "or", "default"), rows)


def sweep_file() -> str:
    """The sections and keys of a sweep file."""
    from orchestrator.sweep.search_space import schema

    whole = schema()
    parts = whole["$defs"]
    lines = ["## Top level", "", keys(whole, fields=False)]
    named = {name: parts[f"Searched{name.title()}Section"] for name in ("data", "model", "train")}
    named |= {"budget": parts["BudgetSection"], "limits": parts["Limits"], "search": parts["SearchSection"]}
    for name, part in named.items():
        fields = name not in ("limits", "search")
        lines += ["", f"## {name}", "", part["description"], "", keys(part, fields=fields)]
    zipped = parts["ZipGroup"]["description"].replace("\n", " ")
    lines += [
        "",
        "## zip",
        "",
        f"{zipped} Its keys are those of `data`, `model`, `train` and `budget` that take a list.",
    ]
    for heading, name in ("parameters", "Parameter"), ("cells", "CellSections"), ("then", "Stage"):
        text = parts[name]["description"].partition("\n\n")
        lines += ["", f"## {heading}", "", " ".join((text[0] + " " + text[2]).split()), ""]
        lines.append(keys(parts[name], fields=False))
    return "\n".join(lines)


# --- the commands -----------------------------------------------------------------------------------------------


def verbs(group: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """The words of every verb, and its parser."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from verbs(command, (*path, name))
        else:
            yield (*path, name), command


def options_of(words: tuple[str, ...], command: Any) -> list[tuple[str, str]]:
    """The arguments and options of a verb as they are typed, and their help."""
    context = command.make_context(" ".join(words), [], resilient_parsing=True)
    records = [param.get_help_record(context) for param in command.params]
    return [(re.sub(" <.*>", placeholder(name), name), meaning) for name, meaning in records]


def placeholder(name: str) -> str:
    """What stands for the value of an option, as ` PATH`; nothing for an argument, whose name is one."""
    kind = name.partition("<")[2]
    words = {"path": " PATH", "str": " TEXT", "int": " N", "float": " NUMBER"}
    return next((word for start, word in words.items() if kind.startswith(start)), "") if name[0] == "-" else ""


def commands() -> str:
    """Every verb: what it does, how it is called, its options."""
    from typer.main import get_command

    from orchestrator.cli.main import command_with

    lines = []
    for words, command in verbs(get_command(command_with(""))):
        text = inspect.cleandoc(command.help or "")
        options = options_of(words, command)
        usage = " ".join(["isoflop", *words, "[OPTIONS]", *(name for name, _ in options if name[0] != "-")])
        lines += ["", f"## {' '.join(words)}", "", text, "", "```text", usage, "```"]
        if options:
            lines += ["", table(("option", "meaning"), [(f"`{name}`", text) for name, text in options])]
    return "\n".join(lines).strip()


# --- the Python API ---------------------------------------------------------------------------------------------


def names_of(package: str) -> str:
    """The public names of a package with the first line of their docstrings, and in the site all of these."""
    module = importlib.import_module(package)
    values = {name: getattr(module, name) for name in module.__all__}
    functions = {name: value for name, value in values.items() if not inspect.isclass(value)}
    classes = {name: value for name, value in values.items() if inspect.isclass(value)}
    lines = []
    for title, members in ("Functions", functions), ("Classes", classes):
        rows = [(f"`{name}`", first_line(value)) for name, value in members.items()]
        lines += ["", f"## {title}", "", table(("name", "description"), rows), "", "```{eval-rst}"]
        for name, value in members.items():
            error = inspect.isclass(value) and issubclass(value, BaseException)
            kind = "exception" if error else "class" if inspect.isclass(value) else "function"
            lines += [f".. auto{kind}:: {package}.{name}"] + ["   :members:"] * (kind == "class")
        lines.append("```")
    return "\n".join(lines).strip()


def first_line(value: Any) -> str:
    """The first line of a docstring."""
    return (inspect.getdoc(value) or "").partition("\n")[0]


def pages() -> dict[Path, str]:
    """The generated pages, as they should be."""
    parts = {"sweep-file": {"keys": sweep_file()}, "commands": {"verbs": commands()}}
    parts |= {package: {"names": names_of(package)} for package in PACKAGES}
    return {PAGES / f"{name}.md": updated(PAGES / f"{name}.md", part) for name, part in parts.items()}


if __name__ == "__main__":
    for name in [name for name in os.environ if name.startswith("ISOFLOP_")]:
        del os.environ[name]  # they are defaults of options
    sys.exit(write(pages(), "reference.py", (__doc__ or "").partition("\n")[0]))
