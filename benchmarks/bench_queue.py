"""CPU of the coordinator per run with a long queue, where training takes no time: no worker, no Ray.

    ./run python benchmarks/bench_queue.py                       # 1,000, 10,000 and 100,000 runs, some minutes
    ./run python benchmarks/bench_queue.py --runs 10000 --kinds seeds alone chain
    ./run python benchmarks/bench_queue.py --runs 10000 --kinds alone --postgres    # a server of its own

Each line is from a process of its own. `plan` and `add` are CPU seconds of planning a sweep and of adding its
runs to a new table (of PostgreSQL without the server's); `ms a run` is the CPU of a Scheduler from the first
reading of the queue to the last end. Kinds of sweeps: 25 `seeds` of each cell; `alone`, of a batch size that is
not stacked; `chain`, half of the runs a second stage of the others.
"""

import argparse
import contextlib
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter, deque
from pathlib import Path

from bench_orchestration import nothing

import orchestrator
from orchestrator.host.process import this_process
from orchestrator.host.speed import TYPICAL
from orchestrator.scheduling.options import SchedulerOptions
from orchestrator.scheduling.scheduler import Scheduler
from orchestrator.store.table import Table
from orchestrator.workers.executor import Began, Finished, Place, Recorded

SWEEP = """\
sweep: queue
data: {{dataset: digits}}
model: {{family: b-mlp, depth: 2, width: [16, 32, 48, 64]}}
train: {{lr: {rates}, batch_size: {batch}, schedule: cosine}}
budget: {{epochs: [1, 2, 3, 4, 5]}}
seeds: 25
{then}"""
KINDS = {
    "seeds": (1, 32, ""),
    "alone": (1, 24, ""),
    "chain": (2, 32, "then: [{stage: again, budget: {epochs: 1}}]\n"),
}


def planned(kind, runs):
    stages, batch, then = KINDS[kind]
    rates = [1e-4 * (1 + i / 100) for i in range(max(1, runs // (4 * 5 * 25 * stages)))]
    return orchestrator.plan(orchestrator.read_sweep(SWEEP.format(rates=rates, batch=batch, then=then)))


class Nothing:
    """An executor with two slots whose stacks end at the next poll."""

    slots, gpus, places = 2, 0, (Place("here", "cpu", 2**40),)

    def __init__(self):
        self.stacks, self.sizes = deque(), Counter()

    @property
    def free(self):
        return self.slots - len(self.stacks)

    @property
    def open(self):
        return ["here"] * self.free

    def submit(self, stack, specs, keep=(), place=None):  # noqa: ARG002 - an executor's signature
        self.stacks.append((stack, specs))

    def poll(self, timeout):  # noqa: ARG002 - nothing is waited for
        if not self.stacks:
            return []
        stack, specs = self.stacks.popleft()
        self.sizes[len(specs)] += len(specs)
        results = [nothing(spec, len(specs)) for spec in specs]
        records = [Recorded(stack, record) for result in results for record in result.history]
        return [Began(stack, this_process()), *records, Finished(stack, results)]


@contextlib.contextmanager
def new_store(*, postgres):
    """The path of a table in a new folder, or the URL of a new PostgreSQL server."""
    if postgres:
        from tests.servers.postgres import running

        with running() as server:
            yield server.url
    else:
        with tempfile.TemporaryDirectory() as folder:
            yield str(Path(folder) / "t.db")


def measure(kind, runs, *, postgres=False):
    """CPU seconds and memory of planning, adding and working off a sweep."""
    began = time.process_time()
    plan = planned(kind, runs)
    expanded = time.process_time() - began
    with new_store(postgres=postgres) as store, Table(store, writable=True) as table:
        made = time.process_time()
        table.queue.enqueue(plan)
        added, before = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        executor, options = Nothing(), SchedulerOptions(speed=TYPICAL)
        end = Scheduler(table, executor, [plan.sweep], options).drain()
        spent = time.process_time() - added
    assert end.done == len(plan.runs)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    mean = sum(size * count for size, count in executor.sizes.items()) / end.done
    figures = {"plan": expanded, "add": added - made, "ms a run": 1e3 * spent / end.done}
    return {"runs": end.done, **figures, "MB a thousand runs": grown / end.done * 1e3, "mean stack of a run": mean}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, nargs="+", default=[1000, 10_000, 100_000])
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=["seeds"])
    parser.add_argument("--postgres", action="store_true", help="a PostgreSQL server instead of SQLite")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.here:
        print(json.dumps(measure(asked.kinds[0], asked.runs[0], postgres=asked.postgres)))
        return
    for kind in asked.kinds:
        for runs in asked.runs:
            command = [
                sys.executable,
                __file__,
                "--here",
                "--kinds",
                kind,
                "--runs",
                str(runs),
                *(["--postgres"] if asked.postgres else []),
            ]
            figures = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
            print(kind, {key: round(value, 3) for key, value in figures.items()}, flush=True)


if __name__ == "__main__":
    main()
