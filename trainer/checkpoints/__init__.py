"""When and what is saved of a run, and where: a folder or a bucket. Read `checkpoints.py` first."""
