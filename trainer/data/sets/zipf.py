"""The embedded task with a known exponent: memorising Zipf-distributed tokens, with an exact test error.

After Hutter, "Learning curve theory" (arXiv 2102.04074): token k of `tokens` has probability proportional
to k^-(1 + alpha), a fixed random code as input and a fixed random label. Whoever memorises what was seen, and
guesses among the classes otherwise, has the expected error

    (1 - 1 / classes) * sum_k p_k (1 - p_k)^D

after D examples, which falls as D^-(alpha / (1 + alpha)) while D is small against the rarest token's return
time. The test error is a sum over all tokens, so that the only noise is in the training set. What differs
from Hutter: tokens are finitely many, inputs are vectors, and an MLP has to learn them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainer.data.arrays import Arrays, DatasetInfo, Split
from trainer.data.entries import Task
from trainer.rng import stream

if TYPE_CHECKING:
    import numpy as np

    from trainer.spec import RunSpec

INPUTS, CLASSES = 64, 10
DEFAULT_ALPHA, DEFAULT_TOKENS = 0.5, 10_000
MOST_EXAMPLES = 1_000_000
"""Draws that a training set may hold; the task itself has no end."""


def probabilities(alpha: float, tokens: int) -> np.ndarray:
    """p_k, shape [tokens], falling, summing to 1."""
    import numpy as np

    p = np.arange(1, tokens + 1, dtype=np.float64) ** -(1 + alpha)
    return np.asarray(p / p.sum())


def table(tokens: int) -> tuple[np.ndarray, np.ndarray]:
    """Codes [tokens, INPUTS] float32 of unit variance and labels [tokens] int64: the same in every run."""
    import numpy as np

    rng = np.random.default_rng(stream("zipf", "table"))
    codes = rng.standard_normal((tokens, INPUTS), dtype=np.float32)
    return codes, rng.integers(0, CLASSES, tokens)


def draw(alpha: float, tokens: int, examples: int, seed: int) -> np.ndarray:
    """Token numbers [examples] of one training set; a longer one of the same seed begins with the shorter."""
    import numpy as np

    uniform = np.random.default_rng(stream(seed, "zipf", "draw")).random(examples)
    return np.searchsorted(np.cumsum(probabilities(alpha, tokens)), uniform).clip(max=tokens - 1)


def expected_error(examples: np.ndarray | list[float], alpha: float, tokens: int) -> np.ndarray:
    """Exact expected test error of the memorising learner after each number of examples, in [0, 1]."""
    import numpy as np

    p = probabilities(alpha, tokens)
    unseen = [float(np.sum(p * (1 - p) ** d)) for d in np.asarray(examples, dtype=np.float64)]
    return (1 - 1 / CLASSES) * np.array(unseen)


def theoretical_exponent(alpha: float) -> float:
    """Alpha / (1 + alpha), the exponent of infinitely many tokens."""
    return alpha / (1 + alpha)


def _parameters(spec: RunSpec) -> tuple[float, int]:
    """Exponent and tokens of a spec."""
    alpha = DEFAULT_ALPHA if spec.zipf_alpha is None else spec.zipf_alpha
    return float(alpha), DEFAULT_TOKENS if spec.zipf_tokens is None else spec.zipf_tokens


def info(spec: RunSpec) -> DatasetInfo:
    """Sizes and fingerprint."""
    alpha, tokens = _parameters(spec)
    return DatasetInfo("zipf", MOST_EXAMPLES, INPUTS, CLASSES, None, f"zipf-1-{alpha!r}-{tokens}", tokens)


def load(spec: RunSpec) -> Arrays:
    """Codes and labels of all tokens."""
    import numpy as np

    codes, labels = table(_parameters(spec)[1])
    return Arrays(info(spec), codes, labels, 0, np.zeros(1, np.float32), np.ones(1, np.float32))


def split(_: Arrays, spec: RunSpec) -> Split:
    """A training set drawn from the distribution; all tokens are tested, weighted with their probabilities."""
    import numpy as np

    alpha, tokens = _parameters(spec)
    assert spec.dataset_size is not None
    rows = draw(alpha, tokens, spec.dataset_size, spec.seed)
    return Split(rows, np.arange(tokens), probabilities(alpha, tokens))


ZIPF = Task(info=info, load=load, split=split, parameters=("zipf_alpha", "zipf_tokens"), holds_out=False)
