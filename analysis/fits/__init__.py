"""Fits of one variable and their result: a law of y against x, several laws compared, profile intervals.

Read `law.py` first (`fit_law`, `fit_power_law`), then `result.py` (`LawFit`). The rules in `diagnosis/` say when an
exponent is not identified.
"""
