"""Writes runs to other tools, while a sweep trains or afterwards. Read `exporter.py` first.

The results table stays the truth: exporters read it, a failure of one never stops a sweep, and each export can be
repeated. One file per tool.
"""
