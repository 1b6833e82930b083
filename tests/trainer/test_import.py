from __future__ import annotations

import subprocess
import sys

import trainer


def test_what_is_priced_or_declared_does_not_import_torch():
    asked = (
        "import sys, trainer.spec, trainer.cost, trainer.result, trainer.data.datasets, trainer.data.sets.zipf; "
        "runs = [trainer.spec.RunSpec(family=f, epochs=1, steps=1, inputs=4, classes=2) "
        "for f in ('b-mlp', 's-mlp')]; "
        "[(run.run_id, trainer.cost.params(trainer.cost.shape_of(run))) for run in runs]; "
    )
    heavy = "print([m for m in ('torch', 'ray', 'pandas', 'sklearn', 'PIL') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", asked + heavy], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_worker_that_reads_digits_does_not_import_scikit_learn():
    """It takes as long as torch, and every worker warms up on digits."""
    asked = "import sys; from trainer import RunSpec; from trainer.data.sets import digits; "
    asked += "digits.load(RunSpec(dataset='digits', epochs=1)); "
    heavy = "print([m for m in ('sklearn', 'scipy', 'pandas') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", asked + heavy], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_public_name_is_there_and_in_order():
    assert trainer.__all__ == sorted(trainer.__all__)
    assert all(getattr(trainer, name) is not None for name in trainer.__all__)


def test_an_unknown_name_is_an_attribute_error():
    assert not hasattr(trainer, "test")
