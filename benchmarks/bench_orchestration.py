"""Cost of orchestration: no-op runs, slots, 48 half-second runs against a bare loop and Ray Tune, cancellation.

    ./run python benchmarks/bench_orchestration.py                       # everything, some minutes
    ./run python benchmarks/bench_orchestration.py --rounds 3 --only bare ours

Each arm runs in its own process; in every round the arms take turns. Ours is what `isoflop run` does: a plan in a
SQLite table (WAL, synchronous=FULL), a Scheduler, warm Ray actors, checkpoints on. The 48 runs have a shape that
is not stacked. `warm` seconds count from when the workers have imported torch and trained once, `whole` from the
start of Python.
"""

import argparse
import json
import multiprocessing
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import orchestrator
from orchestrator.host.process import this_process
from orchestrator.scheduling.options import SchedulerOptions
from orchestrator.scheduling.scheduler import Scheduler
from orchestrator.store.table import Table
from orchestrator.workers.executor import Finished, Recorded
from orchestrator.workers.ray_executor import RayExecutor
from orchestrator.workers.worker import Files, Worker
from trainer import cost
from trainer.result import Record, RunResult

BEGAN = time.perf_counter()
SWEEP = """\
sweep: bench
data: {{dataset: digits}}
model: {{family: b-mlp, depth: 2, width: {width}}}
train: {{lr: 2e-3, batch_size: {batch}, schedule: cosine}}
budget: {{epochs: {epochs}}}
seeds: {seeds}
"""
RUNS, SLEEP = 48, 0.5


def planned(seeds, width=72, batch=60, epochs=20):
    return orchestrator.plan(orchestrator.read_sweep(SWEEP.format(**locals())))


class Idle(Worker):
    """Does nothing for `pause` seconds instead of training."""

    pause = 0.0

    def train(self, specs, keep=()):  # noqa: ARG002 - nothing is kept
        yield this_process()
        time.sleep(self.pause)
        yield [nothing(spec, len(specs)) for spec in specs if spec.steps]


def nothing(spec, stack):
    """What a run would have ended with that did nothing."""
    flops = spec.steps * spec.batch_size * cost.flops_per_example(cost.shape_of(spec))
    spent = {"examples": spec.steps * spec.batch_size, "flops": flops, "seconds": 0.0}
    seen = {"train_loss": 1.0, "loss": 1.0, "error": 0.5}
    last = Record(run_id=spec.run_id, step=spec.steps, **spent, **seen)
    said = {"run_id": spec.run_id, "state": "done", "steps": spec.steps, "stack": stack, "history": (last,)}
    return RunResult(**{**dict.fromkeys(RunResult.__dataclass_fields__), **spent, **seen, **said})


class Sleeping(Idle):
    pause = SLEEP


def drained(plan, worker=Worker):
    """Seconds of draining a sweep with warm workers, and since the start of Python; everything is in the table."""
    with tempfile.TemporaryDirectory() as folder, Table(Path(folder) / "t.db", writable=True) as table:
        table.queue.enqueue(plan)
        files = Files(Path(folder) / "checkpoints")
        executor = RayExecutor(2, "cpu", files=files, worker=worker)
        while len(executor.open) < 2:
            executor.poll(0.5)
        warm, spent = time.perf_counter(), time.process_time()
        Scheduler(table, executor, [plan.sweep], SchedulerOptions(files)).drain()
        end, cpu = time.perf_counter(), time.process_time() - spent
        assert (table.frame()["state"] == "done").all()
        executor.close()
    return {"warm": end - warm, "whole": end - BEGAN, "runs": len(plan.runs), "cpu": cpu}


# the arms


def ours():
    return drained(planned(RUNS))


def noop():
    """Runs a second, in stacks as the planner makes them."""
    found = drained(planned(4000, 16, 32, 1), Idle)
    return {"rate": found["runs"] / found["warm"]}


def noop_alone():
    """Runs a second, of a shape that goes alone."""
    found = drained(planned(1000), Idle)
    return {"rate": found["runs"] / found["warm"]}


def slots():
    """Seconds a run that a slot is not sleeping."""
    found = drained(planned(RUNS), Sleeping)
    return {"overhead": found["warm"] * 2 / found["runs"] - SLEEP}


def cancel():
    """Milliseconds from `stop` to the end of the stack, at 40 moments of a run at width 256."""
    (run,) = planned(1, 256, 256, 10_000).runs
    executor, found = RayExecutor(1, "cpu"), []
    for number in range(40):
        executor.submit(number, [run])
        while not any(isinstance(event, Recorded) for event in executor.poll(0.5)):
            pass
        time.sleep(0.037 * (number % 7))
        began, ended = time.perf_counter(), False
        executor.stop()
        while not ended:
            ended = any(isinstance(event, Finished) for event in executor.poll(0.5))
        found.append(1e3 * (time.perf_counter() - began))
    executor.close()
    return {"median": statistics.median(found), "p95": sorted(found)[37], "largest": max(found), "n": len(found)}


def _bare(runs, ready, go, done):
    import torch

    from trainer import train

    torch.set_num_threads(1)
    train(runs[0], device="cpu")
    ready.release()
    go.wait()
    for run in runs:
        train(run, device="cpu")
    done.release()


def bare():
    """Two processes, each with a loop over half of the runs; nothing is kept."""
    context = multiprocessing.get_context("spawn")
    ready, go, done = context.Semaphore(0), context.Event(), context.Semaphore(0)
    runs = planned(RUNS).runs
    made = [context.Process(target=_bare, args=(runs[i::2], ready, go, done)) for i in range(2)]
    for process in made:
        process.start()
    for _ in made:
        ready.acquire()
    warm = time.perf_counter()
    go.set()
    for _ in made:
        done.acquire()
    end = time.perf_counter()
    for process in made:
        process.join()
    return {"warm": end - warm, "whole": end - BEGAN, "runs": RUNS}


def _tuned(trainable, runs, *, reuse):
    import ray
    from ray import tune

    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        results = tune.Tuner(
            tune.with_resources(trainable, {"cpu": 1}),
            param_space={"run": tune.grid_search(list(planned(RUNS).runs[:runs]))},
            tune_config=tune.TuneConfig(metric="error", mode="min", reuse_actors=reuse),
            run_config=tune.RunConfig(
                storage_path=folder, verbose=0, checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False)
            ),
        ).fit()
        end = time.perf_counter()
        assert not results.errors
        assert len(results) == runs
    ray.shutdown()
    return {"warm": end - began, "whole": end - BEGAN, "runs": runs}


def _one(run):
    import torch

    from trainer import train

    torch.set_num_threads(1)
    return {"error": train(run, device="cpu").error}


def tune_default():
    """Ray Tune as its guide shows it: a function, all defaults. A sixth of the runs, since it is slow."""

    def trainable(config):
        from ray import tune

        tune.report(_one(config["run"]))

    return _tuned(trainable, RUNS // 6, reuse=False)


def tune_reuse():
    """Ray Tune at its fastest: a class whose actors are reused."""
    from ray import tune

    class Trainable(tune.Trainable):
        def setup(self, config):
            self.run = config["run"]

        def reset_config(self, config):
            self.run = config["run"]
            return True

        def step(self):
            return {**_one(self.run), "done": True}

    return _tuned(Trainable, RUNS, reuse=True)


ARMS = {arm.__name__: arm for arm in (bare, ours, tune_reuse, tune_default, noop, noop_alone, slots, cancel)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--arm", choices=ARMS, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.arm:
        print(json.dumps(ARMS[asked.arm]()))
        return
    found = {name: [] for name in asked.only}
    for _ in range(asked.rounds):
        for name in asked.only:
            command = [sys.executable, "-W", "ignore", __file__, "--arm", name]
            said = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout
            found[name].append(json.loads(said.splitlines()[-1]))
            print(f"{name}: {found[name][-1]}", file=sys.stderr, flush=True)
    report(found)


def spread(values):
    return f"{statistics.median(values):.3g} ({min(values):.3g} to {max(values):.3g})"


def report(found):
    """Medians over rounds with the smallest and largest, and ratios a round to what stood beside it."""
    load = Path("/proc/loadavg").read_text().split()[:3]
    print(f"{platform.node()}, {time.strftime('%Y-%m-%d %H:%M')}, load averages {' '.join(load)}")
    each = {
        name: [{key: row[key] * RUNS / row["runs"] for key in ("warm", "whole")} for row in rows]
        for name, rows in found.items()
        if rows and "warm" in rows[0]
    }
    if each:
        print("\n| 48 runs | warm, s | from the start of Python, s | warm / bare | whole / bare | warm / ours |")
        print("|---|---|---|---|---|---|")
    for name, rows in each.items():
        cells = [spread([row[key] for row in rows]) for key in ("warm", "whole")]
        for other, key in (("bare", "warm"), ("bare", "whole"), ("ours", "warm")):
            beside = each.get(other)
            cells.append(spread([a[key] / b[key] for a, b in zip(rows, beside, strict=True)]) if beside else "")
        print(f"| {name} | {' | '.join(cells)} |")
    units = {
        "cpu": "CPU-s of the coordinator",
        "rate": "runs/s",
        "overhead": "s a run",
        "median": "ms",
        "p95": "ms",
        "largest": "ms",
    }
    for name, rows in found.items():
        for key in units.keys() & (rows[0].keys() if rows else ()):
            print(f"- {name}, {key}: {spread([row[key] for row in rows])} {units[key]}")


if __name__ == "__main__":
    main()
