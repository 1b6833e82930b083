"""Fits of one variable and their result: a law of y against x, several laws compared, profile intervals.

Read `law.py` first (`fit_law`, `fit_power_law`), then `result.py` (`LawFit`) and `diagnostics.py`, whose rules say
when an exponent is not identified. To add a rule, write a function from `Evidence` to a sentence or None and list
it in `BLOCKING` or `CAUTIONS`.
"""
