"""Networks that work with a motion model's modules, each kind a file here and a row of ``COMPANIONS``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

from torch import Tensor, nn

from ..config import Family, MotionModelConfig
from .image_encoder import ImageEncoder
from .image_input import ImageInput, is_image_input
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
    inner: str = ""  # what stands for the prefix in the network's own names
    families: Mapping[Family, Family] = field(default_factory=dict, hash=False)  # what a motion model that brings one is, by what else it would be
    is_one: Callable[[Mapping[str, Tensor]], bool] = bool  # whether weights of that prefix are one, whole or damaged


LORA = Companion("lora", "a motion LoRA", LoraNetwork)

IMAGE_INPUT = Companion(
    "image_input", "an input for an image", ImageInput, "conv_in.", "conv_in.", dict.fromkeys(Family, Family.PIA), is_image_input
)

IMAGE_ENCODER = Companion(
    "image_encoder", "an image encoder", ImageEncoder, "img_encoder.", families={Family.LCM: Family.LCM_I2V}
)

COMPANIONS: tuple[Companion, ...] = (LORA, IMAGE_INPUT, IMAGE_ENCODER)


def companions_in(tensors: Mapping[str, Tensor]) -> dict[Companion, dict[str, Tensor]]:
    """The companions that a motion model's file brings, with their weights under the network's own names."""
    found = {
        kind: {
            f"{kind.inner}{name.removeprefix(kind.prefix)}": tensor
            for name, tensor in tensors.items()
            if name.startswith(kind.prefix)
        }
        for kind in COMPANIONS
        if kind.prefix is not None
    }
    return {kind: weights for kind, weights in found.items() if weights and kind.is_one(weights)}


def with_family_of(companions: Iterable[Companion], config: MotionModelConfig) -> MotionModelConfig:
    """The config of a motion model that comes with these."""
    family = next((kind.families[config.family] for kind in companions if config.family in kind.families), None)
    return config if family is None else replace(config, family=family, trained_frames=0)
