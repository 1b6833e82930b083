"""The examples, run as their first lines say, and what they show."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from tests.commands import script
from tests.paths import ROOT

EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
SHOWS = {
    "first_sweep": ["20/20 runs", "error = ", "  exponent 0.3", "1000000.0"],
    "own_law": ["law root; 20 points", "floor 0.0497", "law power-floor"],
    "own_model": ["4/4 runs", "Convolutional-1/Wi-8", "B-1/Wi-16"],
    "own_data": ["18/18 runs", "this table "],
}
ANY_TABLE = ROOT / "examples" / "fit_any_table.py"
ALONE = f"""
import runpy, sys
from tests.paths import ROOT
try:
    runpy.run_path({str(ANY_TABLE)!r}, run_name="__main__")
finally:
    heavy = {{"torch", "ray", "trainer", "orchestrator"}} & set(sys.modules)
    assert not heavy, heavy
"""


@pytest.mark.parametrize("name", SHOWS)
def test_an_example_runs_and_shows_its_answer(name, tmp_path):
    shutil.copy(ROOT / "examples" / f"{name}.py", tmp_path)
    ended = script(f"{name}.py", tmp_path, ISOFLOP_CACHE=str(tmp_path / "cache"), PYTHONPATH=str(ROOT))
    assert ended.returncode == 0, ended.stderr
    assert [text for text in SHOWS[name] if text not in ended.stdout] == [], ended.stdout


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_in_cells_and_says_how_it_is_run(path):
    text = path.read_text()
    cells = [line for line in text.splitlines() if line.strip().startswith("# %%")]
    assert len(cells) > 2
    assert all(cell.strip() != "# %%" for cell in cells), "a cell has a title"
    assert f"python examples/{path.name}" in ast.get_docstring(ast.parse(text))


def test_every_example_is_run():
    assert {path.stem for path in EXAMPLES} == {*SHOWS, "fit_any_table"}


def fit_any_table(folder, *words):
    return subprocess.run(
        [sys.executable, "-c", ALONE, *words],
        cwd=folder,
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def test_another_labs_table_is_fitted_without_trainer_or_torch(tmp_path):
    rng = np.random.default_rng(0)
    n, tokens = (a.ravel() for a in np.meshgrid(np.geomspace(1e7, 1e9, 6), np.geomspace(1e9, 1e11, 6)))
    loss = (1.7 + 400 * n**-0.34 + 2000 * tokens**-0.37) * np.exp(0.002 * rng.normal(size=n.size))
    table = pd.DataFrame({"model size": n, "tokens seen": tokens, "val. loss": loss, "notes": "ours"})
    table.to_csv(tmp_path / "runs.csv", index=False, sep=";", decimal=",")
    ended = fit_any_table(tmp_path, "runs.csv")
    assert ended.returncode == 0, ended.stderr
    assert "params = 'model size', examples = 'tokens seen'" in ended.stdout
    assert "val. loss = 1." in ended.stdout
    assert "this table supports an exponent of the best params in compute" in ended.stdout
    assert "FLOPs: params" in ended.stdout
    assert (tmp_path / "law-in-flops.pdf").read_bytes().startswith(b"%PDF")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "python examples/fit_any_table.py FILE"),
        (["nothing.csv"], "No such file or directory"),
        (["runs.csv"], "no column is a loss"),
        (["runs.csv", "a", "d"], "--y: no column 'd'"),
        (["runs.csv", "a", "c"], "c against a: "),
    ],
)
def test_mistakes_are_said_without_a_traceback(tmp_path, words, says):
    (tmp_path / "runs.csv").write_text("a;b;c\n1;2;3,4\n")
    ended = fit_any_table(tmp_path, *words)
    assert says in ended.stderr + ended.stdout
    assert "Traceback" not in ended.stderr
