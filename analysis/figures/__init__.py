"""Figures: described as plain data (`chart.py`), then drawn (`plots.py`, `plotly.py`). Read `chart.py` first.

To add one, write a function that turns findings into a chart and register it as a `Figure`; see `registry.py`.
"""
