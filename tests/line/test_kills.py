"""benchmarks/bench_kills.py with a few kills."""

import subprocess
import sys

import pytest

from tests.paths import ROOT

BENCHMARK = ROOT / "benchmarks" / "bench_kills.py"


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("dice", [1, 2])
def test_kills_at_random_moments_lose_nothing_and_change_no_number(dice):
    options = ["--kills", "6", "--epochs", "12", "--seeds", "4", "--dice", str(dice)]
    ended = subprocess.run([sys.executable, BENCHMARK, *options], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert "64 runs, each done once" in ended.stdout
