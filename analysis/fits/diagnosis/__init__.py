"""What is said of a fit: evidence, and rules that turn it into reasons and cautions. Read `diagnostics.py` first.

To add a rule, write a function from `Evidence` to a sentence or None and list it in `REJECTING` (the law does not
describe the table), `BLOCKING` (no exponents are claimed), `FLOOR` (no floor is claimed) or `CAUTIONS`.
"""
