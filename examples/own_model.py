"""A model of your own beside a built-in one: any torch.nn.Module. `python examples/own_model.py`, about 10 s.

The steps are explained in docs/how-to/add-a-family.md. Workers import the class, so it stands in a file: this one.
"""

# %% a module is a family if its constructor takes inputs, classes, depth and width
from pathlib import Path

from torch import nn

import orchestrator


class Convolutional(nn.Module):
    """Reads flattened square images [B, inputs] and returns logits [B, classes]."""

    def __init__(self, inputs: int, classes: int, depth: int, width: int) -> None:
        super().__init__()
        self.side = round(inputs**0.5)
        self.embed = nn.Conv2d(1, width, 3, padding=1)
        self.body = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(depth))
        self.head = nn.Linear(width, classes)

    def forward(self, x):
        """The logits."""
        z = self.embed(x.view(-1, 1, self.side, self.side))
        for layer in self.body:
            z = z + layer(z.relu())
        return self.head(z.mean((2, 3)))


# %% parameters and FLOPs are counted, not declared
SWEEP = f"""
sweep: own-model
data: {{dataset: digits}}
model: {{family: [b-mlp, "{Path(__file__).stem}:Convolutional"], depth: 1, width: [8, 16]}}
train: {{lr: 3e-3, batch_size: 32}}
budget: {{epochs: 3}}
"""

if __name__ == "__main__":
    plan = orchestrator.plan(orchestrator.read_sweep(SWEEP))
    print(f"{len(plan.runs)} runs, {plan.flops:.3g} FLOPs")

    # %% train both, and compare
    print(orchestrator.run(plan, "examples.db", executor="inline"))
    runs = orchestrator.results("examples.db", "own-model")
    print(runs[["model", "params", "flops", "error"]].sort_values("params").to_string(index=False))
