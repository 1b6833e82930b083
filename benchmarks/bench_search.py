"""Trials per second: our ask-and-tell, Optuna on SQLite, Ray Tune; tiny runs of one model, two workers.

`./run python benchmarks/bench_search.py [--trials 48] [--rounds 3]`

Each arm runs in its own process and trains the same number of runs of one cell, each with its own learning rate.
`steady` is the rate after the first 8 trials, when workers are warm ("-" with no more trials than that); `whole` is
from the start of the command to its end. Tune draws at random and keeps only the last loss of a trial; the others
sample by TPE and keep every evaluation.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SKIP, WORKERS = 8, 2
SWEEP = """\
sweep: bench
data: {{dataset: digits, validation: 0.2}}
model: {{family: b-mlp, depth: 1, width: 16}}
train: {{batch_size: 32, lr: {{search: {{min: 1e-4, max: 3e-2, distribution: log_uniform}}}}}}
budget: {{epochs: 2}}
search: {{trials: {trials}, metric: val_loss}}
"""


def spec(lr):
    from trainer import RunSpec

    return RunSpec(
        dataset="digits", validation=0.2, family="b-mlp", depth=1, width=16, batch_size=32, lr=lr, epochs=2
    )


def one_run(lr, report):
    import torch

    from trainer import train

    torch.set_num_threads(1)
    return train(spec(lr), lambda record: report(record.step, record.loss), device="cpu").val_loss


def isoflop(trials, folder, *, executor="ray"):
    from orchestrator.store.table import Table

    (folder / "bench.yaml").write_text(SWEEP.format(trials=trials))
    code = "from orchestrator.cli.main import main; main()"
    command = [sys.executable, "-c", code, "search", "bench.yaml", "--executor", executor, "--slots", str(WORKERS)]
    ended = subprocess.run(command, cwd=folder, check=False, capture_output=True, text=True)
    if ended.returncode:
        sys.exit(f"isoflop search --executor {executor} ended with {ended.returncode}: {ended.stderr.strip()}")
    with Table(folder / "isoflop.db") as table:
        import pandas as pd

        ended = pd.to_datetime(table.frame("attempts")["ended"])
    return sorted(at.timestamp() for at in ended), 0


def _optuna_worker(url, trials, ready):
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    one_run(1e-3, lambda *_: None)  # warm
    ready.wait()
    study = optuna.load_study(study_name="bench", storage=url)

    def objective(trial):
        lr = trial.suggest_float("lr", 1e-4, 3e-2, log=True)
        return one_run(lr, lambda step, loss: trial.report(loss, step))

    enough = optuna.study.MaxTrialsCallback(trials, states=(optuna.trial.TrialState.COMPLETE,))
    study.optimize(objective, callbacks=[enough], catch=(Exception,))


def optuna_sqlite(trials, folder):
    import multiprocessing

    import optuna

    context = multiprocessing.get_context("spawn")
    url = f"sqlite:///{folder / 'optuna.db'}"
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(study_name="bench", storage=url)
    ready = context.Barrier(WORKERS)
    processes = [context.Process(target=_optuna_worker, args=(url, trials, ready)) for _ in range(WORKERS)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    done = [trial for trial in study.trials if trial.state.name == "COMPLETE"]
    lost = len(study.trials) - len(done)
    return sorted(trial.datetime_complete.timestamp() for trial in done)[:trials], lost


def tune_reuse(trials, folder, *, reuse=True):
    os.environ |= {"RAY_AIR_NEW_OUTPUT": "0", "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1" if reuse else "0"}
    from orchestrator.workers import ray_cluster as cluster

    cluster.start(WORKERS, None)
    from ray import tune

    class Trial(tune.Trainable):
        def setup(self, config):
            self.lr = config["lr"]

        def reset_config(self, new_config):
            self.lr = new_config["lr"]
            return True

        def step(self):
            return {"loss": one_run(self.lr, lambda *_: None), "ended": time.time(), "done": True}

    def function(config):
        tune.report({"loss": one_run(config["lr"], lambda *_: None), "ended": time.time()})

    results = tune.Tuner(
        Trial if reuse else function,
        param_space={"lr": tune.loguniform(1e-4, 3e-2)},
        tune_config=tune.TuneConfig(metric="loss", mode="min", num_samples=trials, reuse_actors=reuse),
        run_config=tune.RunConfig(
            storage_path=str(folder / "tune"),
            verbose=0,
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False) if reuse else None,
        ),
    ).fit()
    return sorted(result.metrics["ended"] for result in results), 0


ARMS = {
    "isoflop search, Ray": isoflop,
    "isoflop search, inline": lambda trials, folder: isoflop(trials, folder, executor="inline"),
    "Optuna on SQLite, 2 processes": optuna_sqlite,
    "Ray Tune, class and reuse_actors": tune_reuse,
    "Ray Tune, function, defaults": lambda trials, folder: tune_reuse(min(trials, 12), folder, reuse=False),
}


def measured(arm, trials):
    began = time.time()
    command = [sys.executable, __file__, "--arm", arm, "--trials", str(trials)]
    ended = subprocess.run(command, check=False, capture_output=True, text=True)
    if ended.returncode:
        sys.exit(ended.stderr[-2000:])
    whole = time.time() - began
    report = json.loads(ended.stdout.splitlines()[-1])
    times, lost = report["times"], report["lost"]
    steady = (len(times) - SKIP) / (times[-1] - times[SKIP - 1]) if len(times) > SKIP else None
    return steady, len(times) / whole, lost


def cell(values):
    """Median, smallest and largest of the rates that were measured."""
    rates = [value for value in values if value is not None]
    return f"{statistics.median(rates):.2f} ({min(rates):.2f} to {max(rates):.2f})" if rates else "-"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--trials", type=int, default=48)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--defaults", action="store_true", help="also Ray Tune with its defaults: 12 trials, a minute or two"
    )
    parser.add_argument("--arm", choices=ARMS)
    options = parser.parse_args()
    if options.arm:
        with tempfile.TemporaryDirectory() as folder:
            times, lost = ARMS[options.arm](options.trials, Path(folder))
            print(json.dumps({"times": times, "lost": lost}))
        return
    rates = {arm: [] for arm in ARMS if options.defaults or not arm.endswith("defaults")}
    for _ in range(options.rounds):
        for arm, rounds in rates.items():
            rounds.append(measured(arm, options.trials))
            print(arm, rounds[-1], file=sys.stderr)  # so that an interrupted benchmark has shown its results
    print(f"{options.trials} trials, {options.rounds} rounds: trials per second, median (smallest to largest)\n")
    print("| | steady | whole | trials lost |\n|---|---|---|---|")
    for arm, rounds in rates.items():
        cells = [cell(values) for values in zip(*[r[:2] for r in rounds], strict=True)]
        print(f"| {arm} | {' | '.join(cells)} | {sum(r[2] for r in rounds)} |")


if __name__ == "__main__":
    main()
