"""The checkpoints of "Scaling MLPs" (PyTorch state dicts of `gregorbachmann/scaling_mlps`), read and written.

| ours (slot names) | theirs, B-MLP | theirs, S-MLP |
|---|---|---|
| `embed`, `head` | `linear_in`, `linear_out` | `linear_in`, `linear_out` |
| `block<b>.norm.gain`, `.bias` | `layernorms.<b>.weight`, `.bias` | `layernorms.<b>.weight`, `.bias` |
| `block<b>.expand`, `.contract` | `blocks.<b>.block.0`, `.2` | |
| `block<b>.linear` | | `layers.<b>` |

A linear weight is [in, out] here and [out, in] there. An image is flattened pixel by pixel here (H, W, C) and
colour by colour there (C, H, W), so the inputs of the embedding change places: `channels` says how many colours
there are. Their B-MLP with BatchNorm, or without a norm, is not ours and is refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from trainer.families import FAMILIES, family_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from trainer.cost import Shape

Weights = dict[str, torch.Tensor]


def load_official(path: Path, channels: int = 3) -> tuple[Shape, Weights]:
    """The shape of an official checkpoint and its parameters by slot name, fp32, on the CPU.

    Raises OSError where there is no such file, ValueError where it is no such checkpoint.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:
        raise ValueError(f"{path}: not a PyTorch state dict ({type(error).__name__})") from error
    try:
        return from_official(state, channels)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def save_official(path: Path, shape: Shape, weights: Weights, channels: int = 3) -> None:
    """Write parameters as the official code's `load_state_dict` takes them."""
    torch.save(to_official(shape, weights, channels), path)


def from_official(state: Any, channels: int = 3) -> tuple[Shape, Weights]:
    """Shape and parameters of an official state dict; ValueError where it is none."""
    if not isinstance(state, dict) or not all(map(torch.is_tensor, state.values())):
        raise ValueError("no state dict: names with tensors were expected")
    if not {"linear_in.weight", "linear_out.weight"} <= state.keys():
        raise ValueError("no state dict of the official models: it lacks linear_in or linear_out")
    shape = _shape_of(state)
    _check(state, shape)
    _check_channels(shape, channels)
    weights = {}
    family = family_of(shape.family)
    for slot in family.slots(shape):
        value = state[family.checkpoint_name(slot.name)].float()
        if slot.name == "embed.weight":
            value = value.reshape(shape.width, channels, -1).transpose(1, 2).flatten(1)
        weights[slot.name] = (value.T if value.ndim == 2 else value).contiguous()
    return shape, weights


def to_official(shape: Shape, weights: Weights, channels: int = 3) -> Weights:
    """The official state dict of parameters by slot name, the inverse of `from_official`.

    Raises ValueError where they are not of the shape, or its inputs no image of so many channels.
    """
    _check_channels(shape, channels)
    state = {}
    family = family_of(shape.family)
    for slot in family.slots(shape):
        value = weights[slot.name].detach().cpu()
        value = value.T if value.ndim == 2 else value
        if slot.name == "embed.weight":
            value = value.reshape(shape.width, -1, channels).transpose(1, 2).flatten(1)
        state[family.checkpoint_name(slot.name)] = value.contiguous()
    _check(state, shape)
    return state


def _shape_of(state: Mapping[str, torch.Tensor]) -> Shape:
    for name in FAMILIES.names():
        shape = family_of(name).shape_of_checkpoint(state)
        if shape is not None:
            return shape
    raise ValueError("no state dict of the official models")


def _check(state: Mapping[str, torch.Tensor], shape: Shape) -> None:
    family = family_of(shape.family)
    expected = {family.checkpoint_name(slot.name): slot.shape[::-1] for slot in family.slots(shape)}
    if strange := sorted(expected.keys() ^ state.keys()):
        more = f" and {len(strange) - 1} more" if len(strange) > 1 else ""
        found = "lacks" if strange[0] in expected else "has an unknown"
        raise ValueError(f"no {shape.family} of the official code: it {found} {strange[0]}{more}")
    for name, dims in expected.items():
        if tuple(state[name].shape) != dims:
            raise ValueError(f"{name} is {list(state[name].shape)}, expected {list(dims)}")


def _check_channels(shape: Shape, channels: int) -> None:
    if shape.inputs % channels:
        raise ValueError(f"{shape.inputs} inputs are no image of {channels} channels")
