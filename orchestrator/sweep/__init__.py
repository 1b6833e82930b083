"""A YAML file becomes a `Sweep`, then a `Plan`. Read `sweep.py`, then `planner.py`."""
