"""This machine: its clock, processes and signals, and the heartbeat, usage and speed of workers.

Each module stands alone. `speed.py` says how large a stack pays here and how long it takes.
"""
