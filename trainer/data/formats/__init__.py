"""File formats of data sets: arrays, image folders, archives, .beton files. Read `array_files.py` first.

To add a format of arrays, add a reader and the names of its files to `array_files`.
"""
