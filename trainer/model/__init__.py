"""Model families and official checkpoints. Read `mlp.py` first."""
