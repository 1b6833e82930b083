"""Figures, first described as plain data (`chart.py`), then drawn. Read `chart.py` first."""
