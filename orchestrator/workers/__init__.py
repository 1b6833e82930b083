"""Where stacks of runs are trained: inline or in Ray workers. Read `executor.py` first."""
