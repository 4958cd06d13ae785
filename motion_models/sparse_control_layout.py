"""SparseCtrl's files: a ControlNet for a few of a clip's frames, with motion modules that take it to the others.

Source: Guo et al. 2023, arXiv:2311.16933, and the layout of the released files.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from .errors import MotionModelError, UnknownMotionModelFormat
from .layouts import motion_weights
from .recognise import check_positions, frames_of_tables

SCRIBBLE_WIDTHS = (16, 32, 96, 256)  # of the convolutions that a drawing goes through, each but the first of half the size
_EMBEDDING = "controlnet_cond_embedding"
_PREFIX = re.compile(rf"^(.*?){_EMBEDDING}\.(?:conv_in\.)?weight$")  # wrappings: `controlnet.`, `module.`
_WIDTH = re.compile(r"^down_blocks\.([0-9])\.resnets\.0\.conv2\.bias$")
_NORM_GROUPS = 32


@dataclass(frozen=True)
class SparseControlConfig:
    """Shape of a SparseCtrl; its ControlNet is SD1.5's."""

    takes_latents: bool  # of RGB images; else drawings, in pixels
    block_channels: tuple[int, ...] = (320, 640, 1280, 1280)
    context_channels: int = 768  # of the text encoder's tokens
    max_frames: int = 32  # for which the file has positions
    layers_per_block: int = 2
    num_heads: int = 8

    base_model = "SD1.5"  # of every release

    @property
    def down_channels(self) -> tuple[int, ...]:
        """Width of each layer in the down blocks that a motion module follows."""
        return tuple(channels for channels in self.block_channels for _ in range(self.layers_per_block))

    @property
    def title(self) -> str:
        return f"SparseCtrl for {'RGB images' if self.takes_latents else 'scribbles'}"

    @property
    def hint_channels(self) -> int:
        """Those of an image or its latent, and the mask that says where there is one."""
        return (4 if self.takes_latents else 3) + 1


class SparseControlWeights(NamedTuple):
    """A SparseCtrl's weights, as they are in the file: in diffusers' names of a ControlNet, and in those of motion modules."""

    config: SparseControlConfig
    spatial: dict[str, Tensor]
    temporal: dict[str, Tensor]


def split_sparse_control(tensors: Mapping[str, Tensor]) -> SparseControlWeights:
    """Take a SparseCtrl, in AnimateDiff's or diffusers' layout, apart; ``MotionModelError`` where a part has no known shape."""
    prefixes = [match[1] for match in map(_PREFIX.match, tensors) if match]
    if len(prefixes) != 1:
        raise UnknownMotionModelFormat(f"it holds {len(prefixes)} layers that take images, where a SparseCtrl has one.")
    named = {name.removeprefix(prefixes[0]): tensor for name, tensor in tensors.items() if name.startswith(prefixes[0])}
    _, temporal, positions = motion_weights(named)
    spatial = {name: tensor for name, tensor in named.items() if ".motion_modules." not in name}
    widths = {int(match[1]): len(tensor) for name, tensor in spatial.items() if (match := _WIDTH.match(name)) and tensor.ndim == 1}
    context = spatial.get("mid_block.attentions.0.transformer_blocks.0.attn2.to_k.weight")
    if sorted(widths) != list(range(len(widths))) or len(widths) < 2 or context is None or context.ndim != 2:
        raise MotionModelError("it does not hold a whole SparseCtrl. Download it again.")
    block_channels = tuple(widths[level] for level in range(len(widths)))
    if any(not width or width % _NORM_GROUPS or width % block_channels[0] for width in block_channels):
        raise MotionModelError(
            f"its blocks are {block_channels} channels wide; expected multiples of {_NORM_GROUPS} and of the first. "
            "The file is damaged, or not what it seems."
        )
    max_frames = frames_of_tables(positions, block_channels)
    check_positions(positions)
    config = SparseControlConfig(
        takes_latents=f"{_EMBEDDING}.weight" in spatial,
        block_channels=block_channels,
        context_channels=context.shape[1],
        max_frames=max_frames or SparseControlConfig.max_frames,
    )
    return SparseControlWeights(config, spatial, temporal)
