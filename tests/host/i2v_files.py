"""Files of motion models with AnimateLCM-I2V's image encoder, for tests."""

from __future__ import annotations

from pathlib import Path

import torch
from pack.motion_models import checkpoint
from pack.motion_models.companions import IMAGE_ENCODER
from pack.motion_models.companions.image_encoder import ImageEncoder
from pack.motion_models.config import MotionModelConfig

from .test_official import seeds


def new_encoder(widths: tuple[int, ...]) -> ImageEncoder:
    return ImageEncoder({f"body.{2 * i + 1}.block1.bias": torch.zeros(width) for i, width in enumerate(widths)}, operations=torch.nn)


def make_file(path: Path, config: MotionModelConfig, weights: dict[str, torch.Tensor], is_official: bool = False) -> str:
    """A motion model with an encoder of random weights, or of those that the official network was seeded with."""
    encoder, generator = new_encoder(config.block_channels).state_dict(), torch.Generator().manual_seed(5)
    for name, tensor in encoder.items():
        if is_official:
            encoder[name] = seeds.seeded(f"img_encoder.{name}", tuple(tensor.shape))
        else:
            encoder[name] = torch.randn(tensor.shape, generator=generator) * tensor[0].numel() ** -0.5
    checkpoint.save(path, config, weights, companions={IMAGE_ENCODER: encoder})
    return str(path)
