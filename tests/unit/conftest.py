"""Small motion models, for tests without ComfyUI."""

from __future__ import annotations

import pytest
import torch
from pack.motion_models.config import Family, MotionModelConfig
from pack.motion_models.motion_model import MotionModel
from torch.nn import functional

TINY = {"block_channels": (32, 64, 128, 128), "layers_per_block": 2}


def sdpa(q, k, v, heads, transformer_options=None):
    b, f, c = q.shape
    q, k, v = (t.view(b, f, heads, c // heads).transpose(1, 2) for t in (q, k, v))
    return functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, f, c)


def make_motion_model(config: MotionModelConfig, seed: int = 0) -> MotionModel:
    torch.manual_seed(seed)
    model = MotionModel(config, operations=torch.nn, attention=sdpa)
    for name, parameter in model.named_parameters():
        # Norm weights around 1, all else small: no part of the network is without effect.
        torch.nn.init.normal_(parameter, mean=float("norm" in name and "weight" in name), std=0.1)
    return model.eval().requires_grad_(False)


@pytest.fixture(params=[Family.V1, Family.V2, Family.V3], ids=lambda family: family.name)
def config(request) -> MotionModelConfig:
    family = request.param
    return MotionModelConfig(
        family=family, has_mid_block=family is Family.V2, max_frames=24 if family is Family.V1 else 32, **TINY
    )
