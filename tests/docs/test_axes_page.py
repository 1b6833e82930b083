"""The sweep files of docs/how-to/axes.md are planned, and have as many cells as the page says."""

import re

import pytest

from orchestrator import plan, read_sweep
from orchestrator.sweep.ranges import values_of
from orchestrator.sweep.yaml_source import parse
from tests.paths import ROOT

PAGE = (ROOT / "docs/how-to/axes.md").read_text(encoding="utf-8")
FILES = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.parametrize(("index", "cells"), [(0, 12), (1, 16), (2, 3)])
def test_a_file_of_the_page_has_the_cells_that_it_names(index, cells):
    assert len(plan(read_sweep(FILES[index])).cells) == cells


def test_the_table_of_ranges_is_right():
    rows = re.findall(r"\| `(\w+): (\{.*?\})` \| ([\d., e-]+)", PAGE)
    assert len(rows) == 4
    for key, text, listed in rows:
        given, _ = parse("row", text)
        assert values_of(given, whole=key == "width") == [float(value) for value in listed.split(",")]
