"""Random streams: a separate one for each purpose, all derived from the seed of a run."""

from __future__ import annotations

import hashlib


def stream(*parts: object) -> int:
    """A 63-bit seed for a purpose, e.g. `stream(spec.seed, "order", epoch)`.

    Streams of different parts are independent, so that a change in one place (an evaluation more, another
    batch size) leaves every other draw alone; and each is a function of its parts, so that a run killed
    anywhere can draw again what it drew before.
    """
    text = "/".join(map(str, parts))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
