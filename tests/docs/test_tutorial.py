"""The tutorial, run as printed: every command succeeds, and on MNIST prints what the page shows."""

import re

import pytest

from tests.docs import runner
from tests.paths import ROOT, SHARED

TEXT = (ROOT / "docs/tutorial.md").read_text(encoding="utf-8")
CLOSE = 0.3
"""By how much a number may differ on another CPU, whose sums round differently."""


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.skipif(not (SHARED / "mnist.npz").exists(), reason="MNIST is not beside the checkout")
def test_every_block_prints_what_the_page_shows(tmp_path):
    variables = runner.environment(tmp_path)
    for block in runner.blocks_of(TEXT):
        printed = runner.output_of(block, tmp_path, variables)
        if block.shown is None or "isoflop plan" in block.code:  # which predicts the times of this machine
            continue
        runner.assert_as_shown(block, printed, "docs/tutorial.md")
        if "isoflop results" not in block.code:  # which has a column of seconds
            assert runner.numbers_of(printed) == pytest.approx(runner.numbers_of(block.shown), rel=CLOSE, abs=0.03)
    assert (tmp_path / "mnist-data.html").exists()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_command_works_on_digits_in_the_sizes_of_the_comments(tmp_path):
    text, sizes = re.subn(r"# digits: (\[[\d, ]+\])\n  dataset_size: .*", r"dataset_size: \1", TEXT)
    assert sizes == 2
    variables = runner.environment(tmp_path)
    for block in runner.blocks_of(text.replace("dataset: mnist", "dataset: digits")):
        runner.output_of(block, tmp_path, variables)
    assert (tmp_path / "mnist-data.html").exists()
