"""Data sets: located, downloaded, decoded once, split, augmented, read in batches. Read `datasets.py` first.

To add one, write a function that returns `x_train, y_train, x_test, y_test` and name it in a sweep file, `data:
{dataset: module:name}`; `entries.py` has the entries that say more. To build one in, put its file into `sets/` and
its name into `catalogue.DATASETS`.
"""
