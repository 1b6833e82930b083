"""One HTML page, and tables for papers. Read `page.py` first."""
