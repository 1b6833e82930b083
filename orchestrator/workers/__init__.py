"""Where stacks of runs are trained: in this process or in Ray workers.

Read `executor.py` first, the contract; `worker.py` is one attempt at training a stack. To add an executor, see
docs/how-to/add-an-executor.md.
"""
