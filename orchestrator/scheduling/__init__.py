"""Which runs train where, in which order, within which memory and budget, and what happens when they fail.

Read `scheduler.py` first: a loop that reads the queue (`ready.py`), chooses stacks (`stacks.py`) by memory and
budget, claims them (`write_buffer.py`), and hands what workers report to the stacks in training (`running.py`).
"""
