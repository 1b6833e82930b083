"""Data sets that code makes, one a file. Read `zipf.py` first."""
