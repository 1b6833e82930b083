"""Files of W&B, Hydra and Optuna: recognised, and translated into sweep files that are planned."""

import pytest

from orchestrator import SweepError, plan, read_sweep
from orchestrator.sweep.translation import translate
from trainer.errors import UserError

WANDB_GRID = """\
program: train.py
method: grid
parameters:
  learning_rate: {values: [0.001, 0.01]}
  hidden_size: {values: [16, 32, 64]}
  epochs: {value: 2}
  optimizer: {values: [adam, sgd]}
  fancy: {value: 3}
"""
WANDB_BAYES = """\
name: my sweep!
method: bayes
metric: {name: validation_loss, goal: minimize}
run_cap: 12
early_terminate: {type: hyperband, min_iter: 3}
parameters:
  lr: {distribution: log_uniform_values, min: 1e-4, max: 1e-1}
  wd: {distribution: log_uniform, min: -9.21034, max: -2.302585}
  model:
    parameters:
      num_layers: {min: 1, max: 3}
  batch_size: {distribution: q_uniform, min: 16, max: 128, q: 16}
  dropout: {distribution: normal, mu: 0.2, sigma: 0.1}
"""
HYDRA = """\
defaults: [_self_]
hydra:
  mode: MULTIRUN
  sweeper:
    params:
      optim.lr: 0.001,0.01
      +model.width: choice(16, 32)
      train.epochs: range(1, 4)
      db: mnist,cifar10
"""
HYDRA_OPTUNA = """\
hydra:
  sweeper:
    n_trials: 7
    direction: minimize
    params:
      lr: tag(log, interval(1e-4, 1e-1))
      width: int(interval(8, 64))
      weight_decay: choice(0, 0.1)
"""
OPTUNA = """\
lr: {type: float, low: 1e-5, high: 1e-1, log: true}
depth: {name: IntDistribution, attributes: {low: 1, high: 3, log: false, step: 1}}
activation: {choices: [gelu, relu]}
"""


def translated(text):
    return translate("their.yaml", text, "mine")


def test_a_grid_of_wandb_is_a_grid_of_ours():
    text = translated(WANDB_GRID)
    runs = plan(read_sweep(text)).runs
    assert len(runs) == 12
    assert {(run.lr, run.width, run.optimizer) for run in runs} == {
        (lr, width, optimizer) for lr in (0.001, 0.01) for width in (16, 32, 64) for optimizer in ("adamw", "sgd")
    }
    for note in (
        "# translated from their.yaml, a W&B sweep file",
        "# not translated: program: train.py",
        "# not translated: fancy: no setting of that name",
        "# optimizer: ['adam', 'sgd'] became ['adamw', 'sgd']",
        "# chosen here: dataset digits, which the file does not give",
    ):
        assert note in text.splitlines()


def test_a_search_of_wandb_is_a_search_of_ours():
    text = translated(WANDB_BAYES)
    sweep = read_sweep(text)
    search = sweep.search
    assert (sweep.sweep, search.method, search.metric, search.trials, search.pruner) == (
        *("my-sweep", "tpe", "val_loss", 12, "hyperband"),
    )
    ranges = {name: (one.min, one.max, bool(one.log)) for name, one in search.parameters.items()}
    assert ranges == {
        "lr": (1e-4, 1e-1, True),
        "weight_decay": (pytest.approx(1e-4, rel=1e-4), pytest.approx(0.1, rel=1e-4), True),
        "depth": (1, 3, False),
        "batch_size": (16, 128, False),
    }
    assert "# batch_size: the quantum 16 is left out" in text.splitlines()
    assert any(
        line.startswith("# not translated: dropout: {'distribution': 'normal'") for line in text.splitlines()
    )
    assert plan(sweep).trials == 12


def test_a_multirun_of_hydra_is_a_grid():
    text = translated(HYDRA)
    runs = plan(read_sweep(text), decode=False).runs
    assert {(run.lr, run.width) for run in runs} == {(lr, width) for lr in (0.001, 0.01) for width in (16, 32)}
    assert len(runs) == 12
    assert "# not translated: db: a sweep has one data set; write a file for each" in text.splitlines()


def test_a_search_of_hydra_with_optuna_is_a_search():
    search = read_sweep(translated(HYDRA_OPTUNA)).search
    assert search.trials == 7
    assert {name: (one.min, one.max, one.values) for name, one in search.parameters.items()} == {
        "lr": (1e-4, 1e-1, None),
        "width": (8, 64, None),
        "weight_decay": (None, None, [0, 0.1]),
    }


def test_distributions_of_optuna_are_a_search():
    search = read_sweep(translated(OPTUNA)).search
    assert {name: (one.min, one.max, one.values) for name, one in search.parameters.items()} == {
        "lr": (1e-5, 1e-1, None),
        "depth": (1, 3, None),
        "activation": (None, None, ["gelu", "relu"]),
    }


@pytest.mark.parametrize(
    ("text", "tool"),
    [(WANDB_GRID, "a W&B sweep file"), (HYDRA, "a Hydra config"), (OPTUNA, "an Optuna search space")],
)
def test_a_file_of_another_tool_is_named_in_one_line(text, tool):
    with pytest.raises(SweepError) as caught:
        read_sweep(text, name="their.yaml")
    assert caught.value.complaints == [
        f"their.yaml:1: this is {tool}; `isoflop translate their.yaml -o mine.yaml` writes it as one of ours"
    ]


def test_a_file_of_ours_is_not_translated():
    with pytest.raises(UserError, match="it is no sweep file of W&B, Hydra or Optuna"):
        translated("sweep: a\ndata: {dataset: digits}\n")


@pytest.mark.parametrize(
    "text",
    [
        "method: grid\nparameters: {lr: {values: []}, width: {values: [{a: 1}]}, epochs: {min: x, max: 2}}\n",
        "method: bayes\nparameters: {lr: {min: 1, max: 1}, wd: {distribution: log_uniform, min: 1, max: 1e300}}\n",
        "method: random\nparameters: {width: {values: [16, x, 16]}, seed: {values: [1, 1]}, lr: null}\n",
        "hydra: {sweeper: {params: {lr: 'choice(', width: 'range(1)', depth: 'range(1,1e9)', bs: glob(x)}}}\n",
        "hydra: {sweeper: {params: [1, 2]}}\n",
        "hydra: {sweeper: {search_space: {lr: {type: float, low: 1, high: 2}}}}\n",
        "lr: {low: .nan, high: .inf}\n",
    ],
)
def test_what_cannot_be_translated_leaves_a_file_that_is_planned(text):
    plan(read_sweep(translated(text)))
