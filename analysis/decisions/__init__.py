"""What to do with a law: allocate a budget, suggest the next runs. Read `allocate.py` first."""
