"""Whole sweeps from Enter to the last result: `isoflop run` against the scripts that a user would have written.

    ./run python benchmarks/bench_sweep.py --cases quickstart cifar --peers plain tune ensemble --rounds 3

In every round the arms take turns, each a command of its own in the same environment, timed from its start to
its end. All train the same models from the same distribution of initial parameters on the same rows, with the
same batch sizes, augmentation, schedule and optimizer, and test each run once at its end; ours also records
learning curves, checkpoints and a results table. The peers (sweep_peers.py) are: `plain`, a process per core
that loads the data once and takes the next longest run (on a GPU one process); `tune`, Ray Tune with reused
actors; `ensemble`, one process with torch.func ensembles of the runs of one shape, length and rate. The data is
decoded before. `ours` starts as a user's first command does; `ours-again` is the same command on a new table
directly after it, and `ours-before` that of another checkout. The case `smoke` only shows that every arm works.

Ratios are ours / peer of the same round, median (smallest to largest), of wall time and of CPU time. The latter
is that of the processes that a command waits for, which those of Ray are not: it is for `--ours --executor
inline` on a machine that others use. Errors are compared cell by cell over seeds: the mean difference, in units
of its standard error over the cells, and the largest of a cell.
"""

import argparse
import json
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

import orchestrator
from orchestrator.store.table import Table
from orchestrator.sweep.planner import run_flops
from trainer.data import datasets

ROOT = Path(__file__).resolve().parent.parent
CASES = {
    "smoke": """\
sweep: smoke
data: {dataset: digits}
model: {depth: 1, width: [16, 32]}
train: {lr: 2e-3, batch_size: 32, schedule: cosine}
budget: {epochs: 1}
seeds: 2
""",
    "quickstart": (ROOT / "sweeps/quickstart.yaml").read_text(),
    "cifar": """\
sweep: cifar-72
data: {dataset: cifar10, dataset_size: 5000, augment: flip+crop}
model: {family: [b-mlp, s-mlp], depth: 2, width: [32, 64, 96]}
train: {optimizer: adamw, lr: [5e-4, 2e-3], batch_size: 128, schedule: cosine, weight_decay: 0.05}
budget: {epochs: [2, 6]}
seeds: 3
""",
    "night": """\
sweep: night
data: {dataset: cifar10, augment: flip+crop}
model: {family: b-mlp, depth: 2, width: [32, 64, 128, 256, 512, 1024]}
train: {optimizer: adamw, lr: [5e-4, 2e-3], batch_size: 512, schedule: cosine, precision: bf16, weight_decay: 0.05}
budget: {flops: [3e11, 1e12, 4e12]}
seeds: 3
""",
}
"""Sweeps; `night` is for a GPU."""
PEERS = ("plain", "tune", "ensemble")
FIELDS = ("family", "depth", "width", "lr", "weight_decay", "batch_size", "steps", "augment", "precision", "seed")


def prepared(text, folder):
    """Write what the peers read: the runs with their rows, and the decoded images. Returns the plan."""
    planned = orchestrator.plan(orchestrator.read_sweep(text))
    arrays = datasets.load(planned.runs[0])
    runs = [{**for_peers(run, arrays), "number": number} for number, run in enumerate(planned.runs)]
    (folder / "runs.json").write_text(json.dumps(runs))
    statistics = {"mean": arrays.mean, "std": arrays.std}
    np.savez(
        folder / "data.npz", x=arrays.inputs, y=arrays.labels, image=arrays.info.image or (0, 0, 0), **statistics
    )
    return planned


def for_peers(run, arrays):
    """A run and its rows as the peers read them."""
    split, own = datasets.split(arrays, run), {name: getattr(run, name) for name in FIELDS}
    return {**own, "flops": run_flops(run), "train": split.train.tolist(), "test": split.test.tolist()}


def timed(command, environment):
    """Seconds of wall and CPU time of a command, which must end well."""
    began, used = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    seconds, now = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    if ended.returncode:
        sys.exit(f"{' '.join(map(str, command))} ended with {ended.returncode}:\n{ended.stderr[-2000:]}")
    return seconds, now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime


def ours(text, planned, folder, options, root=ROOT):
    """Seconds of `isoflop run` of a checkout on a new table, and the error of each run."""
    work = Path(tempfile.mkdtemp(dir=folder))
    (work / "sweep.yaml").write_text(text)
    command = [sys.executable, "-m", "orchestrator", "run", work / "sweep.yaml", "--store", work / "t.db", *options]
    seconds = timed(command, {**os.environ, "PYTHONPATH": str(root)})
    with Table(work / "t.db") as table:
        frame = table.frame().set_index("run_id")["error"]
    shutil.rmtree(work)
    return seconds, [float(frame[run.run_id]) for run in planned.runs]


def peer(name, planned, folder, device):
    """Seconds of a peer's script, and the error of each run."""
    (folder / "errors.txt").unlink(missing_ok=True)
    seconds = timed([sys.executable, ROOT / "benchmarks/sweep_peers.py", name, folder, device], dict(os.environ))
    errors = dict(line.split() for line in (folder / "errors.txt").read_text().splitlines())
    return seconds, [float(errors[str(number)]) for number in range(len(planned.runs))]


def compared(planned, mine, theirs):
    """How far the mean errors of cells lie apart, in standard errors: of all cells together, and of the worst."""
    numbers = {run.run_id: i for i, run in enumerate(planned.runs)}
    gaps, variances, apart = [], [], []
    for runs in planned.cells.values():
        a, b = (np.array([errors[numbers[run.run_id]] for run in runs]) for errors in (mine, theirs))
        gaps.append(a.mean() - b.mean())
        variances.append((a.var(ddof=1) + b.var(ddof=1)) / len(runs))
    pooled = max(float(np.mean(variances)), 1e-12)
    apart = np.abs(gaps) / np.sqrt(np.maximum(variances, pooled))
    return np.mean(gaps), np.mean(gaps) / np.sqrt(pooled / len(gaps)), apart.max()


def measured(case, asked, folder):
    """Seconds and errors of each arm by round."""
    planned = prepared(CASES[case], folder)
    found = {}
    for round_ in range(asked.rounds):
        arms = {"ours": lambda: ours(CASES[case], planned, folder, asked.ours)}
        if asked.again:
            arms["ours-again"] = arms["ours"]
        if asked.against:
            arms["ours-before"] = lambda: ours(CASES[case], planned, folder, asked.ours, asked.against.resolve())
        arms |= {name: lambda name=name: peer(name, planned, folder, asked.device) for name in asked.peers}
        for name, arm in arms.items():
            found.setdefault(name, []).append(arm())
            print(f"{case}, round {round_ + 1}: {name} {found[name][-1][0][0]:.1f} s", file=sys.stderr, flush=True)
    return planned, found


def spread(values, form=".3g"):
    return f"{statistics.median(values):{form}} ({min(values):{form}} to {max(values):{form}})"


def report(case, planned, found):
    load, device = " ".join(Path("/proc/loadavg").read_text().split()[:3]), ""
    if torch.cuda.is_available():
        device = f", {torch.cuda.get_device_name()}"
    cores = len(os.sched_getaffinity(0))
    print(f"\n### {case}: {len(planned.runs)} runs, {planned.flops:.3g} FLOPs, n = {len(found['ours'])} rounds")
    print(f"{platform.node()}, {cores} cores{device}, {time.strftime('%Y-%m-%d %H:%M')}, load averages {load}\n")
    print(
        "| arm | seconds | CPU seconds | ours / it | of CPU | error: ours - its | in standard errors | worst cell |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for name, rounds in found.items():
        cells = [name, *(spread([spent[i] for spent, _ in rounds]) for i in (0, 1))]
        if name not in ("ours", "ours-again"):
            gap, score, worst = compared(planned, found["ours"][0][1], rounds[0][1])
            cells += [*ratios(found["ours"], rounds), f"{gap:+.4f}", f"{score:+.1f}", f"{worst:.1f}"]
        print("| " + " | ".join(cells + [""] * (8 - len(cells))) + " |")
    for name in [name for name in found if "ours-again" in found and not name.startswith("ours")]:
        print(f"- ours-again / {name}: {ratios(found['ours-again'], found[name])[0]}")


def ratios(mine, theirs):
    """Ours over its, of wall and of CPU time."""
    return [spread([a[i] / b[i] for (a, _), (b, _) in zip(mine, theirs, strict=True)], ".2f") for i in (0, 1)]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=["quickstart", "cifar"])
    parser.add_argument("--peers", nargs="*", choices=PEERS, default=list(PEERS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--again", action="store_true", help="run ours a second time, where Ray may be warm")
    parser.add_argument("--against", type=Path, help="another checkout, run in turn with this one")
    parser.add_argument("--ours", nargs=argparse.REMAINDER, default=[], help="options of `isoflop run`, last")
    asked = parser.parse_args()
    if "night" in asked.cases and asked.device != "cuda":
        parser.error("night is for a GPU: pass --device cuda, or other cases")
    if asked.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda needs a CUDA device, and torch finds none")
    for case in asked.cases:
        with tempfile.TemporaryDirectory() as folder:
            report(case, *measured(case, asked, Path(folder)))


if __name__ == "__main__":
    main()
