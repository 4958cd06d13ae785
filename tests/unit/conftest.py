"""Small motion models, for tests without ComfyUI."""

from __future__ import annotations

import copy
import functools

import pytest
import torch
from pack.motion_models.config import Family, MotionModelConfig
from pack.motion_models.motion_model import MotionModel
from torch.nn import functional


def tiny_config(family: Family) -> MotionModelConfig:
    """A config of the family's own shape, a tenth as wide."""
    has_three_levels = family in (Family.SDXL, Family.HOTSHOT)
    return MotionModelConfig(
        family,
        block_channels=(32, 64, 128) if has_three_levels else (32, 64, 128, 128),
        has_mid_block=family in (Family.V2, Family.LONG, Family.LCM),
        max_frames={Family.V1: 24, Family.HOTSHOT: 24, Family.LONG: 64, Family.LCM: 64}.get(family, 32),
    )


def sdpa(q, k, v, heads, transformer_options=None):
    b, f, c = q.shape
    q, k, v = (t.view(b, f, heads, c // heads).transpose(1, 2) for t in (q, k, v))
    return functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, f, c)


def make_motion_model(config: MotionModelConfig, seed: int = 0) -> MotionModel:
    return copy.deepcopy(_made_once(config, seed))


def random_weights(config: MotionModelConfig, seed: int = 0) -> dict[str, torch.Tensor]:
    """The weights of ``make_motion_model``, in a tenth of the time that copying its modules takes."""
    return {name: tensor.clone() for name, tensor in _made_once(config, seed).state_dict().items()}


@functools.cache
def _made_once(config: MotionModelConfig, seed: int) -> MotionModel:
    torch.manual_seed(seed)
    model = MotionModel(config, operations=torch.nn, attention=sdpa)
    for name, parameter in model.named_parameters():
        # Norm weights around 1, all else small: no part of the network is without effect.
        torch.nn.init.normal_(parameter, mean=float("norm" in name and "weight" in name), std=0.1)
    return model.eval().requires_grad_(False)


@pytest.fixture(params=[family for family in Family if not family.takes_image], ids=lambda family: family.name)
def config(request) -> MotionModelConfig:
    return tiny_config(request.param)
