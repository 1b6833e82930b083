"""An optimiser and a data set from outside the packages, from a sweep file to results, through a kill."""

from __future__ import annotations

import json
import signal
import subprocess
import sys

import pytest

import orchestrator
from tests.commands import isoflop
from tests.line.alone import assert_as_trained_alone
from trainer import RunSpec, SpecError, cost, train
from trainer.checkpoints.checkpoints import storage_of
from trainer.optimizers import OPTIMIZERS

MODULE = """
import os, pathlib, signal
import numpy as np
from trainer.optimizers import StateTensor, UpdateRule, adam_lr_scale

def rings():
    rng = np.random.default_rng(0)
    labels = np.arange(400) % 4
    x = rng.normal(size=(400, 6)) + labels[:, None]
    return x[:320], labels[:320], x[320:], labels[320:]

def update(params, grads, states, group, arrange):
    "Adagrad with momentum and a slow copy of the parameters; the process dies where it is told to."
    for p, grad, state in zip(params, grads, states, strict=True):
        state["steps"].add_(1)
        state["squares"].addcmul_(grad, grad)
        state["momentum"].mul_(group["beta1"]).add_(grad / (state["squares"].sqrt() + 1e-8))
        state["slow"].lerp_(p, 0.1)
        p.add_(state["momentum"], alpha=-group["lr"]).lerp_(state["slow"], 0.01)
    if os.environ.get("DIE") and any(pathlib.Path("t.db.checkpoints").rglob("*.json")):
        os.kill(os.getpid(), signal.SIGKILL)

SLOW = UpdateRule(
    update=update,
    state=(
        StateTensor("steps", "scalar"), StateTensor("squares"), StateTensor("momentum"), StateTensor("slow", "copy")
    ),
    hyperparameters={"beta1": 0.8},
    lr_scale=adam_lr_scale,
)
"""
SWEEP = """\
sweep: outside
data: {dataset: "outside_plugins:rings"}
model: {width: 16}
train: {optimizer: "outside_plugins:SLOW", lr: [1e-3, 3e-3, 1e-2], batch_size: 32, schedule: cosine}
budget: {examples: 9600}
seeds: 2
"""


@pytest.fixture
def folder(outside):
    return outside("outside_plugins", MODULE, SWEEP)


def test_a_killed_sweep_of_plugins_ends_with_the_numbers_of_runs_trained_alone(folder):
    options = ("run", "sweep.yaml", "--store", "t.db", "--executor", "inline")
    killed = isoflop(*options, "--checkpoint-every", "0", DIE="1")
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert len(storage_of(folder / "t.db.checkpoints").begun()) > 1
    resumed = isoflop(*options)
    assert resumed.returncode == 0, resumed.stderr
    rows = assert_as_trained_alone("t.db", "sweep.yaml")
    assert (rows["stack"] > 1).all()
    assert rows["error"].min() < 0.3
    listed = json.loads(isoflop("data", "list", "outside_plugins:rings", "--json").stdout)
    assert [(card["train"], card["test"], card["classes"], card["shape"]) for card in listed] == [(320, 80, 4, [6])]


def test_the_memory_of_a_plugins_state_is_counted(folder):
    rule = OPTIMIZERS.get("outside_plugins:SLOW")
    shape = cost.Shape("b-mlp", 2, 64, 6, 4)
    ours, sgd = (cost.memory_bytes(shape, 32, name) for name in ("outside_plugins:SLOW", "sgd"))
    assert rule.bytes_per_parameter == 12
    assert ours - sgd == 8 * cost.params(shape).total


def test_the_source_of_a_plugin_is_part_of_its_runs(folder):
    before = orchestrator.plan(orchestrator.load_sweep("sweep.yaml")).runs[0].run_id
    (folder / "outside_plugins.py").write_text(MODULE.replace("lerp_(p, 0.1)", "lerp_(p, 0.2)"))
    code = "import orchestrator as o; print(o.plan(o.load_sweep('sweep.yaml')).runs[0].run_id)"
    after = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    assert len(after) == 32
    assert after != before


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("outside_plugins:SLOW", "outside_plugins:FAST", "4: optimizer: .*cannot import outside_plugins:FAST"),
        ("outside_plugins:SLOW", "lyon", "4: optimizer: .*did you mean 'lion'"),
        ("outside_plugins:rings", "outside_plugins:discs", "2: dataset: .*cannot import outside_plugins:discs"),
        ("outside_plugins:rings", "no_such:rings", "2: dataset: .*No module named 'no_such'"),
    ],
)
def test_a_plugin_that_is_not_there_is_a_mistake_in_a_line(folder, old, new, complaint):
    sweep = folder / "sweep.yaml"
    sweep.write_text(SWEEP.replace(old, new))
    with pytest.raises(orchestrator.SweepError, match=f"sweep.yaml:{complaint}"):
        orchestrator.plan(orchestrator.load_sweep(sweep))


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        (
            '    hyperparameters={"beta1": 0.8},\n',
            "",
            "missing 1 required keyword-only argument: 'hyperparameters'",
        ),
        ('{"beta1": 0.8}', '{"gamma": 0.8}', "hyperparameters must be of momentum, beta1, beta2; found 'gamma'"),
        ("update(params, grads, states, group, arrange)", "update(params, grads)", "update takes .params, grads,"),
        ('StateTensor("slow", "copy")', 'StateTensor("slow", "ones")', "state 'slow' has start 'ones'"),
        ('StateTensor("squares")', 'StateTensor("squares", needs="momentum")', "state 'squares' needs 'momentum'"),
        ("SLOW = UpdateRule(", "SLOW = dict(", "must be a trainer.optimizers.UpdateRule; found dict"),
    ],
)
def test_an_optimizer_that_lacks_a_part_is_refused_when_the_spec_is_built(folder, old, new, complaint):
    assert old in MODULE
    name = f"broken{len(complaint)}"
    (folder / f"{name}.py").write_text(MODULE.replace(old, new))
    with pytest.raises(SpecError, match=complaint) as caught:
        RunSpec(optimizer=f"{name}:SLOW", epochs=1)
    assert caught.value.field == "optimizer"


def test_state_that_is_not_declared_fails_at_the_first_step(folder):
    (folder / "undeclared.py").write_text(
        MODULE.replace('StateTensor("squares"), ', "").replace(
            'state["squares"].addcmul_', 'state.setdefault("squares", grad.clone()).addcmul_'
        )
    )
    with pytest.raises(TypeError, match="must keep the state that it declares; update differs in squares"):
        train(RunSpec(optimizer="undeclared:SLOW", width=16, examples=640), device="cpu")
