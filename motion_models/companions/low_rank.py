"""What a LoRA adds to linear layers, merged into their weights or run along with them.

Run along, ``y = W x + b + strength * scale * up(down(x))``, its strength may differ from token to token. Source: Hu et al.
2021, arXiv:2106.09685, equation 3.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn


@dataclass(frozen=True)
class LowRank:
    """What a LoRA adds to one weight ``(out, in)``: ``strength * scale * up @ down``."""

    down: Tensor  # (rank, in)
    up: Tensor  # (out, rank)
    alpha: float | None = None  # kohya's; None where a file has none

    @property
    def scale(self) -> float:
        return 1.0 if self.alpha is None else self.alpha / len(self.down)


class LoraBranch(nn.Module):
    """What a LoRA adds to one linear layer's output."""

    def __init__(self, layer: LowRank, *, operations: Any, dtype=None, device=None):
        super().__init__()
        self.scale = layer.scale
        options = {"bias": False, "dtype": dtype, "device": device}
        (rank, in_channels), out_channels = layer.down.shape, len(layer.up)
        self.down = operations.Linear(in_channels, rank, **options)
        self.up = operations.Linear(rank, out_channels, **options)

    def forward(self, x: Tensor, strength: float | Tensor) -> Tensor:
        """Map ``... in`` to ``... out``; a ``strength`` of many values is ``... 1``."""
        return self.up(self.down(x) * (strength * self.scale))


class LoraNetwork(nn.Module):
    """All branches of one LoRA, in the order of the names of the motion model's weights that ``layers`` are for."""

    def __init__(self, layers: Mapping[str, LowRank], **options: Any):
        super().__init__()
        self.weight_names = sorted(layers)
        self.branches = nn.ModuleList(LoraBranch(layers[name], **options) for name in self.weight_names)

    @staticmethod
    def weights(layers: Mapping[str, LowRank]) -> dict[str, Tensor]:
        """The network's state dict."""
        weights = {}
        for i, name in enumerate(sorted(layers)):
            weights[f"branches.{i}.down.weight"] = layers[name].down
            weights[f"branches.{i}.up.weight"] = layers[name].up
        return weights

    def by_layer(self, motion_model: nn.Module) -> dict[nn.Module, nn.Module]:
        """The branches, by the linear layer of a motion model that each belongs to."""
        layers = (motion_model.get_submodule(name.removesuffix(".weight")) for name in self.weight_names)
        return dict(zip(layers, self.branches, strict=True))


@dataclass(frozen=True)
class LoraBranches:
    """The branches of one LoRA, by linear layer, at a strength, which may be one for each token."""

    branches: Mapping[nn.Module, nn.Module]
    strength: float | Tensor


def linear(layer: nn.Module, x: Tensor, loras: Sequence[LoraBranches]) -> Tensor:
    """Run a linear layer with the branches that LoRAs have for it."""
    y = layer(x)
    for lora in loras:
        branch = lora.branches.get(layer)
        if branch is not None:
            y = y + branch(x, lora.strength)
    return y
