"""A motion model's weights times a number, as AnimateDiff-Evolved's Adjust Weight has them."""

from __future__ import annotations

import torch
from comfy.model_patcher import ModelPatcher

from ..types import KEY

_SCALE_KEY = f"{KEY}_weight_scale"


def scale_weights(motion_patcher: ModelPatcher, scale: float) -> ModelPatcher:
    """A clone of a motion model with all that its file stores, positions included, times ``scale``; what is added later is not."""
    if scale == 1.0:
        return motion_patcher
    motion_patcher = motion_patcher.clone()
    # As ComfyUI's merging nodes do: nothing is added, and the weights count ``scale`` times.
    motion_patcher.add_patches({name: (torch.zeros(()),) for name in motion_patcher.model.state_dict()}, 0.0, scale)
    if motion_patcher.model.config.family.stores_positions:  # whose files store no positions
        motion_patcher.set_attachments(_SCALE_KEY, scale)
    return motion_patcher


def position_scale_of(motion_patcher: ModelPatcher) -> float:
    return motion_patcher.get_attachment(_SCALE_KEY) or 1.0
