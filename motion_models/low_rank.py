"""What a LoRA adds to linear layers, merged into their weights or running beside them.

Beside them, ``y = W x + b + strength * scale * up(down(x))``, its strength may differ from token to token. Source: Hu et al.
2021, arXiv:2106.09685, equation 3.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn


@dataclass(frozen=True)
class LowRank:
    """What a LoRA adds to one weight ``(out, in)``: ``strength * scale * up @ down``.

    Attributes:
        down: ``(rank, in)``.
        up: ``(out, rank)``.
        alpha: kohya's; None where a file has none.
    """

    down: Tensor
    up: Tensor
    alpha: float | None = None

    @property
    def rank(self) -> int:
        return self.down.shape[0]

    @property
    def scale(self) -> float:
        """Of ``up @ down``."""
        return 1.0 if self.alpha is None else self.alpha / self.rank


class SideBranch(nn.Module):
    """What a LoRA adds beside one linear layer."""

    def __init__(self, layer: LowRank, *, operations: Any, dtype=None, device=None):
        super().__init__()
        self.scale = layer.scale
        made = {"bias": False, "dtype": dtype, "device": device}
        self.down = operations.Linear(layer.down.shape[1], layer.rank, **made)
        self.up = operations.Linear(layer.rank, layer.up.shape[0], **made)

    def forward(self, x: Tensor, strength: float | Tensor) -> Tensor:
        """Map ``... in`` to ``... out``; a ``strength`` of many values is ``... 1``."""
        return self.up(self.down(x) * (strength * self.scale))


class SideNetwork(nn.Module):
    """All side branches of one LoRA, in the order of their names.

    Args:
        layers: of the LoRA, by the names of the motion model's weights; for the shapes.
        operations: see ``MotionModel``.
        dtype: of the weights.
        device: of the weights.
    """

    def __init__(self, layers: Mapping[str, LowRank], *, operations: Any, dtype=None, device=None):
        super().__init__()
        self.weight_names = sorted(layers)
        self.branches = nn.ModuleList(
            SideBranch(layers[name], operations=operations, dtype=dtype, device=device) for name in self.weight_names
        )

    @staticmethod
    def weights(layers: Mapping[str, LowRank]) -> dict[str, Tensor]:
        """The state dict of a LoRA's ``SideNetwork``."""
        weights = {}
        for i, name in enumerate(sorted(layers)):
            weights[f"branches.{i}.down.weight"] = layers[name].down
            weights[f"branches.{i}.up.weight"] = layers[name].up
        return weights

    def beside(self, motion_model: nn.Module) -> dict[nn.Module, nn.Module]:
        """Pair each linear layer of a motion model that has a ``SideBranch`` with it."""
        layers = (motion_model.get_submodule(name.removesuffix(".weight")) for name in self.weight_names)
        return dict(zip(layers, self.branches, strict=True))


@dataclass(frozen=True)
class SideBranches:
    """The side branches of one LoRA, at one strength.

    Attributes:
        branches: a ``SideBranch`` each, by the linear layer that it belongs to.
        strength: a number, or one for each token.
    """

    branches: Mapping[nn.Module, nn.Module]
    strength: float | Tensor

    def with_strength(self, strength: float | Tensor) -> SideBranches:
        """The same branches at another strength."""
        return SideBranches(self.branches, strength)


def linear(layer: nn.Module, x: Tensor, side_branches: Sequence[SideBranches]) -> Tensor:
    """Run a linear layer and whatever runs beside it."""
    y = layer(x)
    for side in side_branches:
        branch = side.branches.get(layer)
        if branch is not None:
            y = y + branch(x, side.strength)
    return y
