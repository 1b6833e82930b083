from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.trainer.reference import resolved
from trainer.data.augment import PAD, augment


@pytest.fixture
def images():
    """256 images of 6 x 5 pixels and 3 channels, no pixel black."""
    drawn = np.random.default_rng(0).integers(1, 256, (256, 6, 5, 3), dtype=np.uint8)
    return torch.from_numpy(drawn)


def _crops(image):
    """Every crop of one image within its black border."""
    height, width, channels = image.shape
    padded = np.zeros((height + 2 * PAD, width + 2 * PAD, channels), np.uint8)
    padded[PAD : PAD + height, PAD : PAD + width] = image
    ends = range(2 * PAD + 1)
    return {padded[t : t + height, w : w + width].tobytes(): (t, w) for t in ends for w in ends}


def test_a_flip_mirrors_about_half_of_the_images_and_leaves_the_others(images):
    made = augment(images, resolved(augment="flip"), 3)
    mirrored = (made == images.flip(2)).flatten(1).all(1)
    kept = (made == images).flatten(1).all(1)
    assert (mirrored ^ kept).all()
    assert 0.4 < mirrored.double().mean() < 0.6


@pytest.mark.parametrize("kind", ["crop", "flip+crop"])
def test_a_crop_is_one_of_all_crops_and_every_offset_is_drawn(images, kind):
    made = augment(images, resolved(augment=kind), 3).numpy()
    offsets, mirrored = set(), 0
    for before, after in zip(images.numpy(), made, strict=True):
        crops = _crops(before)
        straight = after.tobytes() in crops
        found = after if straight else after[:, ::-1]
        offsets.add(crops[found.tobytes()])  # a KeyError where it is no crop
        mirrored += not straight
    assert {top for top, _ in offsets} == {left for _, left in offsets} == set(range(2 * PAD + 1))
    assert 100 < mirrored < 156 if kind == "flip+crop" else mirrored == 0


@pytest.mark.parametrize("kind", ["flip", "crop", "flip+crop"])
def test_what_is_drawn_is_a_function_of_seed_and_step(images, kind):
    spec, other = resolved(augment=kind, seed=1), resolved(augment=kind, seed=2)
    assert torch.equal(augment(images, spec, 5), augment(images, spec, 5))
    assert not torch.equal(augment(images, spec, 5), augment(images, spec, 6))
    assert not torch.equal(augment(images, spec, 5), augment(images, other, 5))


@pytest.mark.parametrize("kind", ["flip", "crop", "flip+crop"])
def test_the_images_handed_in_are_left_alone(images, kind):
    before = images.clone()
    augment(images, resolved(augment=kind), 0)
    assert torch.equal(images, before)
