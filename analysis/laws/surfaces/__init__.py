"""Laws of params and examples, one a file: additive, coupled, with a ceiling. Read `chinchilla.py` first."""
