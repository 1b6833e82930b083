"""Mistaken sweep files: where, what was found, what would be right."""

import pytest

from orchestrator import SweepError, load_sweep, plan, read_sweep
from orchestrator.sweep.sweep import DataSection, TrainSection

HEAD = "sweep: a\ndata: {dataset: digits}\nmodel: {width: 16}\nbudget: {epochs: 1}\n"
SECTIONS = "data, model, train, budget, sweep, seeds, limits, search, zip, cells, then"
TRAIN_KEYS = ", ".join(TrainSection.model_fields)
DATA_KEYS = ", ".join(DataSection.model_fields)
STEP = "batch_size 64, which takes 64 examples, 1.9e+06 FLOPs"


def with_data(data):
    return f"sweep: a\ndata: {data}\nmodel: {{width: 16}}\nbudget: {{epochs: 1}}\n"


def with_model(model):
    return f"sweep: a\ndata: {{dataset: digits}}\nmodel: {model}\nbudget: {{epochs: 1}}\n"


def with_budget(budget):
    return f"sweep: a\ndata: {{dataset: digits}}\nmodel: {{width: 16}}\nbudget: {budget}\n"


MISTAKES = {
    # keys
    "unknown-section": (HEAD + "limit: {hours: 1}\n", "5: unknown key 'limit'; did you mean 'limits'?"),
    "unknown-key": (with_model("{widht: 16}"), "3: unknown key 'widht'; did you mean 'width'?"),
    "key-like-no-other": (HEAD + "colour: red\n", f"5: unknown key 'colour'; valid keys are {SECTIONS}"),
    "key-like-no-other-of-its-section": (
        HEAD + "train:\n  lr: 1e-3\n  colour: 0.1\n",
        f"7: unknown key 'colour'; valid keys are {TRAIN_KEYS}",
    ),
    "key-in-another-section": (with_model("{width: 16, lr: 1e-3}"), "3: unknown key 'lr'; it belongs to 'train'"),
    "key-without-its-section": (HEAD + "lr: 1e-3\n", "5: unknown key 'lr'; it belongs to 'train'"),
    "key-of-a-cell": (HEAD + "cells:\n  - train: {lrr: 1}\n", "6: unknown key 'lrr'; did you mean 'lr'?"),
    "section-of-a-cell": (
        HEAD + "cells:\n  - seeds: 3\n",
        "6: unknown key 'seeds'; valid keys are data, model, train, budget",
    ),
    "repeated-section": (HEAD + "seeds: 1\nseeds: 2\n", "6: key 'seeds' is given twice; the first is in line 5"),
    "repeated-key": (
        with_model("\n  width: 16\n  width: 32"),
        "5: key 'width' is given twice; the first is in line 4",
    ),
    "sweep-missing": (HEAD.partition("\n")[2], "1: 'sweep' is missing"),
    "dataset-missing": (with_data("{dataset_size: 180}"), "2: data: 'dataset' is missing"),
    "width-missing": (with_model("{depth: 2}"), "3: model: 'width' is missing"),
    "budget-missing": (HEAD.partition("budget")[0], "1: budget: flops, epochs or examples is missing"),
    # stages
    "stage-without-a-budget": (
        HEAD + "then: [{stage: probe}]\n",
        "5: stage 'probe': budget: flops, epochs or examples is missing",
    ),
    "stage-twice": (
        HEAD + "then:\n  - {stage: a, budget: {epochs: 1}}\n  - {stage: a, budget: {epochs: 2}}\n",
        "7: stage: 'a' is the name of an earlier stage",
    ),
    "stage-after-none": (
        HEAD + "then:\n  - {stage: probe, after: tran, budget: {epochs: 1}}\n",
        "6: after: no earlier stage 'tran'; did you mean 'train'?",
    ),
    "stage-of-another-size": (
        HEAD
        + "then:\n  - {stage: z, data: {dataset: zipf, zipf_tokens: 10}, train: {tta: 2}, budget: {epochs: 1}}\n",
        "6: tta: averages over augmented copies of an image, and augment is none; write flip+resized-crop",
    ),
    "stage-key": (
        HEAD + "then:\n  - {stage: a, model: {width: 8}}\n",
        "6: unknown key 'model'; valid keys are stage, after, data, train, budget",
    ),
    # values
    "word-for-number": (with_model("{width: wide}"), "3: width: found 'wide'; it must be a whole number"),
    "part-of-a-neuron": (with_model("{width: 16.5}"), "3: width: found 16.5; it must be a whole number"),
    "empty-axis": (with_model("{width: []}"), "3: width: an empty list; an axis needs at least one value"),
    "python-number": (
        with_data("{dataset: digits, dataset_size: 1_000}"),
        "2: dataset_size: found '1_000'; it must be a whole number, without '_': 1000",
    ),
    "no-is-a-word": (HEAD + "train: {lr: no}\n", "5: lr: found 'no'; it must be a number"),
    "true-is-no-number": (HEAD + "train: {lr: true}\n", "5: lr: found true; it must be a number"),
    "quoted-number": (
        HEAD + 'train: {lr: "1e-3"}\n',
        "5: lr: found '1e-3'; it must be a number, without quotes",
    ),
    "number-for-word": (
        "sweep: 12\n" + HEAD.partition("\n")[2],
        "1: sweep: found 12; it must be a word (put it in quotes)",
    ),
    "bad-sweep-name": (
        "sweep: a/b c\n" + HEAD.partition("\n")[2],
        "1: sweep: found 'a/b c'; use letters, digits, '.', '_' and '-', at most 64",
    ),
    "two-datasets": (
        with_data("{dataset: [digits, zipf]}"),
        "2: dataset: found ['digits', 'zipf']; it must be one word",
    ),
    "empty-word": (with_data("{dataset: ''}"), "2: dataset: found ''; it must not be empty"),
    "section-is-a-word": (
        with_data("digits"),
        f"2: data: found 'digits'; it must be a mapping with keys of {DATA_KEYS}",
    ),
    "section-is-empty": (with_data(""), f"2: data: found nothing; it must be a mapping with keys of {DATA_KEYS}"),
    "cells-are-a-mapping": (HEAD + "cells: {a: 1}\n", "5: cells: found {'a': 1}; it must be a list"),
    "twice-in-an-axis": (with_model("{width: [16, 32, 16]}"), "3: width: 16 is given twice in this list"),
    "twice-in-other-words": (HEAD + "train: {lr: [1e-3, 0.001]}\n", "5: lr: 0.001 is given twice in this list"),
    "negative-lr": (HEAD + "train: {lr: -1e-3}\n", "5: lr: found -0.001; it must be above 0"),
    "infinite-lr": (HEAD + "train: {lr: .inf}\n", "5: lr: found inf; it must be finite"),
    "not-a-lr": (HEAD + "train: {lr: .nan}\n", "5: lr: found nan; it must be finite"),
    "share-of-one": (HEAD + "train: {warmup: 1}\n", "5: warmup: found 1; it must be below 1"),
    "no-hours": (HEAD + "limits: {hours: 0}\n", "5: hours: found 0; it must be above 0"),
    "optimizer-nearly-known": (
        HEAD + "train: {optimizer: adam}\n",
        "5: optimizer: unknown optimizer 'adam'; did you mean 'adamw'? valid: adamw, lion, sgd, or module:name",
    ),
    "optimizer-unknown": (
        HEAD + "train:\n  optimizer:\n    - adamw\n    - xyz\n",
        "8: optimizer: unknown optimizer 'xyz'; valid: adamw, lion, sgd, or module:name",
    ),
    "family-nearly-known": (
        with_model("\n  width: 16\n  family: [s-mlp, c-mlp]"),
        "5: family: unknown model family 'c-mlp'; did you mean 's-mlp'? valid: b-mlp, s-mlp, or module:name",
    ),
    "family-of-no-module": (
        with_model("{family: 'nowhere.mixers:MIXER'}"),
        (
            "3: family: model family 'nowhere.mixers:MIXER': cannot import nowhere.mixers:MIXER "
            "(ModuleNotFoundError: No module named 'nowhere')"
        ),
    ),
    "family-without-its-parts": (
        with_model("{family: 'math:pi'}"),
        (
            "3: family: model family 'math:pi' must be a trainer.families.Family, or a function that makes a "
            "torch.nn.Module from inputs, classes, depth, width; found 3.141592653589793"
        ),
    ),
    "optimizer-of-a-cell-unknown": (
        HEAD + "cells:\n  - train:\n      optimizer: lionn\n",
        "7: optimizer: unknown optimizer 'lionn'; did you mean 'lion'? valid: adamw, lion, sgd, or module:name",
    ),
    "seeds-none": (HEAD + "seeds: 0\n", "5: seeds: found 0; give a number of at least 1, or seeds of at least 0"),
    "seeds-negative": (
        HEAD + "seeds: [-1]\n",
        "5: seeds: found [-1]; give a number of at least 1, or seeds of at least 0",
    ),
    "seeds-twice": (HEAD + "seeds: [0, 1, 0]\n", "5: seeds: a seed is given twice in this list"),
    "seeds-a-word": (HEAD + "seeds: many\n", "5: seeds: found 'many'; it must be a whole number"),
    "seeds-with-a-word": (HEAD + "seeds: [0, b]\n", "5: seeds: found 'b'; it must be a whole number"),
    "seeds-mistyped": (HEAD + "seeds: 100000000\n", "5: seeds: found 100000000; it must be at most 10000"),
    "long-number": (with_model("{width: " + "9" * 5000 + "}"), "3: a number of 5,000 digits is too long"),
    # what one key says about another
    "two-budgets": (
        with_budget("\n  epochs: 1\n  flops: 1e9"),
        "5: budget: flops and epochs at once; give one of them",
    ),
    "two-budgets-in-a-cell": (
        HEAD + "cells:\n  - budget: {flops: 1e9, examples: 640}\n",
        "6: budget: flops and examples at once; give one of them",
    ),
    "name-and-width": (
        with_model("{name: B-2/Wi-64, width: 32, depth: 2}"),
        "3: model: name sets it already; omit depth, width",
    ),
    "width-of-a-cell-beside-names": (
        with_model("{name: [B-2/Wi-64, B-2/Wi-128]}") + "cells:\n  - model: {width: 32}\n",
        "6: width: the models above are given by name; give this cell a name too",
    ),
    # paired settings
    "pairs-of-different-lengths": (
        HEAD + "zip: {batch_size: [16, 32, 64], lr: [1e-2, 1e-3]}\n",
        "5: zip: values are paired in order, give as many of each; lr has 2, batch_size has 3",
    ),
    "pair-of-one": (
        HEAD + "zip: [{lr: [1e-2, 1e-3]}]\n",
        "5: zip: a group pairs two settings at least, e.g. {width: [16, 64], lr: [1e-2, 1e-3]}",
    ),
    "pair-given-above": (
        HEAD + "zip:\n  - width: [16, 64]\n    lr: [1e-2, 1e-3]\n",
        "6: width: it is given in line 3 already; leave one out",
    ),
    "pair-of-another-length": (
        HEAD + "zip: {examples: [1e3, 2e3], lr: [1e-2, 1e-3]}\n",
        "5: examples: it is set by epochs in line 4 already; leave one out",
    ),
    "pair-in-two-groups": (
        HEAD + "zip:\n  - {lr: [1, 2], depth: [1, 2]}\n  - {lr: [3, 4], batch_size: [16, 32]}\n",
        "7: lr: it is given in line 6 already; leave one out",
    ),
    "pair-unknown": (HEAD + "zip: {lr: [1, 2], widht: [1, 2]}\n", "5: unknown key 'widht'; did you mean 'width'?"),
    "pair-searched": (
        (
            "sweep: a\ndata: {dataset: digits, validation: 0.1}\nmodel: {width: 16}\nbudget: {epochs: 1}\n"
            "zip: {lr: [1, 2], depth: [1, 2]}\nsearch: {parameters: {lr: {values: [1, 2]}}}\n"
        ),
        "5: lr: it is given in line 6 already; leave one out",
    ),
    "half-a-pair-in-a-cell": (
        (
            "sweep: a\ndata: {dataset: digits}\nbudget: {epochs: 1}\nzip: {width: [16, 64], lr: [1e-2, 1e-3]}\n"
            "cells:\n  - train: {lr: 1}\n"
        ),
        "6: this cell sets lr, which zip pairs with width; set both or neither",
    ),
    # ranges
    "range-key": (
        with_model("{width: {from: 16, too: 64, steps: 3}}"),
        "3: width: unknown key 'too'; did you mean 'to'?",
    ),
    "range-in-words-of-a-search": (
        with_model("{width: {min: 16, max: 64}}"),
        "3: width: unknown key 'min'; did you mean 'from'?",
    ),
    "range-without-an-end": (
        with_model("{width: {from: 16, steps: 3}}"),
        "3: width: 'to' is missing; a range is written like {from: 16, to: 256, steps: 5, log: true}",
    ),
    "range-backwards": (
        with_model("\n  width:\n    from: 64\n    to: 16\n    steps: 3"),
        "6: width: found from 64 and to 16; to must be above from",
    ),
    "range-of-words": (
        with_model("{width: {from: small, to: 64, steps: 3}}"),
        "3: width: from: found 'small'; it must be a number",
    ),
    "range-by-nothing": (
        with_model("{width: {from: 16, to: 64}}"),
        (
            "3: width: give one of steps (how many values), step (their difference), log: 2 (their factor); "
            "found none"
        ),
    ),
    "range-by-two": (
        with_model("{width: {from: 16, to: 64, step: 16, log: 2}}"),
        (
            "3: width: give one of steps (how many values), step (their difference), log: 2 (their factor); "
            "found step and log"
        ),
    ),
    "range-log-of-zero": (
        HEAD + "train: {lr: {from: 0, to: 1, steps: 3, log: true}}\n",
        "5: lr: found from 0; it must be above 0 where the range is log",
    ),
    "range-that-rounds-to-duplicates": (
        with_model("{width: {from: 4, to: 64, steps: 9, log: true, multiple_of: 8}}"),
        "3: width: its 9 values are 6 multiples of 8; write them out: [8, 16, 24, 32, 48, 64]",
    ),
    "range-of-shares-in-multiples": (
        HEAD + "train: {lr: {from: 1, to: 2, steps: 3, multiple_of: 8}}\n",
        "5: lr: multiple_of: it is for whole numbers",
    ),
    "range-without-end": (
        HEAD + "train: {lr: {from: 1, to: 2, step: 1e-300}}\n",
        "5: lr: step: more than 100,000 values",
    ),
    "range-beyond-the-values": (
        HEAD + "train: {warmup: {from: 0, to: 1, steps: 3}}\n",
        "5: warmup: found 1; it must be below 1",
    ),
    "range-of-a-word": (
        HEAD + "train: {schedule: {from: 0, to: 2, step: 1}}\n",
        "5: schedule: {'from': 0, 'to': 2, 'step': 1} is unknown; it is one of constant, linear, cosine, wsd",
    ),
    # formulas
    "formula-with-an-unknown-name": (
        HEAD + "train: {lr: 1e-3 * 64 / widht}\n",
        "5: lr: unknown name 'widht'; did you mean 'width'? (column 25)",
    ),
    "formula-in-quotes": (
        HEAD + "train: {lr: 'min(1e-3, 64 / widht)'}\n",
        "5: lr: unknown name 'widht'; did you mean 'width'? (column 29)",
    ),
    "formula-of-a-word": (
        HEAD + "train: {lr: 1e-3 * optimizer}\n",
        "5: lr: unknown name 'optimizer'; optimizer is no number (column 20)",
    ),
    "formula-of-an-attribute": (
        HEAD + "train: {lr: '(1).__class__ * 2'}\n",
        (
            "5: lr: only numbers, names of settings, + - * / // ** and sqrt, round, floor, ceil, min, max "
            "calculate (column 14)"
        ),
    ),
    "formula-of-a-function": (
        HEAD + "train: {lr: exec(1)}\n",
        ("5: lr: unknown function 'exec'; a formula may name sqrt, round, floor, ceil, min, max (column 13)"),
    ),
    "formula-with-a-hat": (
        HEAD + "train: {lr: 2^-10}\n",
        "5: lr: '^' is not a power here; write ** (column 14)",
    ),
    "formula-of-itself": (
        HEAD + "train:\n  lr: 0.1 * weight_decay\n  weight_decay: 10 * lr\n",
        "6: lr: this formula needs itself: lr -> weight_decay -> lr",
    ),
    "formula-of-what-is-not-set": (
        HEAD + "train: {lr: 1 / dataset_size}\n",
        "5: lr: the formula '1 / dataset_size' needs dataset_size, which is not set here",
    ),
    "formula-by-zero": (
        HEAD + "train: {lr: 1 / weight_decay}\n",
        "5: lr: '1 / weight_decay' is a division by zero where weight_decay 0",
    ),
    "formula-with-half-a-neuron": (
        with_model("{width: 33 / depth}"),
        "3: width: '33 / depth' is 16.5 where depth 2; it must be a whole number: round(...)",
    ),
    "formula-out-of-range": (
        HEAD + "train: {warmup: width / 10}\n",
        "5: warmup: 'width / 10': 1.6 is not in [0, 1) where width 16",
    ),
    "formula-too-large": (HEAD + "train: {lr: 9**9**9}\n", "5: lr: '9**9**9' is no finite real number"),
    "formula-of-a-root": (HEAD + "train: {lr: sqrt(0 - 1)}\n", "5: lr: 'sqrt(0 - 1)' is no finite real number"),
    # ranges of numbers
    "depth-beyond-reason": (
        with_model("{width: 16, depth: 1e9}"),
        "3: depth: found 1000000000; it must be at most 1000",
    ),
    "width-beyond-reason": (with_model("{width: 1e200}"), "3: width: found 1e+200; it must be at most 1048576"),
    "epochs-beyond-reason": (
        with_budget("{epochs: 1e308}"),
        "4: epochs: found 1e+308; it must be at most 9e+18",
    ),
    "name-of-many-digits": (
        with_model("{name: B-" + "9" * 5000 + "/Wi-16}"),
        "3: name: 'B-999999999999...' is no model name; write it like B-12/Wi-1024 or S-6/Wi-2048",
    ),
    "seed-beyond-reason": (
        HEAD + "seeds: [10000000000]\n",
        "5: seeds: found 10000000000; a seed is at most 2147483647",
    ),
    "grid-of-many-points": (
        (
            "sweep: a\ndata: {dataset: digits, validation: 0.1}\nmodel: {width: 16}\nbudget: {epochs: 1}\n"
            "search: {method: grid, parameters: {lr: {from: 1, to: 2, steps: 30000}, "
            "clip: {from: 1, to: 2, steps: 30000}}}\n"
        ),
        "5: method: a grid of 9e8 points; at most 100,000",
    ),
    "search-by-a-formula": (
        (
            "sweep: a\ndata: {dataset: digits, validation: 0.1}\nmodel: {width: 16}\nbudget: {epochs: 1}\n"
            "search: {parameters: {lr: {values: [1e-3 / width]}}}\n"
        ),
        "5: lr: found '1e-3 / width'; a search tries numbers, not formulas",
    ),
    "cell-without-a-model": (
        "sweep: a\ndata: {dataset: digits}\nbudget: {epochs: 1}\ncells:\n  - train: {lr: 1e-2}\n",
        "5: 'width' is missing here and in 'model'",
    ),
    # what the data set, the model and the budget say about each other
    "budget-below-a-step": (
        with_budget("\n  flops:\n    - 1e9\n    - 1e3"),
        f"7: budget: 1e+03 FLOPs buy less than one step of B-2/Wi-16 at {STEP}",
    ),
    "epochs-below-a-step": (
        with_budget("{epochs: 0.001}"),
        f"4: epochs: 0.001 epochs buy less than one step of B-2/Wi-16 at {STEP}",
    ),
    "more-than-the-data": (
        with_data("{dataset: digits, dataset_size: [100, 5000]}"),
        "2: dataset_size: 5,000 examples asked, digits has 1,437",
    ),
    "no-model-name": (
        with_model("{name: [B-2/Wi-64, B2Wi64]}"),
        "3: name: 'B2Wi64' is no model name; write it like B-12/Wi-1024 or S-6/Wi-2048",
    ),
    "cooldown-without-wsd": (
        HEAD + "train: {cooldown: 0.1}\n",
        "5: cooldown does nothing here: it belongs to schedule wsd, found constant",
    ),
    "momentum-without-sgd": (
        HEAD + "train: {optimizer: adamw, momentum: 0.5}\n",
        "5: momentum does nothing here: it belongs to optimizer sgd or another that uses momentum, found adamw",
    ),
    "expansion-of-an-s-mlp": (
        with_model("{family: s-mlp, width: 16, expansion: 2}"),
        "3: expansion does nothing here: it belongs to family b-mlp or another that uses expansion, found s-mlp",
    ),
    "warmup-into-cooldown": (
        HEAD + "train: {schedule: wsd, warmup: 0.9, cooldown: 0.3}\n",
        "5: cooldown: 0.3 is not in (0, 1 - warmup]",
    ),
    "path-missing": (
        with_data("{dataset: mnits}"),
        (
            "2: dataset: unknown data set 'mnits'; did you mean 'mnist'? valid: cifar10, cifar100, digits, "
            "imagenet1k, imagenet21k, mnist, stl10, tinyimagenet, zipf, or module:name of a function that returns "
            "arrays; looked in data. Give a path, or register it: isoflop data add"
        ),
    ),
    "path-not-found": (
        with_data("{dataset: mnist, path: no-such.npz}"),
        "2: path: 'no-such.npz' not found; looked in ., data; set ISOFLOP_DATA to its folder",
    ),
    "path-of-an-embedded-set": (
        with_data("{dataset: digits, path: x}"),
        "2: path: digits is made by code and has no path; give the data set another name",
    ),
    "resolution-of-an-embedded-set": (
        with_data("{dataset: digits, resolution: 16}"),
        "2: resolution: digits has no resolution 16; write 8, or omit it",
    ),
    "augmented-tokens": (
        with_data("{dataset: zipf, augment: flip}"),
        "2: augment: zipf holds no images to flip; use none",
    ),
    "grid-beyond-reason": (
        with_model(f"{{width: {list(range(1, 101))}, depth: {list(range(1, 101))}}}") + "seeds: 100\n",
        (
            "1: the axes multiply to 1,000,000 runs; at most 20,000 cells and 100,000 runs are planned "
            "without --cells 200000"
        ),
    ),
    "cells-beyond-reason": (
        with_model("{width: {from: 1, to: 1000, step: 1}, depth: {from: 1, to: 999, step: 10}}"),
        (
            "1: the axes multiply to 100,000 cells; at most 20,000 cells and 100,000 runs are planned "
            "without --cells 100000"
        ),
    ),
    # what is no sweep file at all
    "tab": (
        "sweep: a\ndata:\n\tdataset: digits\n",
        "3: not YAML: the line begins with a tab; indent with spaces",
    ),
    "bracket-open": (
        "sweep: a\ndata: {dataset: digits\nmodel: {width: 16}\n",
        "3: not YAML: did not find expected ',' or '}'",
    ),
    "empty-file": ("", "1: the file is empty"),
    "only-a-comment": ("# header\n", "1: the file is empty"),
    "list-at-the-top": ("- sweep: a\n", f"1: a sweep file is a mapping of {SECTIONS}"),
    "two-documents": (HEAD + "---\nsweep: b\n", "5: not YAML: but found another document"),
    "tag": ("sweep: !mine a\n", "1: tags such as !mine are not supported"),
    "key-of-keys": ("? [a, b]\n: 1\n", "1: a key must be a string"),
    "deep": ("sweep:\n  " + "[" * 30 + "]" * 30, "2: nested deeper than 20 levels"),
    "so-deep-that-c-recursion-ends": ("sweep: " + "[" * 50_000 + "]" * 50_000, "1: nested deeper than 20 levels"),
    "anchor-in-itself": ("a: &a [*a]\n", "1: nested deeper than 20 levels"),
    "anchor-unknown": ("sweep: *a\n", "1: not YAML: found undefined alias"),
    "nul": ("sweep: a\x00b\n", "1: not YAML: unacceptable character #x0000: control characters are not allowed"),
}


@pytest.mark.parametrize(("text", "complaint"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_one_line_that_says_what_to_do(text, complaint):
    with pytest.raises(SweepError) as caught:
        plan(read_sweep(text, name="x.yaml"))
    assert caught.value.complaints == [f"x.yaml:{complaint}"]


def test_aliases_cannot_make_a_small_file_endless():
    bomb = "a: &a [1,1,1,1,1,1,1,1,1,1]\n"
    for before, name in zip("abcde", "bcdef", strict=True):
        bomb += f"{name}: &{name} [{','.join([f'*{before}'] * 10)}]\n"
    with pytest.raises(SweepError, match=r"x\.yaml:1: more than 100,000 values"):
        read_sweep(bomb, name="x.yaml")


def test_all_mistakes_of_a_file_come_at_once_in_the_order_of_its_lines():
    text = (
        "sweep: a b\n"
        "data: {dataset: digits, dataset_size: -5}\n"
        "model: {width: [16, x], depht: 2}\n"
        "train:\n"
        "  lr: 0\n"
        "  optimizer: adma\n"
        "budget: {epochs: []}\n"
        "limits: {hour: 2}\n"
    )
    with pytest.raises(SweepError) as caught:
        read_sweep(text, name="x.yaml")
    assert [int(line.split(":")[1]) for line in caught.value.complaints] == [1, 2, 3, 3, 5, 6, 7, 8]
    assert str(caught.value).splitlines() == caught.value.complaints


def test_all_that_does_not_fit_comes_at_once():
    text = (
        "sweep: a\n"
        "data: {dataset: digits, dataset_size: [100, 5000]}\n"
        "model: {name: [B-1/Wi-16, nonsense]}\n"
        "budget:\n"
        "  flops: [1e9, 10]\n"
    )
    with pytest.raises(SweepError) as caught:
        plan(read_sweep(text, name="x.yaml"))
    assert [int(line.split(":")[1]) for line in caught.value.complaints] == [2, 3, 5]


def test_a_file_is_named_as_it_was_asked_for(tmp_path):
    file = tmp_path / "näh'men #1.yaml"
    file.write_text(HEAD + "seed: 3\n")
    with pytest.raises(SweepError) as caught:
        load_sweep(file)
    assert str(caught.value) == f"{file}:5: unknown key 'seed'; did you mean 'seeds'?"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_a_file_from_any_editor_is_read(tmp_path, encoding, newline):
    file = tmp_path / "x.yaml"
    file.write_bytes((HEAD + "# größer\nseeds: [3, 5]\n").replace("\n", newline).encode(encoding))
    assert load_sweep(file).seed_list == [3, 5]


def test_a_file_of_megabytes_is_refused_unread(tmp_path):
    file = tmp_path / "x.yaml"
    file.write_bytes(HEAD.encode() + b"#" * (1 << 22))
    with pytest.raises(SweepError, match=r"x\.yaml:1: a sweep file has at most 1,048,576 bytes"):
        load_sweep(file)


def test_a_file_in_no_encoding_of_ours_is_still_told_its_mistakes(tmp_path):
    file = tmp_path / "x.yaml"
    file.write_bytes(HEAD.encode() + b"lr: gr\xf6\xdfer\n")
    with pytest.raises(SweepError, match="unknown key 'lr'; it belongs to 'train'"):
        load_sweep(file)


def test_a_file_that_is_not_there_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        load_sweep(tmp_path / "none.yaml")


def test_a_scalar_is_an_axis_of_one_value():
    assert read_sweep(HEAD).model.width == read_sweep(with_model("{width: [16]}")).model.width == [16]


def test_a_whole_number_may_be_written_as_a_power_of_ten():
    assert read_sweep(with_data("{dataset: digits, dataset_size: 1e3}")).data.dataset_size == [1000]
