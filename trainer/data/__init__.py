"""Data sets: located, downloaded, decoded once, split, augmented, read in batches. Read `datasets.py` first."""
