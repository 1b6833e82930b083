"""Data sets that code makes, one a file. Read `digits.py` first; to add one, see `trainer.data`."""
