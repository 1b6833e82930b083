"""The public fits of one variable and their result class. Read `power_law.py` first."""
