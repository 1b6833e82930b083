"""The sweeps of bench_sweep.py as users would script them without isoflop: `plain`, `tune`, `ensemble`.

    python benchmarks/sweep_peers.py plain FOLDER cpu

FOLDER holds `runs.json`, a list of runs with the rows of each, and `data.npz`, the images. Every script trains
B-MLPs and S-MLPs with fused AdamW and a cosine schedule on batches of shuffled epochs, flips and crops whole
batches, tests each run once at its end and appends `number error` to `errors.txt`. A process loads the data set
once and, where nothing is augmented, normalises it once.
"""

import functools
import json
import math
import multiprocessing
import os
import sys
from itertools import groupby
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

PAD = 4


class Block(nn.Module):
    """A residual block of a B-MLP."""

    def __init__(self, width):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.inner = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, z):
        return z + self.inner(self.norm(z))


def model_of(run, inputs, classes):
    width, depth = run["width"], run["depth"]
    if run["family"] == "b-mlp":
        body = [Block(width) for _ in range(depth)]
    else:
        body = [m for _ in range(depth - 1) for m in (nn.LayerNorm(width), nn.GELU(), nn.Linear(width, width))]
    return nn.Sequential(nn.Linear(inputs, width), *body, nn.Linear(width, classes))


class Data:
    """The images on a device; batches normalised, and flipped and cropped where asked."""

    def __init__(self, folder, device):
        stored = np.load(Path(folder) / "data.npz")
        self.device, self.image = device, tuple(stored["image"])
        self.raw = torch.from_numpy(stored["x"]).to(device)
        self.labels = torch.from_numpy(stored["y"]).to(device)
        self.classes = int(stored["y"].max()) + 1
        repeats = self.raw.shape[1] // len(stored["mean"])
        self._mean, self._std = (torch.from_numpy(np.tile(stored[k], repeats)).to(device) for k in ("mean", "std"))

    def normalised(self, raw):
        return (raw.float() - self._mean) / self._std

    @functools.cached_property
    def ready(self):
        """All examples, normalised."""
        return self.normalised(self.raw)

    @functools.cache  # noqa: B019 - one data set lives as long as its process
    def held_out(self, rows):
        """Chunks of normalised test examples with their labels."""
        chunks = torch.tensor(rows, device=self.device).split(2048)
        return [(self.normalised(self.raw[chunk]), self.labels[chunk]) for chunk in chunks]

    def error(self, rows, logits):
        """The error of a model on some rows."""
        with torch.no_grad():
            right = sum((logits(x).argmax(-1) == y).sum() for x, y in self.held_out(tuple(rows)))
        return 1 - right.item() / len(rows)

    def batch(self, rows, augment, generator):
        """Examples [..., inputs] of rows [...]."""
        if augment == "none":
            return self.ready[rows]
        height, width, channels = self.image
        images = self.raw[rows.flatten()].view(-1, height, width, channels)
        flipped = torch.rand(len(images), generator=generator, device=self.device) < 0.5
        images = torch.where(flipped[:, None, None, None], images.flip(2), images)
        padded = F.pad(images, (0, 0, PAD, PAD, PAD, PAD))
        top, left = torch.randint(0, 2 * PAD + 1, (2, len(images)), generator=generator, device=self.device)
        windows = padded.unfold(1, height, 1).unfold(2, width, 1)  # a view [B, top, left, C, H, W]
        cropped = windows[torch.arange(len(images), device=self.device), top, left].permute(0, 2, 3, 1)
        return self.normalised(cropped.reshape(*rows.shape, -1))


def batches_of(run, device):
    """Rows [steps, batch] of shuffled epochs."""
    rows, wanted = torch.tensor(run["train"]), run["steps"] * run["batch_size"]
    generator = torch.Generator().manual_seed(run["seed"])
    epochs = [rows[torch.randperm(len(rows), generator=generator)] for _ in range(math.ceil(wanted / len(rows)))]
    return torch.cat(epochs)[:wanted].view(run["steps"], -1).to(device)


def rate_at(run, step):
    return run["lr"] * 0.5 * (1 + math.cos(math.pi * step / run["steps"]))


def precision_of(run, device):
    return torch.autocast(device.type, torch.bfloat16, enabled=run["precision"] == "bf16")


def trained(run, data):
    """Train a run and return its test error."""
    torch.manual_seed(run["seed"])
    device, generator = data.device, torch.Generator(data.device).manual_seed(run["seed"])
    model = model_of(run, data.raw.shape[1], data.classes).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=run["lr"], weight_decay=run["weight_decay"], fused=True)
    for step, rows in enumerate(batches_of(run, device)):
        optimizer.param_groups[0]["lr"] = rate_at(run, step)
        with precision_of(run, device):
            loss = F.cross_entropy(model(data.batch(rows, run["augment"], generator)), data.labels[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return data.error(run["test"], model)


# (a) a plain script: two processes on two cores, one on a GPU


@functools.cache
def data_in(folder, device):
    torch.set_num_threads(1)
    return Data(folder, torch.device(device))


def one(job):
    folder, device, run = job
    return run["number"], trained(run, data_in(folder, device))


def plain(folder, device):
    """The longest runs first, each process taking the next."""
    runs = sorted(runs_in(folder), key=lambda run: -run["flops"])
    jobs = [(folder, device, run) for run in runs]
    if device == "cuda":
        write(folder, map(one, jobs))
        return
    with multiprocessing.get_context("spawn").Pool(len(os.sched_getaffinity(0))) as pool:
        write(folder, pool.imap_unordered(one, jobs))


# (b) Ray Tune


def tune(folder, device):
    """A class whose actors are reused, a core or a quarter of a GPU each."""
    import tempfile

    import ray
    from ray import tune as ray_tune

    ray.init(include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    runs = ray.put(runs_in(folder))

    class Trainable(ray_tune.Trainable):
        def setup(self, config):
            self.reset_config(config)

        def reset_config(self, config):
            self.run = ray.get(runs)[config["number"]]
            return True

        def step(self):
            error = trained(self.run, data_in(folder, device))
            return {"number": self.run["number"], "error": error, "done": True}

    share = {"cpu": 1} if device == "cpu" else {"cpu": 1, "gpu": 0.25}
    with tempfile.TemporaryDirectory() as storage:
        results = ray_tune.Tuner(
            ray_tune.with_resources(Trainable, share),
            param_space={"number": ray_tune.grid_search(list(range(len(runs_in(folder)))))},
            tune_config=ray_tune.TuneConfig(metric="error", mode="min", reuse_actors=True),
            run_config=ray_tune.RunConfig(
                storage_path=storage,
                verbose=0,
                checkpoint_config=ray_tune.CheckpointConfig(checkpoint_at_end=False),
            ),
        ).fit()
        write(folder, [(result.metrics["number"], result.metrics["error"]) for result in results])
    ray.shutdown()


# (c) one process, torch.func ensembles of the runs of one shape, length and rate


def ensemble(folder, device):
    data, key = Data(folder, torch.device(device)), lambda run: json.dumps([run[name] for name in ALIKE])
    for _, group in groupby(sorted(runs_in(folder), key=key), key):
        write(folder, together(list(group), data))


ALIKE = ("family", "depth", "width", "batch_size", "steps", "lr", "weight_decay", "augment", "precision")


def together(runs, data):
    """Train runs as one vmapped model and return the number and the test error of each."""
    first, device = runs[0], data.device
    models = []
    for run in runs:
        torch.manual_seed(run["seed"])
        models.append(model_of(run, data.raw.shape[1], data.classes))
    params, _ = torch.func.stack_module_state(models)
    params = {name: value.detach().to(device).requires_grad_() for name, value in params.items()}
    base = models[0].to("meta")
    generator = torch.Generator(device).manual_seed(first["seed"])

    def logits(weights, x):
        return torch.func.functional_call(base, weights, (x,))

    ensemble_logits = torch.vmap(logits)
    optimizer = torch.optim.AdamW(params.values(), lr=first["lr"], weight_decay=first["weight_decay"], fused=True)
    for step, rows in enumerate(torch.stack([batches_of(run, device) for run in runs], 1)):
        optimizer.param_groups[0]["lr"] = rate_at(first, step)
        with precision_of(first, device):
            out = ensemble_logits(params, data.batch(rows, first["augment"], generator))
            loss = F.cross_entropy(out.flatten(0, 1), data.labels[rows].flatten()) * len(runs)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return [(run["number"], data.error(run["test"], own_logits(params, k, logits))) for k, run in enumerate(runs)]


def own_logits(params, k, logits):
    own = {name: value[k].detach() for name, value in params.items()}
    return lambda x: logits(own, x)


def runs_in(folder):
    return json.loads((Path(folder) / "runs.json").read_text())


def write(folder, errors):
    """Append results as they come."""
    with (Path(folder) / "errors.txt").open("a") as out:
        for number, error in errors:
            print(number, error, file=out, flush=True)


if __name__ == "__main__":
    script, where, on = sys.argv[1:]
    {"plain": plain, "tune": tune, "ensemble": ensemble}[script](where, on)
