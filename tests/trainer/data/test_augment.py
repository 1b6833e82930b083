"""Flips, crops and MixUp against plain code, image by image; what is drawn, and that none of it needs the host."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.trainer.reference import resolved
from trainer.data.augment import on_cpu, transforms
from trainer.data.augment.draws import (
    BLOCK,
    PAD,
    RATIO,
    Draws,
    mixing_planes,
    placement_block,
    placement_planes,
    placements,
)

QUICK = settings(deadline=None, max_examples=40)
SHAPES = [(6, 5, 3), (8, 8, 1), (3, 9, 4)]
PLACED = [
    on_cpu.placed,
    transforms.placed,
    lambda source, rows, draws, image: on_cpu.Doubled(source, image).placed(rows, draws),
]


def images_of(shape, dtype=np.uint8, count=40, seed=0):
    """Flat images of this shape, no value 0."""
    drawn = np.random.default_rng(seed).integers(1, 256, (count, int(np.prod(shape))))
    return torch.from_numpy(drawn.astype(dtype))


def planes_of(augment, count):
    """Placement planes of so many images."""
    spec = resolved(augment=augment)
    drawn = torch.from_numpy(placement_block(spec, 3, (1, count))[0])
    return transforms.planes(placement_planes(spec), drawn.unbind())


def plainly_placed(image, flip=0, top=PAD, left=PAD):
    """An image, mirrored and cut, pixel by pixel."""
    image = image[:, ::-1] if flip else image
    out = np.zeros_like(image)
    height, width, _ = image.shape
    for h, w in np.ndindex(height, width):
        row, column = h + top - PAD, w + left - PAD
        if 0 <= row < height and 0 <= column < width:
            out[h, w] = image[row, column]
    return out


def plainly_resized(image, y, tall, x, wide):
    """A box of an image, scaled to its size, pixel by pixel."""
    height, width, _ = image.shape
    out = np.zeros(image.shape)
    for h, w in np.ndindex(height, width):
        row = min(max(y * height + (h + 0.5) * tall - 0.5, 0), height - 1)
        column = min(max(x * width + (w + 0.5) * wide - 0.5, 0), width - 1)
        up, left = int(row), int(column)
        down, right = min(up + 1, height - 1), min(left + 1, width - 1)
        upper = image[up, left] * (1 - column + left) + image[up, right] * (column - left)
        lower = image[down, left] * (1 - column + left) + image[down, right] * (column - left)
        out[h, w] = upper * (1 - row + up) + lower * (row - up)
    return out


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("augment", ["flip", "crop", "flip+crop"])
def test_flips_and_crops_are_those_of_plain_code(augment, dtype, shape):
    source, rows = images_of(shape, dtype), torch.arange(30).flip(0)
    planes = planes_of(augment, 30)
    drawn = [{name: int(plane[n]) for name, plane in planes.items()} for n in range(30)]
    pairs = zip(source[rows].numpy().reshape(30, *shape), drawn, strict=True)
    expected = np.stack([plainly_placed(image, **own) for image, own in pairs])
    before = source.clone()
    for placed in PLACED:
        made = placed(source, rows, planes, shape)
        assert made.dtype == source.dtype
        assert np.array_equal(made.numpy().reshape(30, *shape), expected)
    assert torch.equal(source, before)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("augment", ["resized-crop", "flip+resized-crop"])
def test_resized_crops_are_those_of_plain_code(augment, shape):
    source, planes = images_of(shape), planes_of(augment, 40)
    boxes = zip(*(planes[name].tolist() for name in ("y", "tall", "x", "wide")), strict=True)
    pairs = zip(source.numpy().reshape(-1, *shape), boxes, strict=True)
    expected = np.stack([plainly_resized(image, *box) for image, box in pairs])
    made = [on_cpu.resized(source, planes, shape).view(-1, *shape)]
    made += [transforms.resized(source, planes, shape, dtype) for dtype in (torch.float32, torch.float16)]
    for images, allowed in zip(made, (1e-3, 1e-3, 0.5), strict=True):  # of 255
        assert np.abs(images.float().numpy() - expected).max() < allowed


@pytest.mark.parametrize("chunk", [1, 7, 40])
def test_images_are_resized_in_parts_to_the_same_bits(chunk, monkeypatch):
    source, planes = images_of((6, 5, 3)), planes_of("flip+resized-crop", 40)
    whole = on_cpu.resized(source, planes, (6, 5, 3))
    monkeypatch.setattr(on_cpu, "CHUNK", chunk)
    assert torch.equal(on_cpu.resized(source, planes, (6, 5, 3)), whole)


def test_a_box_that_is_the_image_is_the_image():
    source = images_of((6, 5, 3))
    zeros, ones = torch.zeros(40), torch.ones(40)
    planes = {"y": zeros, "tall": ones, "x": zeros, "wide": ones}
    assert torch.equal(on_cpu.resized(source, planes, (6, 5, 3)), source.float())
    assert torch.equal(transforms.resized(source, planes, (6, 5, 3), torch.float32).flatten(1), source.float())
    mirrored = {**planes, "x": ones, "wide": -ones}
    flipped = on_cpu.placed(source, torch.arange(40), {"flip": ones.int()}, (6, 5, 3))
    assert torch.equal(on_cpu.resized(source, mirrored, (6, 5, 3)), flipped.float())


@QUICK
@given(shape=st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 4)), seed=st.integers(0, 99))
def test_two_flips_or_a_crop_at_the_middle_change_nothing(shape, seed):
    source, rows = images_of(shape, count=5, seed=seed), torch.arange(5)
    flip = {"flip": torch.tensor([0, 1, 1, 0, 1])}
    middle = {"top": torch.full((5,), PAD), "left": torch.full((5,), PAD)}
    for placed in PLACED:
        assert torch.equal(placed(placed(source, rows, flip, shape), rows, flip, shape), source)
        assert torch.equal(placed(source, rows, middle, shape), source)


def test_black_is_what_it_is_in_the_source():
    shape = (6, 5, 3)
    source, planes, rows = images_of(shape), planes_of("flip+crop", 40), torch.arange(40)
    mean, scale = torch.tensor([100.0, 120, 140]), torch.tensor([0.1, 0.2, 0.3])
    normalised = ((source.view(-1, 3) - mean) * scale).view(40, -1)
    expected = (transforms.placed(source, rows, planes, shape).view(-1, 3) - mean) * scale
    made = transforms.placed(normalised, rows, planes, shape, black_C=-mean * scale)
    assert torch.equal(made.view(-1, 3), expected)


# what is drawn


@pytest.mark.parametrize("augment", ["flip", "crop", "flip+crop"])
def test_flips_have_probability_a_half_and_every_offset_is_as_frequent(augment):
    drawn = placements(resolved(augment=augment), 0, (BLOCK, 500))
    assert set(drawn) == set(placement_planes(resolved(augment=augment)))
    if "flip" in drawn:
        assert drawn["flip"].mean() == pytest.approx(0.5, abs=0.02)
    if "top" in drawn:
        for plane in (drawn["top"], drawn["left"]):
            assert np.bincount(plane.ravel()) / plane.size == pytest.approx(np.full(2 * PAD + 1, 1 / 9), abs=0.01)
        assert abs(np.corrcoef(drawn["top"].ravel(), drawn["left"].ravel())[0, 1]) < 0.02


@pytest.mark.parametrize("augment", ["resized-crop", "flip+resized-crop"])
def test_boxes_have_the_areas_and_ratios_asked_and_lie_in_the_image(augment):
    drawn = placements(resolved(augment=augment, crop_scale=0.25), 0, (BLOCK, 500))
    wide, tall = np.abs(drawn["wide"]), drawn["tall"]
    left = np.minimum(drawn["x"], drawn["x"] + drawn["wide"])
    for start, length in ((left, wide), (drawn["y"], tall)):
        assert start.min() > -1e-6
        assert (start + length).max() < 1 + 1e-6
        inside = length < 0.99
        assert (start[inside] / (1 - length[inside])).mean() == pytest.approx(0.5, abs=0.01)
    small = np.maximum(wide, tall) < 1  # neither was cut to the image
    ratio, area = (wide / tall)[small], wide * tall
    assert RATIO[0] - 1e-3 < ratio.min() < RATIO[0] + 0.01
    assert RATIO[1] - 0.01 < ratio.max() < RATIO[1] + 1e-3
    assert 0.24 < area.min() < 0.26
    assert area.mean() == pytest.approx(0.61, abs=0.02)  # less than 0.625 by what is cut
    assert (drawn["wide"] < 0).mean() == pytest.approx(0.5 if "flip" in augment else 0, abs=0.02)


RECIPES = [
    {"augment": "flip"},
    {"augment": "flip+crop"},
    {"augment": "flip+resized-crop", "mixup": 0.8},
    {"mixup": 0.8, "mixup_per": "example"},
    {},
]


@QUICK
@given(at=st.integers(0, 300), steps=st.integers(1, 150), recipe=st.sampled_from(RECIPES))
def test_draws_are_functions_of_seed_and_step(at, steps, recipe):
    spec = replace(resolved(seed=1, **recipe), batch_size=5)
    block = Draws(spec).block(at, steps)
    assert block.shape == (steps, len(placement_planes(spec)) + len(mixing_planes(spec)), 5)
    again = Draws(spec)
    backwards = [again.block(at + j, 1)[0] for j in (steps - 1, 0)]
    assert np.array_equal(block[[-1, 0]], backwards)
    if recipe:
        other = Draws(replace(spec, seed=2)).block(at, steps)
        following = Draws(spec).block(at + 1, steps)
        for differing in (other, following) if block.size > 100 else ():
            assert not np.array_equal(block, differing)


def test_a_seeds_draws_are_the_same_in_every_version():
    spec = replace(resolved(seed=5, augment="flip+crop", mixup=0.8), batch_size=4)
    top, left, flip, partner, share = Draws(spec).block(70, 1)[0]
    assert [top.tolist(), left.tolist(), flip.tolist(), partner.tolist()] == [
        *([0, 7, 4, 7], [3, 4, 4, 5], [1, 0, 0, 1], [3, 0, 2, 1])
    ]
    assert share.view(np.float32) == pytest.approx([0.9213267] * 4, rel=1e-6)
