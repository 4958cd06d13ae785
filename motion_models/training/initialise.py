"""Motion models to train: new ones, and copies of loaded ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from ..config import MotionModelConfig
from ..motion_model import MotionModel
from ..temporal_transformer import TemporalTransformer


def new_motion_model(config: MotionModelConfig, attention: Callable, seed: int = 0) -> MotionModel:
    """Make a motion model to train from scratch, in float32 on the CPU; its attention must have a gradient.

    Output projections are zero, so that it leaves every frame as it is and training starts from what the base can do
    already. Source: AnimateDiff's ``motion_module.py``, ``zero_initialize``.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        motion_model = _trainable(config, attention)
    for module in motion_model.modules():
        if isinstance(module, TemporalTransformer):
            nn.init.zeros_(module.proj_out.weight)
            nn.init.zeros_(module.proj_out.bias)
    return motion_model


def motion_model_to_continue(config: MotionModelConfig, weights: Mapping[str, Tensor], attention: Callable) -> MotionModel:
    """Make a copy of a motion model to train on, in float32 on the CPU, from weights of any dtype on any device."""
    motion_model = _trainable(config, attention)
    motion_model.load_state_dict({name: tensor.detach().to("cpu", torch.float32) for name, tensor in weights.items()})
    return motion_model


def _trainable(config: MotionModelConfig, attention: Callable) -> MotionModel:
    motion_model = MotionModel(config, operations=nn, attention=attention, dtype=torch.float32, device="cpu")
    return motion_model.train().requires_grad_(True)
