"""Limits of this machine or container, fsync, URLs."""
