"""Reporting: the rows of a sweep become laws (`laws.py`), figures and a page. Read `figures.py` first."""
