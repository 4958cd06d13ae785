"""PIA's input for an image: channels of the UNet's first convolution besides those of the noisy latent.

Source: Zhang et al. 2023, arXiv:2312.13964, section 3.2, and the layout of ``pia.ckpt``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

_CHANNELS = 9  # of the noisy latent, the similarity and the image's latent


class ImageInput(nn.Module):
    """What an image adds to the output of the UNet's first convolution.

    In the file that is a whole convolution. Its first planes, which are for the noisy latent, and its bias are not used: the
    model's own stay, as in PIA's pipeline.
    """

    def __init__(self, weights: Mapping[str, Tensor], *, operations: Any, dtype=None, device=None):
        super().__init__()
        width = len(weights["conv_in.weight"])
        self.conv_in = operations.Conv2d(_CHANNELS, width, 3, padding=1, dtype=dtype, device=device)

    def forward(self, similarity: Tensor, image: Tensor) -> Tensor:
        """Map similarity ``b 1 h w``, 1 for a frame that is the image, and the image's latent ``b 4 h w`` to ``b c h w``."""
        others = _CHANNELS - similarity.shape[1] - image.shape[1]
        x = torch.cat([similarity.new_zeros(len(similarity), others, *similarity.shape[2:]), similarity, image], dim=1)
        # Of a single pixel of zeros it gives its bias.
        return self.conv_in(x) - self.conv_in(x.new_zeros(1, _CHANNELS, 1, 1))


def is_image_input(weights: Mapping[str, Tensor]) -> bool:
    """Whether weights are PIA's convolution: that of a whole UNet in a file has as many channels as the noisy latent."""
    weight = weights.get("conv_in.weight")
    return weight is not None and weight.ndim == 4 and weight.shape[1] == _CHANNELS
