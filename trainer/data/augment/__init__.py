"""Flips, crops and MixUp: `draws.py` says what is random, `transforms.py` what becomes of a batch. Read both."""
