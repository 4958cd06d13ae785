"""AnimateLCM-I2V's image encoder: what an image adds to the UNet's features on the way down.

Source: Wang et al. 2024, arXiv:2402.00769, and the layout of ``AnimateLCM_sd15_i2v.ckpt``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

_LATENT_CHANNELS = 4
_BLOCKS_PER_LEVEL = 2


class EncoderBlock(nn.Module):
    """A residual block without norms; ``in_conv`` only where the width changes."""

    def __init__(self, in_channels: int, channels: int, *, operations: Any, dtype=None, device=None):
        super().__init__()
        options = {"dtype": dtype, "device": device}
        self.in_conv = operations.Conv2d(in_channels, channels, 1, **options) if in_channels != channels else None
        self.block1 = operations.Conv2d(channels, channels, 3, padding=1, **options)
        self.block2 = operations.Conv2d(channels, channels, 1, **options)

    def forward(self, x: Tensor) -> Tensor:
        if self.in_conv is not None:
            x = self.in_conv(x)
        return x + self.block2(functional.relu(self.block1(x)))


class ImageEncoder(nn.Module):
    """Features of images for each level of the UNet, outermost first, from their latents and the positions of their frames."""

    def __init__(self, weights: Mapping[str, Tensor], *, operations: Any, dtype=None, device=None):
        super().__init__()
        options = {"operations": operations, "dtype": dtype, "device": device}
        self.widths = _widths(weights)
        first = self.widths[0] if self.widths else 1
        self.conv_in = operations.Conv2d(_LATENT_CHANNELS, first, 3, padding=1, dtype=dtype, device=device)
        self.body = nn.ModuleList()
        for before, width in zip((first, *self.widths), self.widths, strict=False):
            self.body.append(EncoderBlock(before, width, **options))
            self.body.append(EncoderBlock(width, width, **options))

    def forward(self, images: Tensor, encoding: Tensor | None) -> list[Tensor]:
        """Map latents ``b f 4 h w`` and position encodings ``f c`` to features ``b f c h w`` of each level.

        Either f may be 1, for all frames; without an encoding all frames are at rest. Each level is half as large as the one
        before, rounded up.
        """
        x = self.conv_in(images.flatten(0, 1)).unflatten(0, images.shape[:2])
        if encoding is not None:
            x = x + encoding[:, :, None, None]
        shape, x = x.shape[:2], x.flatten(0, 1)
        features = []
        for level in range(len(self.widths)):
            if level:
                x = functional.avg_pool2d(x, 2, ceil_mode=True, count_include_pad=False)
            for block in self.body[_BLOCKS_PER_LEVEL * level : _BLOCKS_PER_LEVEL * (level + 1)]:
                x = block(x)
            features.append(x.unflatten(0, shape))
        return features


def _widths(weights: Mapping[str, Tensor]) -> tuple[int, ...]:
    """Channels of each level; of a damaged file, those of the levels up to the damage."""
    widths: list[int] = []
    while (last := weights.get(f"body.{_BLOCKS_PER_LEVEL * len(widths) + 1}.block1.bias")) is not None:
        widths.append(last.numel())
    return tuple(widths)
