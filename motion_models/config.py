"""What distinguishes one motion model from another, as data."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from .beta_schedules import LINEAR


class Family(Enum):
    """A released line of motion models. Sources of each trait: the release's inference yaml and model code.

    Attributes:
        title: name as users know it.
        beta_schedule: key into ``BETA_SCHEDULES``, the schedule the family was trained with.
        norm_over_frames: True where the UNet's resnets normalised over all frames of a clip in training
            (``use_inflated_groupnorm: false``); the spatial transformers' and the motion modules' own norms never do.
        trained_frames: frames in a training clip.
    """

    V1 = ("AnimateDiff v1", LINEAR, True, 16)
    V2 = ("AnimateDiff v2", LINEAR, False, 16)
    V3 = ("AnimateDiff v3", LINEAR, False, 16)

    def __init__(self, title: str, beta_schedule: str, norm_over_frames: bool, trained_frames: int):
        self.title = title
        self.beta_schedule = beta_schedule
        self.norm_over_frames = norm_over_frames
        self.trained_frames = trained_frames


@dataclass(frozen=True)
class MotionModelConfig:
    """Shape of a motion model.

    Attributes:
        family: its traits in use, see ``Family``.
        block_channels: width of each level of the UNet, outermost first; ``(320, 640, 1280, 1280)`` for SD1.5.
        layers_per_block: motion modules in each down block; an up block has one more.
        has_mid_block: whether there is a motion module in the UNet's middle block.
        max_frames: frames the file has positions for.
        num_heads: attention heads; 8 in every release.
    """

    family: Family
    block_channels: tuple[int, ...] = (320, 640, 1280, 1280)
    layers_per_block: int = 2
    has_mid_block: bool = False
    max_frames: int = 32
    num_heads: int = 8

    @property
    def base_model(self) -> str:
        """The kind of Stable Diffusion this motion model was made for, told by its widths."""
        return "SDXL" if self.block_channels == (320, 640, 1280) else "SD1.5"

    @property
    def down_channels(self) -> tuple[int, ...]:
        """Width of every down motion module, in the order of the UNet's input blocks."""
        return tuple(c for c in self.block_channels for _ in range(self.layers_per_block))

    @property
    def up_channels(self) -> tuple[int, ...]:
        """Width of every up motion module, in the order of the UNet's output blocks."""
        return tuple(c for c in reversed(self.block_channels) for _ in range(self.layers_per_block + 1))

    @property
    def mid_channels(self) -> tuple[int, ...]:
        """Width of the mid block's motion module, or nothing."""
        return self.block_channels[-1:] if self.has_mid_block else ()
