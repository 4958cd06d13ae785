"""Networks that work with a motion model's modules, each kind a file here and a row of ``COMPANIONS``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from .low_rank import LoraNetwork


@dataclass(frozen=True)
class Companion:
    """A kind of network that works with a motion model's modules.

    ``network`` makes one of what its file holds: ``(given, operations=, dtype=, device=)``. What a motion model's file
    brings is a table of weights, which must be exactly the network's.
    """

    name: str  # tells it from other kinds
    title: str  # as users know it, with an article
    network: Callable[..., nn.Module]
    prefix: str | None = None  # of its keys in a motion model's file; None for a kind that has files of its own alone


LORA = Companion("lora", "a motion LoRA", LoraNetwork)

COMPANIONS: tuple[Companion, ...] = (LORA,)


def companions_in(tensors: Mapping[str, Tensor]) -> dict[Companion, dict[str, Tensor]]:
    """The companions that a motion model's file brings, with their weights under the network's own names."""
    found = {
        kind: {name.removeprefix(kind.prefix): tensor for name, tensor in tensors.items() if name.startswith(kind.prefix)}
        for kind in COMPANIONS
        if kind.prefix is not None
    }
    return {kind: weights for kind, weights in found.items() if weights}
