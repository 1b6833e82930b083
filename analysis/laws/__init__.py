"""Formulas with derivatives and starting points, one law per file. Read `base.py` first."""
