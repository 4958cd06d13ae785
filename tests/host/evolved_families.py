"""Clips of families whose checkpoints are too big for tests on a server; for recording AnimateDiff-Evolved and for comparing."""

from __future__ import annotations

from pathlib import Path

import torch
from pack.motion_models.config import Family
from pack.motion_models.layouts import Layout, to_layout
from safetensors.torch import save_file

from .world import POOLED, cond, make_sdxl, motion_config, motion_weights, sample

FAMILIES = {"SDXL": (Family.SDXL, Layout.ANIMATEDIFF), "HotshotXL": (Family.HOTSHOT, Layout.HOTSHOT)}
WINDOW, OVERLAP, FRAMES = 4, 1, 6


def write_motion_model(name: str, folder: Path) -> Path:
    """Write the family's motion model in the layout in which it was published."""
    family, layout = FAMILIES[name]
    config = motion_config(family)
    path = folder / f"{name}.safetensors"
    save_file(to_layout(config, motion_weights(config), layout), path)
    return path


def base():
    return make_sdxl()


def clip(model) -> torch.Tensor:
    """Sample a clip; ``(FRAMES, 4, 8, 8)``."""
    positive, negative = (cond(seed, pooled_output=torch.full((1, POOLED), 0.1 * seed)) for seed in (1, 2))
    return sample(model, FRAMES, positive=positive, negative=negative)
