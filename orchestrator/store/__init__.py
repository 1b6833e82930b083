"""The results table, which is also the queue. Read `table.py` first."""
