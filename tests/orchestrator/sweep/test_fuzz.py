"""Mutated sweep files: each is planned, or refused in lines that begin with its name, in little time and memory."""

import random
import time

import pytest

from orchestrator import SweepError, plan, read_sweep
from tests.paths import ROOT

FILES = [path.read_text(encoding="utf-8") for path in sorted((ROOT / "sweeps").glob("*.yaml"))]
PAIRED = (
    "sweep: z\ndata: {dataset: digits}\nmodel: {depth: 1}\ntrain: {lr: 1e-3 * 64 / width, batch_size: [16, 32]}\n"
    "budget: {epochs: {from: 2, to: 16, log: 2}}\nzip: [{width: [16, 64], warmup: [0, 0.1]}]\n"
    "cells: [{model: {width: 8}, train: {lr: [1, 2], warmup: 0}}]\n"
)
FILES.append(PAIRED)
WORDS = [
    *(
        "1e308",
        "-1",
        "0",
        "1e9",
        "1e200",
        "9" * 5000,
        ".nan",
        ".inf",
        "''",
        "null",
        "true",
        "[]",
        "{}",
        "~",
        "!x",
        "&a *a",
    ),
    *(
        "width",
        "lr",
        "1e-3 * 64 / width",
        "lr * lr",
        "9**9**9",
        "min(1,",
        "(1",
        "a.b",
        "__import__('os')",
        "\x00",
        "\t",
    ),
    *("{from: 1, to: 1e9, step: 1}", "{from: 16, to: 256, log: 2}", "{search: {min: 1, max: 2}}", "[1, 2, 2]"),
    *("[" + "1, " * 5000 + "2]", "[" * 40, "zip: {width: [1, 2], lr: [1, 2]}", "cells: [{}, {}]", "seeds: 10000"),
    *(
        "{min: 1, max: 2}",
        "\ud800",
        "é",
        "*a",
        "- ",
        ": ",
        "#",
        "B-" + "9" * 400 + "/Wi-1",
        "method: grid",
        "parameters: {a: 1}",
    ),
]
SECONDS = 20.0
"""CPU time of one file; most take a hundredth. The limit is for a busy machine."""


def mutated(seed):
    """One of the files, with a few words exchanged, lines copied or dropped, or characters changed."""
    draw = random.Random(seed)
    text = draw.choice(FILES)
    for _ in range(draw.randint(1, 4)):
        kind, lines = draw.randrange(5), text.split("\n")
        at = draw.randrange(len(lines))
        if kind == 0:
            parts = lines[at].split(" ")
            parts[draw.randrange(len(parts))] = draw.choice(WORDS)
            lines[at] = " ".join(parts)
        elif kind == 1:
            lines.insert(at, draw.choice(lines))
        elif kind == 2:
            del lines[at]
        elif kind == 3:
            lines.insert(at, draw.choice(WORDS))
        else:
            place = draw.randrange(len(lines[at]) + 1)
            lines[at] = lines[at][:place] + draw.choice(WORDS) + lines[at][place + draw.randrange(3) :]
        text = "\n".join(lines)
    return text


def refused(text):
    """The lines in which a file is refused; none if it is planned."""
    try:
        plan(read_sweep(text, name="x.yaml"), decode=False, cells=2000)
    except SweepError as error:
        return str(error).splitlines()
    return []


def check(seed):
    text, began = mutated(seed), time.process_time()
    lines = refused(text)
    assert [line for line in lines if not line.startswith("x.yaml:")] == [], seed
    assert all(len(line) < 1000 for line in lines), (seed, max(map(len, lines)))
    assert time.process_time() - began < SECONDS, seed


def test_a_mutated_file_is_planned_or_refused_by_line():
    for seed in range(400):
        check(seed)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_twenty_thousand_mutated_files_are_planned_or_refused_by_line():
    for seed in range(20_000):
        check(seed)
