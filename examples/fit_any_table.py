"""Laws from any table: `python examples/fit_any_table.py FILE [X ...] [Y]`, as `isoflop fit FILE` does.

CSV as it comes, Parquet, Excel, exports and stores of trackers. Columns are guessed unless they are named. Only
`analysis` is needed: no trainer, Ray or torch. Cells between `# %%` run one by one in an editor that knows them.
"""

# %% any file becomes a table whose inputs have the names params, examples and flops
import sys

import analysis

path, names = "".join(sys.argv[1:2]), sys.argv[2:]
try:
    table = analysis.recognise(analysis.read_table(path), names[:-1], "".join(names[-1:]))
except (analysis.ReadError, OSError) as error:
    sys.exit(f"{error}\n\n{__doc__}" if path else __doc__)
print(table)

# %% the law of every input, or the reason why there is none; drawn for a paper
for x in table.inputs:
    try:
        law = analysis.fit_frontier(table.frame, x, table.y)
        print(f"\n{law}")
        analysis.save(analysis.describe_law(table.frame, law, x=x, y=table.y), f"law-in-{x}", ("png", "pdf"))
    except (analysis.FitError, ValueError) as error:
        print(f"\n{table.y} against {x}: {error}")

# %% the surface in params and examples, what may be claimed of it, and what ten times the compute is best spent on
if {"params", "examples"} <= set(table.inputs):
    try:
        surface = analysis.fit_surface(table.frame, y=table.y)
        best = analysis.allocate(surface, 10 * table.frame["flops"].max())
        print(surface, analysis.verdict(table.frame, ("params", "examples"), table.y), best, sep="\n\n")
    except (analysis.FitError, ValueError) as error:
        print(f"\nno surface: {error}")
