"""This machine: limits of its containers, durable files, URLs. Read `limits.py` first."""
