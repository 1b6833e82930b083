"""The three approaches of Hoffmann et al. (2022): frontier, isoFLOP curves, surface; and the optimum they imply.

Read `surface.py` first, then `frontier.py` and `isoflop.py`. `curves.py` and `minima.py` serve isoFLOP curves and
learning rates, `optimum.py` turns a surface into params and examples at a budget.
"""
