"""What the name of a foreign column says: an input, something that was measured, the unit of its numbers."""

from __future__ import annotations

import re

from analysis.table.foreign.numbers import scale
from analysis.table.identity import OUTCOME, plain

INPUTS = ("params", "examples", "flops")
ALIASES: dict[str, tuple[str, str]] = {
    "params": (
        "params parameters n",
        (
            "param parameter nparams nparam numparams numparameters nparameters paramcount parametercount "
            "totalparams totalparameters modelparams modelparameters trainableparams modelsize size "
            "weights activeparams "
            "nonembeddingparams nonembparams paramsnonembedding"
        ),
    ),
    "examples": (
        "examples tokens d",
        (
            "samples images ntokens numtokens traintokens trainingtokens tokensseen seentokens totaltokens "
            "tokencount nexamples numexamples examplesseen samplesseen nsamples numsamples "
            "trainexamples trainingexamples "
            "trainsamples imagesseen datapoints datasetsize ntrain trainsize datasize trainingsetsize"
        ),
    ),
    "flops": (
        "flops compute c",
        (
            "flop trainflops trainingflops totalflops computeflops traincompute trainingcompute flopstotal "
            "numflops nflops flops6nd computebudget flopbudget budget pfdays"
        ),
    ),
}
"""Input -> names by which it is known, without capitals and punctuation: the plain ones, which win, and others."""
_PATTERNS = (
    ("error", re.compile(r"^1(minus)?acc|err(or)?s?(rate)?$|^err(or)?|wer$|cer$")),
    ("loss", re.compile(r"loss|nll|crossentropy|^ce$|^l$|bpb$|bpc$|bitsper|mse$|mae$")),
    ("accuracy", re.compile(r"acc(uracy)?(top[15])?$|^acc|top[15]$")),
    ("other", re.compile(r"perplexity|ppl$|^value$|^y$|metric$")),
)
MEASURES = tuple(name for name, _ in _PATTERNS)
_SPLITS = (re.compile(r"test|heldout"), re.compile(r"val|eval|dev"), re.compile(r"^(?!.*train)"))
_SPREAD = re.compile(r"(std|stderr|sd|(?<!m)se|sem|var|min|max|low|high|lower|upper|ci)$|^(std|sd)")
_UNIT = re.compile(r"\s*[\[(](?P<unit>[^\])]*)[\])]\s*$")
_NOT_INPUTS = re.compile(
    r"time$|^date|date$|lr$|learningrate|decay|dropout|^batch|^wall|^unnamed|^column|id$|version"
)


def tier(column: str, role: str) -> int | None:
    """Whether a name is one of an input: 0 for a plain one, 1 for another, None if it is not."""
    known = [names.split() for names in ALIASES[role]]
    return next((k for k, names in enumerate(known) if plain(bare(column)) in names), None)


def measure(column: str) -> int | None:
    """Which of MEASURES a name is, by its place; None if none, as for a spread."""
    both = (plain(bare(column)), plain(column))
    for words in both if not any(map(_SPREAD.search, both)) else ():
        if found := [k for k, (_, pattern) in enumerate(_PATTERNS) if pattern.search(words)]:
            return found[0]
    return None


def split(column: str) -> int:
    """Of which data a measure is by its name: 0 test, 1 validation, 2 not said, 3 training."""
    return next((k for k, pattern in enumerate(_SPLITS) if pattern.search(plain(column))), len(_SPLITS))


def is_other(column: str) -> bool:
    """Whether a name is of something else than an input: measured, a setting, a time, an identifier."""
    words = plain(column)
    return bool(OUTCOME.search(words) or _NOT_INPUTS.search(words)) or measure(column) is not None


def bare(column: str) -> str:
    """A name without its unit."""
    return _UNIT.sub("", column) or column


def factor(column: str) -> float:
    """What the unit in a name multiplies its numbers by: 1e6 for "params (M)"; 1 without one."""
    unit = _UNIT.search(column)
    if unit is None:
        return 8.64e19 if plain(column) == "pfdays" else 1.0
    return scale(unit["unit"]) or 1.0
