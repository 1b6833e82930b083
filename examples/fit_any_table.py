"""Laws from another lab's table: `python examples/fit_any_table.py runs.csv N_column D_column y_column`.

One row a run (or a checkpoint; then a column `run_id` says which rows belong together). Only `analysis` is needed:
no trainer, no Ray, no torch. Cells between `# %%` run one by one in an editor that knows them.
"""

# %%
import sys

import pandas as pd

import analysis

path, n, d, y = sys.argv[1:]
table = pd.read_csv(path)
table["flops_6nd"] = 6 * table[n] * table[d]  # unless it counts FLOPs itself

# %% the surface y = floor + A N^-alpha + B D^-beta, and what may be claimed of it
fit = analysis.fit_surface(table, n, d, y)
print(fit, analysis.verdict(table, (n, d), y), sep="\n\n")

# %% what ten times the largest compute is best spent on
print(f"\n{analysis.allocate(fit, 10 * table['flops_6nd'].max(), flops='flops_6nd')}")

# %% the law of the frontier in compute, drawn for a paper
law = analysis.fit_frontier(table, "flops_6nd", y)
analysis.save(analysis.describe_law(table, law, x="flops_6nd", y=y, colour=n), "frontier", ("png", "pdf"))
