"""The example, run as its first line says on a table with a stranger's column names."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pandas as pd

from tests.paths import ROOT

EXAMPLE = ROOT / "examples" / "fit_any_table.py"
ALONE = f"""
import runpy, sys
from tests.paths import ROOT
runpy.run_path({str(EXAMPLE)!r}, run_name="__main__")
heavy = {{"torch", "ray", "trainer", "orchestrator"}} & set(sys.modules)
sys.exit(f"imported {{heavy}}" if heavy else 0)
"""


def test_another_labs_table_is_fitted_without_trainer_or_torch(tmp_path):
    rng = np.random.default_rng(0)
    n, tokens = (a.ravel() for a in np.meshgrid(np.geomspace(1e7, 1e9, 6), np.geomspace(1e9, 1e11, 6)))
    loss = (1.7 + 400 * n**-0.34 + 2000 * tokens**-0.37) * np.exp(0.002 * rng.normal(size=n.size))
    table = pd.DataFrame({"model size": n, "tokens seen": tokens, "val. loss": loss, "notes": "ours"})
    table.to_csv(tmp_path / "runs.csv", index=False)
    ended = subprocess.run(
        [sys.executable, "-c", ALONE, "runs.csv", "model size", "tokens seen", "val. loss"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert "val. loss = 1." in ended.stdout
    assert "this table supports an exponent of the best model size in compute" in ended.stdout
    assert "FLOPs: model size" in ended.stdout
    assert (tmp_path / "frontier.pdf").read_bytes().startswith(b"%PDF")
