"""From Enter to the first training step, and from the last result to the prompt, of whole commands.

    ./run python benchmarks/bench_start.py [--rounds 5] [--executors processes ray] [--device cpu]

Each round runs `isoflop run` on two budgets of the quickstart by each executor, and as the bare peer a Python that
imports torch. Wall seconds count from the start of the command's process. The sweep's optimizer is AdamW that notes
its first call in the process that is first there: the first step of the smoke test. The last result is the newest
end of an attempt in the table. On a busy machine CPU seconds tell more: `worker` are those of the process that
trains and `coordinator` those of its parent, both until that first step, `whole` those of all processes until the
prompt. Medians of the rounds, with the range.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path

from orchestrator.store.table import Table

ROOT = Path(__file__).resolve().parent.parent
SWEEP = """\
sweep: start
data: {dataset: digits, dataset_size: [180, 360, 720, 1437]}
model: {family: b-mlp, depth: 1, width: [16, 32, 64, 96, 128]}
train: {optimizer: "noting:ADAMW", lr: 2e-3, batch_size: 32, schedule: cosine}
budget: {epochs: [2, 6]}
seeds: 5
"""
NOTING = """\
import contextlib, dataclasses, os, pathlib, time
from trainer.optimizers import OPTIMIZERS

RULE, AT, CALLED = OPTIMIZERS.get("adamw"), pathlib.Path(__file__).with_name("first"), []

def update(*arguments):
    if not CALLED:
        CALLED.append(None)
        ticks = pathlib.Path(f"/proc/{os.getppid()}/stat").read_text().rpartition(")")[2].split()[11:13]
        parent = sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")
        with contextlib.suppress(FileExistsError), AT.open("x") as file:
            file.write(f"{time.time()} {time.process_time()} {parent}")
    RULE.update(*arguments)

ADAMW = dataclasses.replace(RULE, update=update)
"""
MEASURES = ("first step", "whole", "last result to prompt", "CPU worker", "CPU coordinator", "CPU whole")


def timed(line, **environment):
    """When a command began and ended, and the CPU seconds of its processes."""
    before, began = os.times(), time.time()
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    done = subprocess.run(line, env=os.environ | environment, text=True, check=False, **quiet)
    ended, after = time.time(), os.times()
    if done.returncode:
        sys.exit(done.stderr)
    user, system = (getattr(after, name) - getattr(before, name) for name in ("children_user", "children_system"))
    return began, ended, user + system


def sweep_by(executor, device):
    """The MEASURES of one command."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "noting.py").write_text(NOTING)
        (folder / "start.yaml").write_text(SWEEP)
        line = [sys.executable, "-m", "orchestrator", "run", str(folder / "start.yaml"), "--device", device]
        line += ["--store", str(folder / "t.db"), "--executor", executor]
        began, ended, cpu = timed(line, PYTHONPATH=os.pathsep.join([name, str(ROOT)]))
        first, worker, coordinator = map(float, (folder / "first").read_text().split())
        with Table(folder / "t.db") as table:
            ends = table.frame("attempts").ended
        last = max(datetime.fromisoformat(one).timestamp() for one in ends)
        return first - began, ended - began, ended - last, worker, coordinator, cpu


def bare():
    """The same of a Python that imports torch: its end is its first step."""
    began, ended, cpu = timed([sys.executable, "-c", "import torch; torch.zeros(1)"])
    return ended - began, ended - began, 0.0, cpu, 0.0, cpu


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--executors", nargs="+", default=["processes"], choices=["processes", "ray", "inline"])
    parser.add_argument("--device", default="cpu")
    asked = parser.parse_args()
    ways = {"import torch": bare, **{how: lambda how=how: sweep_by(how, asked.device) for how in asked.executors}}
    found = {name: [] for name in ways}
    for number in range(asked.rounds + 1):
        for name, measure in ways.items():
            values = measure()
            found[name] += [values] if number else []  # the first fills caches of files
    print("| |", " | ".join(MEASURES), "| load |")
    print("|---" * (len(MEASURES) + 2) + "|")
    for name, rounds in found.items():
        cells = [f"{statistics.median(v):.2f} ({min(v):.2f} to {max(v):.2f})" for v in zip(*rounds, strict=True)]
        print("|", " | ".join([name, *cells, f"{os.getloadavg()[0]:.0f}"]), "|", flush=True)


if __name__ == "__main__":
    main()
