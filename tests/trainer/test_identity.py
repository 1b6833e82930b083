"""Identities that tables and checkpoints of earlier versions hold: only the numerics version changes them."""

from __future__ import annotations

import hashlib

import pytest

from trainer.spec import RunSpec, stack_key

RESOLVED = {"fingerprint": "f", "inputs": 64, "classes": 10, "steps": 100, "dataset_size": 360}
GOLDEN = [
    (
        {},
        "b97268bda61ca0f874246efca13754d0",
        "4bb7975265fa38f8a2dd250c4dbf607b",
        "2d929d00b74464ef72f9ac626e6f7a8a",
    ),
    (
        {"family": "s-mlp", "depth": 3, "expansion": 2},
        "76b14952f68caf1b89199eafd80c0172",
        "77bc282fbd34c3dd4223ac806f529fba",
        "624f70195301a8dc9e55910fac2ad27b",
    ),
    (
        {"expansion": 2, "activation": "relu", "dropout": 0.1},
        "783bf11122d5cdb265df882f25c7e633",
        "93cc39234c0f4c548bea2c46de60d43a",
        "ac7d0f610dc05f8c5b6f3fb4f2da9dfe",
    ),
    (
        {"optimizer": "sgd", "momentum": 0, "lr": 1},
        "0d4f68d56b46c73b2c44a36b6511bb2c",
        "d4d282939a907db865012cdcda2c2eeb",
        "493170f17279cda871d126bea7611088",
    ),
    (
        {"optimizer": "lion", "beta1": 0.95, "clip": 1},
        "e710b56e3c5765c41b52c82405d29402",
        "049bac45a30bcc245244b3070e30967b",
        "062efcda8640a4d414dc425faee58e1f",
    ),
    (
        {"beta2": 0.95, "weight_decay": 0.1, "seed": 3},
        "5faeb6d084623b8adb8424d624b5118b",
        "65b6f9c8a9091e1540bf862ce4f1c52e",
        "6b5bde91f5d6897f766d8db7a10efad5",
    ),
    (
        {"schedule": "wsd", "cooldown": 0.5, "warmup": 0.1, "label_smoothing": 0.3},
        "79f5be9306d860fdf4ac44faf7828915",
        "c4f60eec0e1d7a3bb7dc240b08d0d06f",
        "ad26e33de4fd4dc9e3b89025aa1489e8",
    ),
    (
        {"param": "mup", "base_width": 16, "lr_head": 2, "lr_embed": 0.5},
        "7d8edb5b5cb7680c130350ea50b90dec",
        "20271fa45e0b2e4add3297ebf751dcdd",
        "234c20f757a573349f3b9be3de3cad16",
    ),
    (
        {
            "augment": "flip+resized-crop",
            "crop_scale": 0.4,
            "mixup": 0.8,
            "mixup_per": "example",
            "tta": 3,
            "tta_average": "probabilities",
        },
        "76e56c9f974fc09ef3b105fac9ba294c",
        "a79ade8daba575398676ac33744ef393",
        "329e9d1f21b141bf1e333d6d0aa50b12",
    ),
    (
        {"dataset": "zipf", "zipf_alpha": 1, "zipf_tokens": 100, "path": "here", "loader": "mmap"},
        "0a62a3a060202b4da47a2b32bfc6d803",
        "98f12e7947b9ab95f72499581998215c",
        "490c7a251f8b18f529ee2e636e12c2fc",
    ),
    (
        {"validation": 0.2, "order": "quasi-random", "precision": "bf16", "accumulate": 2},
        "5208faef3954cb5370870dd365713963",
        "5999d8ce0c6a0cd604b65a6918e67988",
        "6fb593d3b2c15875f5e848e6ab3b1379",
    ),
    (
        {"parent": "p", "parent_cell": "c", "trains": "head", "stage": "probe", "start": "file", "resolution": 8},
        "4735cdd12945e359c0bc995ff31d6268",
        "eb15efa469863f9c74cb9d75cd557c19",
        "12a88d06d9870d7ec88a549ca8781ee6",
    ),
    (
        {"epochs": 2, "examples": 6400, "budget": 1000000000.0},
        "b97268bda61ca0f874246efca13754d0",
        "4bb7975265fa38f8a2dd250c4dbf607b",
        "2d929d00b74464ef72f9ac626e6f7a8a",
    ),
]
"""What a spec says, then its run_id, cell_id and trunk_id."""
STACK_KEYS = "982af5b1f257cb1f3b75ce691f7c9950283a98e4ab095123d8c017ae0521cc7e"
"""SHA-256 of the stack keys of GOLDEN's specs."""


@pytest.mark.parametrize(("values", "run_id", "cell_id", "trunk_id"), GOLDEN)
def test_ids_are_those_of_earlier_versions(values, run_id, cell_id, trunk_id, monkeypatch):
    monkeypatch.setattr("trainer.spec.NUMERICS", 1)
    spec = RunSpec(**RESOLVED | values)
    assert (spec.run_id, spec.cell_id, spec.trunk_id) == (run_id, cell_id, trunk_id)


def test_stack_keys_are_those_of_earlier_versions():
    keys = [stack_key(RunSpec(**RESOLVED | values)) for values, *_ in GOLDEN]
    assert hashlib.sha256(repr(keys).encode()).hexdigest() == STACK_KEYS
