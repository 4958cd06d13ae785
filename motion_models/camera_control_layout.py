"""CameraCtrl's files: an encoder of a camera's rays, and layers that merge its features into a motion model's attention.

Source: He et al. 2024, arXiv:2404.02101, and the layouts of the authors' file, in two tables, and of the pruned one, in one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from .errors import MotionModelError
from .recognise import check_positions, frames_of_tables

_TABLES = re.compile(r"^(?:(?:pose_encoder|attention_processor)_state_dict\.)?(?:module\.)?")
_RESNET = re.compile(r"^encoder_down_conv_blocks\.([0-9])\.([0-9])\.block1\.weight$")
_MERGE = re.compile(
    r"^(down|up)_blocks\.([0-9])\.motion_modules\.([0-9])\.temporal_transformer\.transformer_blocks\.0"
    r"\.attention_blocks\.0\.processor\.qkv_merge\.(weight|bias)$"
)
_POSITIONS = ".pos_encoder.pe"
_NORM_GROUPS = 32


@dataclass(frozen=True)
class CameraControlConfig:
    """Shape of a CameraCtrl."""

    block_channels: tuple[int, ...] = (320, 640, 1280, 1280)  # those of the motion models that it is for
    layers_per_block: int = 2  # motion modules in each of their down blocks
    resnets_per_level: int = 2  # of the encoder
    max_frames: int = 16  # for which the encoder has positions
    num_heads: int = 8

    base_model = "SD1.5"  # of every release
    title = "CameraCtrl"


class CameraControlWeights(NamedTuple):
    """A CameraCtrl's weights under its network's own names, as they are in the file."""

    config: CameraControlConfig
    weights: dict[str, Tensor]


def split_camera_control(tensors: Mapping[str, Tensor]) -> CameraControlWeights:
    """Bring a CameraCtrl of either layout to one; ``MotionModelError`` where it is no whole one."""
    named = {_TABLES.sub("", name): tensor for name, tensor in tensors.items() if not name.startswith("optimizer_state_dict.")}
    positions = {name: tensor for name, tensor in named.items() if name.endswith(_POSITIONS)}
    resnets = {(int(match[1]), int(match[2])): tensor for name, tensor in named.items() if (match := _RESNET.match(name))}
    merges = [match for match in map(_MERGE.match, named) if match]
    levels, depth = (1 + max((place[part] for place in resnets), default=-1) for part in (0, 1))
    layers = 1 + max((int(match[3]) for match in merges if match[1] == "down"), default=-1)
    if not resnets or not layers or len(resnets) != levels * depth or any(tensor.ndim != 4 for tensor in resnets.values()):
        raise MotionModelError("it does not hold a whole CameraCtrl. Download it again.")
    block_channels = tuple(len(resnets[level, 0]) for level in range(levels))
    if any(not width or width % _NORM_GROUPS for width in block_channels):
        raise MotionModelError(
            f"its levels are {block_channels} channels wide; expected multiples of {_NORM_GROUPS}. The file is damaged, or not "
            "what it seems."
        )
    max_frames = frames_of_tables(positions, block_channels) or CameraControlConfig.max_frames
    check_positions(positions)
    config = CameraControlConfig(block_channels, layers, depth, max_frames)
    return CameraControlWeights(config, {_own_name(name, layers): tensor for name, tensor in named.items() if name not in positions})


def _own_name(name: str, layers: int) -> str:
    match = _MERGE.match(name)
    if match is None:
        return name
    in_block = layers if match[1] == "down" else layers + 1
    return f"merges.{match[1]}.{int(match[2]) * in_block + int(match[3])}.{match[4]}"
