"""A YAML file becomes a `Sweep`, then a `Plan`. Read `sweep.py` first, then `planner.py`.

`yaml_source` parses and remembers lines, `reader` checks and reports every mistake with file and line (`checks`
has those between keys), `sweep` says what a file may contain (its keys are the fields of `trainer.spec.RunSpec`),
`ranges` and `formula` what may stand for a number, `search_space` what a search may vary, and the JSON schema.
`cells` expands axes, `planner` prices their runs, `design` says what a plan can show, `template` is what
`isoflop new` writes, `other_tools` and `translation` read files of W&B, Hydra and Optuna. Nothing here imports
torch, Ray or SQL, and only `design` numpy.

To add a key of a sweep file: add a field to RunSpec, with its section, kind and description (`trainer.fields`).
"""
