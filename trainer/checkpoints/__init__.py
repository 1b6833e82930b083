"""When and what is saved of a run, and where: a folder or a bucket. Read `checkpoints.py` first.

To add a place for checkpoints, implement `folder.Storage` and choose it in `checkpoints.storage_of`.
"""
