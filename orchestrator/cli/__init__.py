"""The command line: parse, call one function, print. Read `main.py` first."""
