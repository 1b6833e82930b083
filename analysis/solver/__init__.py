"""From data and a law to estimates and bootstrap replicates. Read `fitting.py` first."""
