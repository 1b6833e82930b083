"""Official checkpoints: the models of the paper's code, written once more from their state dicts' names."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.trainer.reference import forward, slots
from trainer.cost import Shape, params
from trainer.model.official import from_official, load_official, save_official, to_official

SIDE, CHANNELS, CLASSES = 4, 3, 7


class Inner(nn.Module):
    """What a block adds to its input; its linear layers are numbers 0 and 2 of `block`."""

    def __init__(self, width, hidden):
        super().__init__()
        self.block = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))


class OfficialB(nn.Module):
    def __init__(self, depth, width, expansion):
        super().__init__()
        self.linear_in = nn.Linear(CHANNELS * SIDE**2, width)
        self.blocks = nn.ModuleList(Inner(width, expansion * width) for _ in range(depth))
        self.layernorms = nn.ModuleList(nn.LayerNorm(width) for _ in range(depth))
        self.linear_out = nn.Linear(width, CLASSES)

    def forward(self, image_BCHW):
        z = self.linear_in(image_BCHW.flatten(1))
        for inner, norm in zip(self.blocks, self.layernorms, strict=True):
            z = z + inner.block(norm(z))
        return self.linear_out(z)


class OfficialS(nn.Module):
    def __init__(self, depth, width):
        super().__init__()
        self.linear_in = nn.Linear(CHANNELS * SIDE**2, width)
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(depth - 1))
        self.layernorms = nn.ModuleList(nn.LayerNorm(width) for _ in range(depth - 1))
        self.linear_out = nn.Linear(width, CLASSES)

    def forward(self, image_BCHW):
        z = self.linear_in(image_BCHW.flatten(1))
        for layer, norm in zip(self.layers, self.layernorms, strict=True):
            z = layer(nn.functional.gelu(norm(z)))
        return self.linear_out(z)


def official(shape):
    torch.manual_seed(0)
    bottlenecks = shape.family == "b-mlp"
    sizes = (shape.depth, shape.width)
    model = OfficialB(*sizes, shape.expansion) if bottlenecks else OfficialS(*sizes)
    with torch.no_grad():
        for norm in model.layernorms:  # not the ones and zeros at which norms start
            norm.weight.uniform_(0.5, 2)
            norm.bias.uniform_(-1, 1)
    return model.eval()


SHAPES = [
    Shape("b-mlp", depth, 16, CHANNELS * SIDE**2, CLASSES, expansion)
    for depth, expansion in ((1, 4), (3, 2), (12, 5))
] + [Shape("s-mlp", depth, 16, CHANNELS * SIDE**2, CLASSES) for depth in (1, 2, 11)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_our_forward_pass_is_theirs(shape):
    model = official(shape)
    found, weights = from_official(model.state_dict(), CHANNELS)
    assert found == shape
    assert {name: w.shape for name, w in weights.items()} == {slot.name: slot.shape for slot in slots(shape)}
    assert sum(w.numel() for w in weights.values()) == params(shape).total
    image_BHWC = torch.randn(5, SIDE, SIDE, CHANNELS)
    with torch.no_grad():
        theirs = model(image_BHWC.permute(0, 3, 1, 2))
        ours = forward({n: w[None] for n, w in weights.items()}, image_BHWC.flatten(1)[None], shape, "gelu")[0]
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_state_dict_survives_the_way_there_and_back(tmp_path, shape):
    model = official(shape)
    torch.save(model.state_dict(), tmp_path / "theirs")
    found, weights = load_official(tmp_path / "theirs", CHANNELS)
    save_official(tmp_path / "ours", found, weights, CHANNELS)
    state = torch.load(tmp_path / "ours", weights_only=True)
    assert state.keys() == model.state_dict().keys()
    assert all(torch.equal(state[name], value) for name, value in model.state_dict().items())
    official(shape).load_state_dict(state)  # strict: no name is missing or unknown


def test_half_precision_comes_as_fp32():
    state = {name: value.half() for name, value in official(SHAPES[0]).state_dict().items()}
    assert {value.dtype for value in from_official(state, CHANNELS)[1].values()} == {torch.float32}


def without(name):
    return lambda state: state.pop(name)


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (without("linear_in.weight"), "lacks linear_in or linear_out"),
        (without("blocks.1.block.2.bias"), "lacks blocks.1.block.2.bias"),
        (without("blocks.0.block.0.weight"), "lacks blocks.0.block.0.weight$"),
        (lambda s: s.update({"epoch": 3}), "names with tensors"),
        (lambda s: s.update({"layernorms.0.running_mean": torch.zeros(16)}), "unknown layernorms.0.running_mean"),
        (lambda s: s.update({"blocks.2.block.0.weight": torch.zeros(5, 16)}), r"is \[5, 16\], expected \[32, 16\]"),
    ],
)
def test_what_is_no_official_model_is_refused_with_the_reason(tmp_path, damage, complaint):
    state = official(SHAPES[1]).state_dict()
    damage(state)
    torch.save(state, tmp_path / "x")
    with pytest.raises(ValueError, match=complaint) as raised:
        load_official(tmp_path / "x", CHANNELS)
    assert str(raised.value).startswith(str(tmp_path / "x"))
    assert "\n" not in str(raised.value)


def test_a_file_that_would_run_code_or_is_none_is_refused(tmp_path):
    torch.save({"linear_in.weight": print}, tmp_path / "evil")
    (tmp_path / "text").write_text("hello")
    for name in ("evil", "text"):
        with pytest.raises(ValueError, match="not a PyTorch state dict"):
            load_official(tmp_path / name)
    with pytest.raises(OSError, match="No such file"):
        load_official(tmp_path / "nothing")


def test_another_number_of_channels_is_a_complaint():
    with pytest.raises(ValueError, match="48 inputs are no image of 5 channels"):
        from_official(official(SHAPES[0]).state_dict(), 5)
    with pytest.raises(ValueError, match="48 inputs are no image of 5 channels"):
        to_official(SHAPES[0], from_official(official(SHAPES[0]).state_dict(), 3)[1], 5)


def test_parameters_of_another_shape_are_not_written():
    _, weights = from_official(official(SHAPES[0]).state_dict(), CHANNELS)
    weights["head.weight"] = torch.zeros(16, 8)
    with pytest.raises(ValueError, match="linear_out"):
        to_official(SHAPES[0], weights, CHANNELS)
