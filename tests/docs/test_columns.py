"""docs/columns.md names every column of the table and no other."""

import re

import pytest

from orchestrator.store import schema
from tests.paths import ROOT

PAGE = (ROOT / "docs" / "columns.md").read_text()


def _documented(section: str) -> set[str]:
    text = PAGE.split(f"## {section}\n")[1].split("\n## ")[0]
    first_cells = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
    return {name for cell in first_cells for name in re.findall(r"`([a-z_0-9]+)`", cell)}


@pytest.mark.parametrize(
    ("section", "columns"),
    [("Runs", schema.runs.c), ("History", schema.records.c), ("Attempts", schema.attempts.c)],
)
def test_every_column_of_the_table_is_documented(section, columns):
    extra = {"sweep", "sweeps", "search_cell", "trial"} if section == "Runs" else set()
    assert _documented(section) == ({column.name for column in columns} - {"spec"}) | extra
