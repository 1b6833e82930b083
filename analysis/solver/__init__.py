"""The solver: from data and a law to an estimate and its bootstrap replicates.

Read `fitting.py` first: the loss, the starting points, the resamples. `bootstrap.py` draws the resamples and turns
replicates into intervals. The Newton steps themselves stand beside the laws, in `analysis/laws/newton.py`.
"""
