"""The three approaches of Hoffmann et al. (2022): frontier, isoFLOP curves, surface. Read `surface.py` first."""
