"""CameraCtrl: what a camera's rays, frame by frame, merge into a motion model's attention.

Source: He et al. 2024, arXiv:2404.02101, section 3; its encoder is T2I-Adapter's with attention over frames.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from .attention_inputs import AttentionInputs
from .camera_control_layout import CameraControlConfig
from .companions import Companion
from .companions.image_encoder import EncoderBlock
from .layers import sinusoidal_positions
from .motion_model import MotionModel, MotionModule
from .temporal_transformer import TemporalTransformerBlock
from .views import Views

PIXELS_PER_FEATURE = 8  # a side of what is one of the outermost features, as of a latent
_RAY_CHANNELS = 6  # moment and direction of a ray, its Plücker coordinates


class CameraControl(nn.Module):
    """The networks of a CameraCtrl's file. Names of the encoder are the file's."""

    def __init__(self, config: CameraControlConfig, *, operations: Any, attention: Callable, dtype=None, device=None):
        super().__init__()
        self.config = config
        options = {"operations": operations, "dtype": dtype, "device": device}
        widths = config.block_channels
        in_channels = _RAY_CHANNELS * PIXELS_PER_FEATURE**2
        self.encoder_conv_in = operations.Conv2d(in_channels, widths[0], 3, padding=1, dtype=dtype, device=device)

        def resnets(before: int, width: int) -> nn.ModuleList:
            return nn.ModuleList(EncoderBlock(width if number else before, width, **options) for number in range(config.resnets_per_level))

        def attentions(width: int) -> nn.ModuleList:
            block = {"attention": attention, "num_attentions": 1, **options}
            return nn.ModuleList(TemporalTransformerBlock(width, config.num_heads, **block) for _ in range(config.resnets_per_level))

        self.encoder_down_conv_blocks = nn.ModuleList(map(resnets, (widths[0], *widths), widths))
        self.encoder_down_attention_blocks = nn.ModuleList(map(attentions, widths))

        def merges(widths: tuple[int, ...], count: int) -> nn.ModuleList:
            each = (width for width in widths for _ in range(count))
            return nn.ModuleList(operations.Linear(width, width, dtype=dtype, device=device) for width in each)

        layers = config.layers_per_block
        self.merges = nn.ModuleDict({"down": merges(widths, layers), "up": merges(widths[::-1], layers + 1)})

    def forward(self, rays: Tensor, views: Views | None = None) -> list[Tensor]:
        """Map the rays ``f 6 h w`` of one clip's pixels, h and w multiples of 8, to features ``f c h w`` of each level.

        Frames see one another as ``views`` say, or all. A level is half as large as the one before, rounded down.
        """
        features: list[Tensor] = []
        seen = len(rays) if views is None else len(views.windows[0].frames)
        x = self.encoder_conv_in(functional.pixel_unshuffle(rays, PIXELS_PER_FEATURE))
        levels = zip(self.config.block_channels, self.encoder_down_conv_blocks, self.encoder_down_attention_blocks, strict=True)
        for channels, resnets, attentions in levels:
            if features and min(x.shape[-2:]) > 1:
                x = functional.avg_pool2d(x, 2)
            encoding = sinusoidal_positions(torch.arange(seen, device=x.device), channels).to(x.dtype)
            for resnet, attention in zip(resnets.children(), attentions.children(), strict=True):
                x = resnet(x)
                tokens = x.flatten(2).permute(2, 0, 1).contiguous()  # n f c
                x = attention(tokens, AttentionInputs(encoding, views=views)).permute(1, 2, 0).reshape(x.shape)
            features.append(x)
        return features

    def merge_layers(self, motion_model: MotionModel) -> dict[MotionModule, nn.Module]:
        """The layers that merge features, by the motion module that each is for; the mid block's has none."""
        modules = motion_model.modules_by_part
        return {module: layer for part, layers in self.merges.items() for module, layer in zip(modules[part], layers.children(), strict=True)}


CAMERA_CONTROL = Companion("camera_control", "a CameraCtrl", CameraControl)
