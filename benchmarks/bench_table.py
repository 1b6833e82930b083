"""The results table with many runs: planning again, status, frames, records; competing coordinators.

`./run python benchmarks/bench_table.py [--rounds 5] [--records 1000000]`

A table of 10,000 finished runs (50 widths x 20 rates x 10 seeds), made without training. Every figure is the
median of `--rounds`, with the smallest and largest: CPU seconds, which do not depend on other users of the machine,
and wall-clock seconds. Those of a command are of its own process, imports included.
"""

import argparse
import contextlib
import dataclasses
import io
import math
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

import orchestrator
from orchestrator.store.requests import Request, obey
from orchestrator.store.table import Table
from orchestrator.sweep.planner import Plan, run_flops
from trainer import cost
from trainer.result import Record, RunResult
from trainer.spec import RunSpec

SWEEP = """\
sweep: many
data: {dataset: digits}
model: {depth: 1, width: %s}
train: {batch_size: 32, schedule: cosine, lr: %s}
budget: {epochs: 4}
seeds: 10
"""
WRITERS = 8


def text() -> str:
    return SWEEP % ([8 * (i + 1) for i in range(50)], [round(1e-4 * 1.2**i, 8) for i in range(20)])


def result_of(run: RunSpec, error: float, records: int) -> RunResult:
    each = run.batch_size * cost.flops_per_example(cost.shape_of(run))
    steps = [max(1, (run.steps or 1) * (i + 1) // records) for i in range(records)]
    history = tuple(
        Record(run.run_id, step, step * run.batch_size, step * each, step * 1e-3, 1.0, 1.0, error)
        for step in dict.fromkeys(steps)
    )
    shape, examples = cost.shape_of(run), (run.steps or 0) * run.batch_size
    known = {"flops": run_flops(run), "flops_paper": examples * cost.flops_paper_per_example(shape)}
    known |= {"flops_6nd": examples * cost.flops_6nd_per_example(shape), "params": cost.params(shape).total}
    known |= {"run_id": run.run_id, "state": "done", "error": error, "steps": run.steps, "examples": examples}
    known |= {"device": "cpu", "loader": "resident", "threads": 1, "stack": 8, "seconds": 1.0, "history": history}
    rest = {field.name: 1.0 for field in dataclasses.fields(RunResult) if field.name not in known}
    rest |= dict.fromkeys(("val_error", "val_loss", "real_error"), math.nan) | {"engine": "eager"}
    return RunResult(**{**rest, **known})


def fill(store: str, planned: Plan, records: int) -> None:
    with Table(store, writable=True) as table:
        table.queue.enqueue(planned)
        for at in range(0, len(planned.runs), 1000):
            runs = planned.runs[at : at + 1000]
            claimed = table.queue.claim([run.run_id for run in runs])
            table.queue.finish([result_of(run, 0.1 + 1e-5 * i, records) for i, run in enumerate(runs)], claimed)


def cpu_seconds() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def timed(what: Callable[[], object], rounds: int) -> np.ndarray:
    """[rounds, 2]: CPU-seconds, seconds."""
    found = []
    for _ in range(rounds):
        cpu, began = cpu_seconds(), time.perf_counter()
        what()
        found.append((cpu_seconds() - cpu, time.perf_counter() - began))
    return np.array(found)


def command(*arguments: str) -> None:
    said = [sys.executable, "-c", "from orchestrator.cli.main import main; main()", *arguments]
    subprocess.run(said, check=True, capture_output=True)


def show(what: str, seconds: np.ndarray, wanted: str = "") -> None:
    cells = [f"{np.median(s):.3f} ({s.min():.3f} to {s.max():.3f})" for s in seconds.T]
    print(f"| {what} | {' | '.join(cells)} | {wanted} |", flush=True)


def plan_again(file: str, store: str) -> None:
    with Table(store, writable=True) as table:
        assert table.queue.enqueue(orchestrator.plan(orchestrator.load_sweep(file))) == 0
        assert not table.queued("many")


def status(store: str) -> None:
    from orchestrator.cli import queue as queue_cli

    with contextlib.redirect_stdout(io.StringIO()):
        queue_cli.status(store=store)


def race(store: str, planned: Plan) -> str:
    """Coordinators of processes of their own, each of which takes the lock, claims a few runs and lets go."""
    command = [sys.executable, __file__, "--race", store]
    racers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(WRITERS)]
    said = [racer.communicate()[0].split() for racer in racers]
    assert [racer.returncode for racer in racers] == [0] * WRITERS, said
    claimed = [run_id for words in said for run_id in words[1:]]
    assert sorted(claimed) == sorted(run.run_id for run in planned.runs)
    refused, takers = sum(int(words[0]) for words in said), sum(len(words) > 1 for words in said)
    return (
        f"{len(claimed)} runs claimed once each by {takers} of them, the lock refused {refused:,} times, no error"
    )


def racer(store: str) -> None:
    from orchestrator.store.engine import TableBusyError

    refused, mine = 0, []
    while True:
        try:
            with Table(store, writable=True) as table:
                if not (queued := table.queued("many")):
                    break
                mine += table.queue.claim([run.run_id for run in queued[:5]])
        except TableBusyError:
            refused += 1
            time.sleep(0.001)
    print(refused, *mine)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--race", metavar="STORE")
    asked = parser.parse_args()
    if asked.race:
        racer(asked.race)
        return
    with tempfile.TemporaryDirectory() as folder:
        file, store, rounds = str(Path(folder) / "many.yaml"), str(Path(folder) / "many.db"), asked.rounds
        Path(file).write_text(text())
        planned = orchestrator.plan(orchestrator.load_sweep(file))
        fill(store, planned, 4)
        print("| | CPU-seconds | seconds | at most |\n|---|---|---|---|")
        show("10,000 runs, all done, planned again", timed(lambda: plan_again(file, store), rounds), "0.6")
        show("the whole command `run`", timed(lambda: command("run", file, "--store", store), rounds))
        show("`status`", timed(lambda: status(store), rounds), "0.25")
        show("the whole command `status`", timed(lambda: command("status", "--store", store), rounds))
        show("its runs as a DataFrame", timed(lambda: orchestrator.results(store), rounds), "0.2")
        with Table(store, writable=True) as table:
            everything = Request("prioritise", ("many",), 1)
            show("`queue prioritise` of all", timed(lambda: obey(table, everything), rounds))
        large = str(Path(folder) / "large.db")
        fill(large, planned, asked.records // len(planned.runs))
        frame = orchestrator.history(large)
        show(f"{len(frame):,} records as a DataFrame", timed(lambda: orchestrator.history(large), rounds), "3")
        racing = str(Path(folder) / "race.db")
        few = dataclasses.replace(planned, runs=planned.runs[:400])
        with Table(racing, writable=True) as table:
            table.queue.enqueue(few)
        print(f"\n{WRITERS} coordinators race for one table: {race(racing, few)}")


if __name__ == "__main__":
    main()
