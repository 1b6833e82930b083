"""Which runs train where, in which order, within which memory and budget. Read `scheduler.py` first."""
