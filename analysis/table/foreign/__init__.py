"""Tables of other labs and trackers: any file becomes a frame of numbers, then one with the names of this package.

Read `read.py` first, then `roles.py`.
"""
