"""Trains one stack of runs, from initial values to results. Read `loop.py` first."""
