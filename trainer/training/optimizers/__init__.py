"""Update rules of the optimisers, one a file. Read `lion.py` first.

To add one, write an `UpdateRule` (trainer.optimizers) in a module of your own and name it in the sweep file,
`train: {optimizer: module:name}`; to build one in, put its file here and its name into `OPTIMIZERS`.
"""
