"""Data of your own: a function that returns arrays is a data set. `python examples/own_data.py`, about 10 s.

Folders of images, archives and .npz files need no code: docs/how-to/add-a-dataset.md. Workers import the function,
so it stands in a file: this one.
"""

# %% the same arrays at every call; they are kept in the cache until this file changes
from pathlib import Path

import numpy as np

import analysis
import orchestrator


def rings():
    """Three noisy rings in the plane; the class is the ring."""
    rng = np.random.default_rng(0)
    labels = np.arange(6000) % 3
    angle, radius = rng.uniform(0, 2 * np.pi, 6000), 1 + labels + 0.3 * rng.normal(size=6000)
    x = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1).astype(np.float32)
    return x[:4000], labels[:4000], x[4000:], labels[4000:]


# %% how much do more examples help?
SWEEP = f"""
sweep: own-data
data: {{dataset: "{Path(__file__).stem}:rings", dataset_size: [125, 250, 500, 1000, 2000, 4000]}}
model: {{family: b-mlp, depth: 1, width: 32}}
train: {{lr: 3e-3, batch_size: 32}}
budget: {{epochs: 5}}
seeds: 3
"""

if __name__ == "__main__":
    print(orchestrator.run(orchestrator.read_sweep(SWEEP), "examples.db", executor="inline"))

    # %% the error, and what may be said of its law
    runs = orchestrator.results("examples.db", "own-data")
    print(runs.groupby("dataset_size")["error"].agg(["mean", "std"]).round(3))
    print(analysis.verdict(runs, "dataset_size"))
