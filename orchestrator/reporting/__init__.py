"""A sweep's rows become laws, figures and a page. Read `laws.py` first."""
