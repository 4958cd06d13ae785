"""Small parts of the temporal transformer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from .companions.low_rank import LoraBranches, linear


def sinusoidal_positions(positions: Tensor, channels: int) -> Tensor:
    """Encode frame positions ``(f,)``, counted from 0, as ``(f, c)`` in float32; c is even.

    ``pe[k, 2i] = sin(k * 10000^(-2i/channels))`` and ``pe[k, 2i+1] = cos`` of the same. Being a formula, it holds for
    positions between frames and beyond any stored table. Source: Vaswani et al. 2017, arXiv:1706.03762, section 3.5.
    """
    exponents = torch.arange(0, channels, 2, device=positions.device, dtype=torch.float32)
    frequencies = torch.exp(exponents * (-math.log(10000.0) / channels))
    angles = positions.to(torch.float32)[:, None] * frequencies
    return torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(1)  # sin and cos alternate along c


class GEGLU(nn.Module):
    """Gated linear unit with an exact GELU gate. Source: Shazeer 2020, arXiv:2002.05202."""

    def __init__(self, channels: int, inner_channels: int, *, operations: Any, dtype=None, device=None):
        super().__init__()
        self.proj = operations.Linear(channels, 2 * inner_channels, dtype=dtype, device=device)

    def forward(self, x: Tensor, loras: Sequence[LoraBranches]) -> Tensor:
        value, gate = linear(self.proj, x, loras).chunk(2, dim=-1)
        return value * functional.gelu(gate)


class FeedForward(nn.Module):
    """GEGLU and a projection back; ``net.1`` is the release's dropout slot, kept so that keys agree."""

    def __init__(self, channels: int, *, operations: Any, dtype=None, device=None):
        super().__init__()
        gate = GEGLU(channels, 4 * channels, operations=operations, dtype=dtype, device=device)
        back = operations.Linear(4 * channels, channels, dtype=dtype, device=device)
        self.net = nn.ModuleList([gate, nn.Identity(), back])

    def forward(self, x: Tensor, loras: Sequence[LoraBranches] = ()) -> Tensor:
        return linear(self.net[2], self.net[0](x, loras), loras)
