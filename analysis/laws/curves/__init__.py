"""Laws of one variable with priors, for extrapolation: one a file. Read `base.py` first.

`fit_laws` weights them by their evidence. To add one, write a subclass of `Curve` and name it `module:name`.
"""
