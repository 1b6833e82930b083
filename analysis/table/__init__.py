"""Any DataFrame becomes data ready to fit: column names, seeds, weights. Read `data.py` first."""
