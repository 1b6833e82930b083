"""A first sweep: declared, planned, trained, and its law drawn. `python examples/first_sweep.py`, about 10 s.

Cells between `# %%` run one by one in an editor or in Jupyter that knows them; plans, progress and laws then show
themselves as tables. Running the file again trains nothing: its runs are in the table already.
"""

# %% declare: lists are axes, and axes multiply
import analysis
import orchestrator

sweep = orchestrator.read_sweep("""
sweep: first
data: {dataset: zipf, zipf_alpha: 0.5, dataset_size: [250, 500, 1000, 2000, 4000]}
model: {family: s-mlp, depth: 2, width: 64}
train: {lr: 3e-3, batch_size: 64, schedule: cosine}
budget: {epochs: 20}
seeds: 4
""")

# %% plan: exact FLOPs, and what this design can show; nothing is trained
plan = orchestrator.plan(sweep)
print(f"{len(plan.runs)} runs in {len(plan.cells)} cells, {plan.flops:.3g} FLOPs")

# %% train what is missing, with a bar; the same call resumes. Without executor="inline", workers train on all cores
print(orchestrator.run(plan, "examples.db", executor="inline"))

# %% one row per run, in plain columns
runs = orchestrator.results("examples.db", "first")
print(runs.groupby("examples")["error"].agg(["mean", "std", "count"]).round(4))

# %% the law, with an interval and what speaks against it
law = analysis.fit_power_law(runs, x="examples", floor=False)
print(law)

# %% what it predicts, with a band; and the figure
print(law.predict([1e5, 1e6]))
analysis.save(analysis.describe_law(runs, law, x="examples"), "first-sweep", ("png",))
