"""Model families and official checkpoints.

Read `b_mlp.py`, then `layered.py`; a new family is a file like `s_mlp.py`, named in `trainer/families.py`.
"""
