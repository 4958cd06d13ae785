"""What the training's host tests train on: a few clips of noise as latents, for the tiny UNet of ``world``."""

from __future__ import annotations

from pathlib import Path

import torch
from pack.motion_models.training.clips import FramesClip
from pack.motion_models.training.latent_clips import LatentClips, Text, write_latent_clips
from pack.motion_models.training.settings import TrainingSettings
from torch.nn import functional

from . import world

FRAMES, SIZE = 4, 8


def write_clips(
    folder: Path, count: int = 3, channels: int = 4, width: int = world.CONTEXT, frames: int = FRAMES, pooled: int = 0
) -> LatentClips:
    """Clips whose latents are of the size that SD1.5's VAE gives: about 5."""
    generator = torch.Generator().manual_seed(4)
    pictures = [torch.rand(frames, 3, SIZE * 8, SIZE * 8, generator=generator) for _ in range(count)]

    def encode_frames(pixels: torch.Tensor) -> torch.Tensor:
        small = functional.interpolate(pixels, size=(SIZE, SIZE))
        return (torch.cat([small] * 4, dim=1)[:, :channels] - 0.5) * 17

    def encode_text(text: str) -> Text:
        generator = torch.Generator().manual_seed(len(text))
        context = torch.randn(7, width, generator=generator)
        return (context, torch.randn(pooled, generator=generator)) if pooled else context

    clips = [FramesClip(f"clip {i}", "a" * i, frames) for i, frames in enumerate(pictures)]
    return write_latent_clips(folder, clips, encode_frames, encode_text, frames=frames, flip=False)


def settings(**changes) -> TrainingSettings:
    return TrainingSettings(**{"steps": 3, "batch_size": 2, "learning_rate": 1e-3, "text_dropout": 0.0, "dtype": "fp32", **changes})
